"""What a picture of bars says: figures as lengths and as text, and lines of notes, on light and on dark ground."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from bench.bars import Bar, Panel, render

SVG = "{http://www.w3.org/2000/svg}"
PANELS = [
    Panel("pods/s", [Bar("podsla", "100", 100.0, ours=True), Bar("others", "50", 50.0)]),
    Panel("ms", [Bar("podsla", "2, p99 8", 2.0, 8.0, ours=True), Bar("none", "0", 0.0)]),
]


def drawn() -> ElementTree.Element:
    return parse(render("Bars", PANELS, ["command: a & b <c>"]))


def parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314 - our own


def rectangles(root: ElementTree.Element) -> list[tuple[str, float]]:
    bars = (one for one in root.iter(f"{SVG}rect") if one.get("class") != "ground")
    return [(one.get("class", ""), float(one.get("width", ""))) for one in bars]


def test_bars_are_as_long_as_their_figures_and_the_longest_fills_each_panel() -> None:
    assert rectangles(drawn()) == [
        ("ours", 400.0),
        ("bar", 200.0),
        ("ours tail", 400.0),
        ("ours", 100.0),
    ]


def test_a_short_bar_is_seen_too() -> None:
    root = parse(render("Bars", [Panel("", [Bar("a", "", 1.0), Bar("b", "", 1e-6)])], []))

    assert rectangles(root) == [("bar", 400.0), ("bar", 1.0)]


def test_every_text_is_there_and_is_escaped() -> None:
    texts = [one.text for one in drawn().iter(f"{SVG}text")]

    assert texts == [
        "Bars",
        *("pods/s", "podsla", "100", "others", "50"),
        *("ms", "podsla", "2, p99 8", "none", "0"),
        "command: a & b <c>",
    ]


def test_nothing_lies_outside_the_picture_and_lines_do_not_meet() -> None:
    root = drawn()
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    places = [(float(one.get("x", "")), float(one.get("y", ""))) for one in root.iter(f"{SVG}text")]

    assert all(0 < x < width and 0 < y < height for x, y in places)
    lines = sorted({y for _, y in places})
    assert all(below - above >= 16 for above, below in pairwise(lines))


@pytest.mark.parametrize("kind", ["ground", "small", "bar", "ours"])
def test_each_colour_is_another_on_dark_ground(kind: str) -> None:
    style = drawn().findtext(f"{SVG}style") or ""
    light, found, dark = style.partition("@media (prefers-color-scheme: dark)")

    assert found
    colours = [part.partition(f".{kind} {{ fill: ")[2][:7] for part in (light, dark)]
    assert all(colour.startswith("#") for colour in colours)
    assert colours[0] != colours[1]

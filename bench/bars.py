"""Bars as a picture: panels of them → SVG, readable on light and on dark ground. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

_WIDTH: Final = 760
_LABEL: Final = 190  # left of the bars
_CHART: Final = 400
_BAR: Final = 18
_LINE: Final = 24
_STYLE: Final = """
.ground { fill: #ffffff; }
text { fill: #1f2328; }
.small { fill: #59636e; }
.bar { fill: #6e7781; }
.ours { fill: #0969da; }
.tail { fill-opacity: 0.4; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; }
  text { fill: #e6edf3; }
  .small { fill: #9198a1; }
  .bar { fill: #8b949e; }
  .ours { fill: #4493f8; }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """
    One figure.

    Attributes:
        name: Left of it.
        said: Right of it: the figure as text.
        value: How long it is.
        tail: Where a paler part of it ends, such as the 99th percentile; 0 where it has none.
        ours: Whether it is podsla's, and so in another colour.
    """

    name: str
    said: str
    value: float
    tail: float = 0.0
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars that are compared: in one unit, from 0, on a scale of their own."""

    title: str
    bars: Sequence[Bar]

    @property
    def longest(self) -> float:
        """What fills the width."""
        return max((max(bar.value, bar.tail) for bar in self.bars), default=0.0) or 1.0


def render(title: str, panels: Sequence[Panel], notes: Sequence[str]) -> str:
    """Draw panels below one another under a title; *notes* are lines of small text at the end."""
    root = Element("svg", xmlns="http://www.w3.org/2000/svg", width=str(_WIDTH), role="img")
    root.attrib |= {"font-family": "sans-serif", "font-size": "13"}
    SubElement(root, "title").text = title
    SubElement(root, "style").text = _STYLE
    SubElement(root, "rect", {"class": "ground", "width": "100%", "height": "100%"})
    y = _LINE
    _text(root, 8, y, title, weight="bold", size="16")
    for panel in panels:
        y += _LINE + 10
        _text(root, 8, y, panel.title, weight="bold")
        for bar in panel.bars:
            y += _LINE
            root.extend(_bar(bar, y, _CHART / panel.longest))
    y += 12
    for line in notes:
        y += 16
        _text(root, 8, y, line, kind="small", size="11")
    root.attrib |= {"height": str(y + 12), "viewBox": f"0 0 {_WIDTH} {y + 12}"}
    indent(root, "")
    return tostring(root, encoding="unicode") + "\n"


def _bar(bar: Bar, y: int, scale: float) -> Iterator[Element]:
    kind, top = "ours" if bar.ours else "bar", str(y - _BAR + 4)
    for end, name in ((bar.tail, f"{kind} tail"), (bar.value, kind)):
        if end:
            width = f"{max(end * scale, 1.0):.1f}"  # a short one is seen too
            yield Element("rect", {"class": name, "x": str(_LABEL), "y": top, "width": width, "height": str(_BAR)})
    yield _made(_LABEL - 8, y, bar.name, anchor="end")
    yield _made(_LABEL + max(bar.value, bar.tail) * scale + 6, y, bar.said)


def _text(root: Element, x: float, y: float, text: str, **look: str) -> None:
    root.append(_made(x, y, text, **look))


def _made(
    x: float, y: float, text: str, *, kind: str = "", weight: str = "", size: str = "", anchor: str = ""
) -> Element:
    look = {"class": kind, "font-weight": weight, "font-size": size, "text-anchor": anchor}
    made = Element("text", {"x": f"{x:.0f}", "y": f"{y:.0f}"} | {key: one for key, one in look.items() if one})
    made.text = text
    return made

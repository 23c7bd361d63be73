"""What is drawn of the bench's own JSON, beside a golden file (REGENERATE=1 writes it)."""

import json
import os
import re
from pathlib import Path

import pytest

from bench.cluster.__main__ import Report, as_json, is_missed
from bench.cluster.create import Row
from bench.cluster.peers import SIDE_BY_SIDE, Peers
from bench.cluster.plan import Figures
from bench.cluster.stand import ANOTHER, KYVERNO, NONE, OURS, POLICY
from bench.plot import draw, in_turn

GOLDEN = Path(__file__).parent / "golden"
FACTS = {"machine": "2 x Example CPU, Linux 6.18", "commit": "0123456", "kubernetes": "v1.37.0", "granian": "2.8.7"}
WEBHOOKS = [mode for mode in SIDE_BY_SIDE if mode not in (ANOTHER, POLICY, NONE)]


def row(scenario: str, mode: str, per_s: float) -> Row:
    return Row(scenario, mode, Figures(240, 0, 0, per_s, median_ms=1000 / per_s, p99_ms=3000 / per_s, longest_ms=99.0))


def peers(
    *, ours_per_s: float = 500.0, policy_per_s: float = 400.0, kyverno_mib: float = 150.0, start_s: float = 1.0
) -> Peers:
    """Every mode is slower than the one before it, but for podsla and the policy as given."""
    per_s = {mode: 320.0 - 40 * number for number, mode in enumerate(SIDE_BY_SIDE)}
    per_s |= {OURS: ours_per_s, POLICY: policy_per_s}
    return Peers(
        tuple(row("20/s, 2 rounds of 4 s", mode, per_s[mode]) for mode in SIDE_BY_SIDE),
        tuple(
            row("16 connections", mode, per_s[mode] + more)
            for more, modes in ((0, SIDE_BY_SIDE), (10, SIDE_BY_SIDE[::-1]))
            for mode in modes
        ),
        {**dict.fromkeys(WEBHOOKS, 100.0), KYVERNO: kyverno_mib},
        {mode: start_s + number for number, mode in enumerate(WEBHOOKS)},
    )


def test_peers_are_drawn_as_their_report_says() -> None:
    report = json.loads(json.dumps(as_json(Report("python -m bench.cluster --only peers", FACTS, peers=peers()))))
    expected = GOLDEN / "peers.svg"
    if os.environ.get("REGENERATE"):
        expected.write_text(draw(report))

    assert draw(report) == expected.read_text()


FIGURES = Path(__file__).parents[2] / "docs" / "figures"


@pytest.mark.parametrize("report", sorted(FIGURES.glob("*.json")), ids=lambda path: path.stem)
def test_what_the_docs_show_is_drawn_of_the_report_beside_it(report: Path) -> None:
    picture = report.with_suffix(".svg")

    assert picture.read_text() == draw(json.loads(report.read_text()))


def test_every_picture_that_the_readme_shows_is_there() -> None:
    linked = re.findall(r"\]\(docs/figures/([^)]+)\)", (FIGURES.parents[1] / "README.md").read_text())

    assert linked
    assert {*linked} <= {path.name for path in FIGURES.glob("*.svg")}


def test_of_reviews_those_are_drawn_that_were_measured_beside_others() -> None:
    rows = [
        {"what": "decision + patch, 10 sizes", "median": "96", "least": "90", "note": ""},
        {"what": "a second: podsla", "median": "1590", "least": "1500", "note": ""},
        {"what": "a second: podsla, each pod another", "median": "1006", "least": "900", "note": ""},
        {"what": "a second: constant", "median": "2187", "least": "2000", "note": ""},
        {"what": "look for holders: version 1", "median": "35", "least": "30", "note": ""},
    ]
    (panel,) = in_turn(rows)

    assert panel.title == "a second"
    assert [(bar.name, bar.said, bar.value, bar.ours) for bar in panel.bars] == [
        ("podsla", "1,590", 1590.0, True),
        ("podsla, each pod another", "1,006", 1006.0, True),
        ("constant", "2,187", 2187.0, False),
    ]


def test_a_report_without_comparisons_is_refused() -> None:
    with pytest.raises(ValueError, match="neither reviews"):
        draw({"command": "python -m bench --only idle", "facts": FACTS, "rows": []})


@pytest.mark.parametrize(
    ("found", "missed"),
    [
        pytest.param(peers(), [], id="faster and smaller than all"),
        pytest.param(
            peers(ours_per_s=150.0, policy_per_s=100.0), [f"pods/s beside {KYVERNO}"], id="as fast as Kyverno"
        ),
        pytest.param(peers(ours_per_s=400.0), [], id="as fast as the policy"),
        pytest.param(peers(ours_per_s=399.0), [f"pods/s beside {POLICY}"], id="slower than the policy"),
        pytest.param(peers(kyverno_mib=100.0), [f"MiB beside {KYVERNO}"], id="as large as Kyverno"),
        pytest.param(peers(start_s=2.1), ["s from start to ready"], id="a slow start"),
    ],
)
def test_the_bench_ends_with_1_where_a_bar_beside_others_is_missed(found: Peers, missed: list[str]) -> None:
    assert [name for name, *_, holds in found.bars if not holds] == missed
    assert is_missed(Report(peers=found)) == bool(missed)

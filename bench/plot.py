"""EDGE: `python -m bench.plot REPORT...`: draws what `python -m bench[.cluster] -o json` wrote, beside it."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from textwrap import wrap
from typing import Any, Final

import click

from bench.bars import Bar, Panel, render

OURS: Final = "podsla"
_LETTERS: Final = 120  # of a line of small text


def draw(report: Mapping[str, Any]) -> str:
    """
    Draw a report.

    Raises:
        ValueError: It has nothing that is drawn.
    """
    title, panels = ("Beside others, end to end", beside(report["peers"])) if "peers" in report else _process(report)
    if not panels:
        raise ValueError("it has neither reviews that were measured beside a constant answer, nor peers")
    first, rest = ("machine", "commit"), dict(report["facts"])
    said = [f"command: {report['command']}", *(f"{name}: {rest.pop(name)}" for name in first)]
    said.append(", ".join(f"{name} {text}" for name, text in rest.items()))
    return render(title, panels, [line for text in said for line in wrap(text, _LETTERS)])


def _process(report: Mapping[str, Any]) -> tuple[str, list[Panel]]:
    return "A review, beside a constant answer", in_turn(report.get("rows", ()))


def in_turn(rows: Sequence[Mapping[str, str]]) -> list[Panel]:
    """Make a panel of each group of rows "GROUP: MODE" in which podsla was measured beside others."""
    groups: dict[str, list[Bar]] = {}
    for row in rows:
        group, colon, mode = row["what"].partition(": ")
        if colon:
            bar = Bar(mode, f"{float(row['median']):,.0f}", float(row["median"]), ours=_is_ours(mode))
            groups.setdefault(group, []).append(bar)
    return [Panel(group, bars) for group, bars in groups.items() if {bar.ours for bar in bars} == {True, False}]


def _is_ours(mode: str) -> bool:
    return mode.split(",")[0] == OURS


def beside(peers: Mapping[str, Any]) -> list[Panel]:
    """Make panels of pods a second, of how long a pod takes, of memory and of how soon each is ready."""
    modes = [row["mode"] for row in peers["steady"]]
    steady = {row["mode"]: row["figures"] for row in peers["steady"]}
    most = {mode: [row["figures"]["per_s"] for row in peers["flat_out"] if row["mode"] == mode] for mode in modes}
    scenarios = [rows[0]["scenario"] for rows in (peers["flat_out"], peers["steady"])]

    def panel(title: str, figures: Mapping[str, Any], bar: Callable[[str, Any], Bar]) -> Panel:
        return Panel(title, [bar(mode, figures[mode]) for mode in modes if mode in figures])

    return [
        panel(f"pods/s: {scenarios[0]}, mean (and each run)", most, _runs),
        panel(f"ms until a pod is created, median and p99: {scenarios[1]}", steady, _times),
        panel("MiB of memory of its processes afterwards", peers["mib"], lambda mode, mib: _one(mode, mib, ".0f")),
        panel("s from start to ready", peers["start_s"], lambda mode, took_s: _one(mode, took_s, ".2f")),
    ]


def _runs(mode: str, runs: Sequence[float]) -> Bar:
    said = f"{mean(runs):.0f} ({', '.join(f'{one:.0f}' for one in runs)})"
    return Bar(mode, said, mean(runs), ours=_is_ours(mode))


def _times(mode: str, figures: Mapping[str, float]) -> Bar:
    median_ms, p99_ms = figures["median_ms"], figures["p99_ms"]
    return Bar(mode, f"{median_ms:.1f}, p99 {p99_ms:.1f}", median_ms, p99_ms, ours=_is_ours(mode))


def _one(mode: str, value: float, form: str) -> Bar:
    return Bar(mode, format(value, form), value, ours=_is_ours(mode))


@click.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(reports: Sequence[Path]) -> None:
    """Draw each REPORT.json as REPORT.svg."""
    for path in reports:
        try:
            path.with_suffix(".svg").write_text(draw(json.loads(path.read_text())))
        except (ValueError, KeyError) as error:
            raise click.ClickException(f"{path} is no report that is drawn: {error}") from None


if __name__ == "__main__":
    main()

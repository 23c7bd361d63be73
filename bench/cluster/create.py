"""EDGE: the scenarios that create pods."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.cluster.load import back_to_back, clear, create_pods, stored
from bench.cluster.plan import Created, Figures, evenly, failures, figures, rollout, rounds
from bench.cluster.stand import ANOTHER, CONSTANT, MODES, NONE, OURS, Stand, pods_of
from podsla.output import note

SEED: Final = 20261124
RATE_PER_S: Final = 20
BUSIEST_PER_S: Final = 433
CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Row:
    """What one scenario came to; *said* is what failures said."""

    scenario: str
    mode: str
    figures: Figures
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """
    Rounds at 20 pods/s.

    Attributes:
        ratio: Our median over the constant's, of all pods.
        ratios: The same, round by round.
        another: The same of all pods, where each is of a workload that nobody has seen before.
    """

    rows: tuple[Row, ...]
    ratio: float
    ratios: tuple[float, ...]
    another: float


def burst(
    stand: Stand, scenario: str, mode: str, due_s: Iterable[float], connections: int
) -> tuple[Row, list[Created]]:
    """Create pods, count what is stored, and clear it away."""
    namespace, _, domain = MODES[mode]
    made = create_pods(stand.server, namespace, pods_of(mode), due_s, connections, domain)
    seen = stored(stand.api, namespace, domain)
    found, mutated = figures(made, mutated=mode != NONE), mode != NONE
    said = failures(made)
    if seen.pods != found.pods:
        said.append(f"{found.pods} were answered as created, and {seen.pods} are stored")
    if mutated and seen.unmutated != found.unmutated:
        said.append(f"{found.unmutated} were answered without a size, and {seen.unmutated} are stored without")
    clear(stand.api, namespace)
    return Row(scenario, mode, found, tuple(said)), made


def latency(stand: Stand, count: int, for_s: float) -> Latency:
    """Rounds of 20 pods/s beside a constant answer, and how the medians compare."""
    made = in_turn(stand, (OURS, ANOTHER, CONSTANT, NONE), count, for_s)
    rows = pooled(made, count, for_s)
    by_mode = {row.mode: row.figures.median_ms for row in rows}
    pairs = zip(made[OURS].made, made[CONSTANT].made, strict=True)
    ratio, another = (by_mode[mode] / by_mode[CONSTANT] for mode in (OURS, ANOTHER))
    return Latency(rows, ratio, tuple(_median_ms(a) / _median_ms(b) for a, b in pairs), another)


@dataclass(frozen=True, slots=True)
class Turns:
    """What one mode came to: its pods, round by round, and what failures said."""

    made: list[list[Created]]
    said: list[str]


def in_turn(stand: Stand, modes: Sequence[str], count: int, for_s: float) -> dict[str, Turns]:
    """Rounds of 20 pods/s, every mode in every round; a first round, of which nothing is kept, warms all up."""
    made = {mode: Turns([], []) for mode in modes}
    for number, order in enumerate(rounds(modes, count + 1, SEED)):
        note(f"round {number} of {count}: {', '.join(order)}", style="dim")
        for mode in order:
            seconds = for_s if number else 2.0
            row, some = burst(stand, "", mode, evenly(round(RATE_PER_S * seconds), seconds), 8)
            if number:
                made[mode].made.append(some)
                made[mode].said.extend(row.said)
    return made


def pooled(made: Mapping[str, Turns], count: int, for_s: float) -> tuple[Row, ...]:
    """A row for each mode."""
    name = f"{RATE_PER_S}/s, {count} rounds of {for_s:g} s"
    return tuple(Row(name, mode, _pooled(turns.made, mode), tuple(turns.said)) for mode, turns in made.items())


def _pooled(made: list[list[Created]], mode: str) -> Figures:
    return figures([one for some in made for one in some], mutated=mode != NONE, runs=len(made))


def _median_ms(made: list[Created]) -> float:
    return figures(made, mutated=False).median_ms


def bursts(stand: Stand, minutes: int) -> list[Row]:
    """A rollout's minute, then 1,000 pods a minute."""
    scenarios: tuple[tuple[str, Callable[[], Iterable[float]]], ...] = (
        ("179 in a minute, 84 of them at once", rollout),
        (f"1,000 a minute for {minutes} min", lambda: evenly(1000 * minutes, 60.0 * minutes)),
    )
    rows = []
    for name, due_s in scenarios:
        note(name, style="dim")
        rows.append(burst(stand, name, OURS, due_s(), CONNECTIONS)[0])
    return rows


def busiest(stand: Stand, flat_out_s: float, for_s: float) -> list[Row]:
    """What the API server can take in each mode, then 433/s, or what it took without a webhook if that is less."""
    rows = flat_out(stand, (NONE, CONSTANT, OURS), flat_out_s)
    alone = sum(row.figures.per_s for row in rows if row.mode == NONE) / 2
    rate = min(BUSIEST_PER_S, int(alone))
    name = f"{rate}/s asked for {for_s:g} s, over {CONNECTIONS} connections"
    note(name, style="dim")
    return [*rows, burst(stand, name, OURS, evenly(round(rate * for_s), for_s), CONNECTIONS)[0]]


def flat_out(stand: Stand, modes: Sequence[str], for_s: float) -> list[Row]:
    """As many pods as the API server takes in each mode, one after the other, there and back."""
    rows = []
    for mode in (*modes, *reversed(modes)):
        name = f"16 connections, back to back for {for_s:g} s"
        note(f"{name}: {mode}", style="dim")
        rows.append(burst(stand, name, mode, back_to_back(for_s), 16)[0])
    return rows

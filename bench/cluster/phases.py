"""
Phases of real pods that need a GPU, from a trace of a day: when each asks and gives back, and what that can save. Pure
but for `read_trace`.

A sample says how busy a pod's GPU was for `STEP_S`; a phase is a run of samples above zero. A pod that holds on for a
while gives its GPU back only once so many samples in a row were zero.
"""

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STEP_S: Final = 57.0
HOUR: Final = 63  # samples
TRACE: Final = Path("traces") / "genai-2026-gpu-duty-cycle.csv.gz"
PUBLISHED_HELD: Final = 0.41  # of static, over the whole day, by holding on for a minute


@dataclass(frozen=True, slots=True)
class Span:
    """Samples from *begin* on, until before *end*."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Phases:
    """
    One pod's hour.

    Attributes:
        samples: How many the hour has.
        busy: Its phases.
        held: When it holds a GPU, where that costs no time.
    """

    samples: int
    busy: tuple[Span, ...]
    held: tuple[Span, ...]


def read_trace(folder: Path) -> dict[str, list[float]]:
    """Read the busy share of each pod's GPU in %, in order of time, from the folder of public data."""
    rows: dict[str, list[tuple[float, float]]] = {}
    with gzip.open(folder / TRACE, "rt", newline="") as stream:
        for row in csv.DictReader(stream):
            rows.setdefault(row["container_ip"], []).append((float(row["timestamp_anon"]), float(row["value"])))
    return {pod: [value for _, value in sorted(samples)] for pod, samples in sorted(rows.items())}


def hours(trace: Mapping[str, Sequence[float]], hold: int) -> tuple[Phases, ...]:
    """
    Give each pod an hour of its own day, the hours in turn, so that all of them together are as the day is.

    Of all hours with which the first pod may begin, the one is taken whose bound is nearest to that of the whole day.
    """
    day = share_held([phases(samples, hold) for samples in trace.values()])
    most = max(len(samples) // HOUR for samples in trace.values())
    turns = (_hours(trace, hold, first) for first in range(most))
    return min(turns, key=lambda pods: abs(share_held(pods) - day))


def _hours(trace: Mapping[str, Sequence[float]], hold: int, first: int) -> tuple[Phases, ...]:
    found = []
    for number, samples in enumerate(trace.values(), first):
        at = number % max(1, len(samples) // HOUR) * HOUR
        found.append(phases(samples[at : at + HOUR], hold))
    return tuple(found)


def phases(samples: Sequence[float], hold: int) -> Phases:
    """
    Find phases, and when a GPU is held that is given back after *hold* samples of rest.

    One that is still busy, or at rest for less, is given back at the end.
    """
    busy = _runs(samples)
    held: list[Span] = []
    for span in busy:
        end = min(span.end + hold, len(samples))
        if held and span.begin <= held[-1].end:
            held[-1] = Span(held[-1].begin, end)
        else:
            held.append(Span(span.begin, end))
    return Phases(len(samples), tuple(busy), tuple(held))


def _runs(samples: Sequence[float]) -> list[Span]:
    found: list[Span] = []
    for at, value in enumerate(samples):
        if value <= 0:
            continue
        if found and found[-1].end == at:
            found[-1] = Span(found[-1].begin, at + 1)
        else:
            found.append(Span(at, at + 1))
    return found


def total(spans: Sequence[Span]) -> int:
    """Count the samples of spans."""
    return sum(span.end - span.begin for span in spans)


def share_held(pods: Sequence[Phases]) -> float:
    """Say what part of all time a GPU is held, where attach and release cost no time: the bound."""
    return sum(total(pod.held) for pod in pods) / sum(pod.samples for pod in pods)


def share_busy(pods: Sequence[Phases]) -> float:
    """Say what part of all time a GPU is used."""
    return sum(total(pod.busy) for pod in pods) / sum(pod.samples for pod in pods)


@dataclass(frozen=True, slots=True)
class Due:
    """
    What a pod does at a moment: it asks, or gives back.

    Attributes:
        at_s: Since the hour began, by the clock of the replay.
        pod: Its number.
        phase: The number of the span that it holds a GPU for.
    """

    at_s: float
    pod: int
    phase: int
    gives_back: bool


def script(pods: Sequence[Phases], speed: float) -> list[Due]:
    """List who asks and gives back when, in order, where the hour goes by *speed* times as fast."""
    step_s = STEP_S / speed
    found = [
        Due(at * step_s, number, phase, gives_back)
        for number, pod in enumerate(pods)
        for phase, span in enumerate(pod.held)
        for at, gives_back in ((span.begin, False), (span.end, True))
    ]
    return sorted(found, key=lambda due: (due.at_s, due.pod, due.phase))


def overlap_s(spans_s: Sequence[tuple[float, float]], others_s: Sequence[tuple[float, float]]) -> float:
    """Say for how long both are so; neither has spans that overlap one another."""
    both = ((max(a, c), min(b, d)) for a, b in spans_s for c, d in others_s)
    return sum(max(0.0, end - begin) for begin, end in both)

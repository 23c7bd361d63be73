"""When pods are due, and what their creation shows. Pure: no clock, no network."""

import json
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catalog.keys import DOMAIN, RECORD, SIZE


@dataclass(frozen=True, slots=True)
class Created:
    """
    One attempt to create a pod; times in seconds since the first pod was due.

    Attributes:
        status: The HTTP status; 0 where no answer came.
        sized: Whether the answered pod carries a size, and a record of it.
        message: What a failure said.
    """

    due_s: float
    sent_s: float
    done_s: float
    status: int
    sized: bool
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether there is no such pod."""
        return self.status != 201

    @property
    def latency_s(self) -> float:
        """From the moment it was due: that all connections were busy is no excuse."""
        return self.done_s - self.due_s


@dataclass(frozen=True, slots=True)
class Figures:
    """What many creations show; latencies in milliseconds, of the pods that were created."""

    pods: int
    failed: int
    unmutated: int
    per_s: float
    median_ms: float
    p99_ms: float
    longest_ms: float


def evenly(count: int, over_s: float) -> tuple[float, ...]:
    """Spread *count* pods over *over_s* seconds."""
    return tuple(n * over_s / count for n in range(count))


def rollout() -> tuple[float, ...]:
    """A minute of 179 pods, 84 of them due at the same moment: more than 84 in one second can be."""
    return tuple(sorted((*evenly(179 - 84, 60.0), *[30.0] * 84)))


def rounds(modes: Sequence[str], count: int, seed: int) -> list[list[str]]:
    """Every mode once a round, in another order each round, the same for the same seed."""
    shuffle = random.Random(seed)  # noqa: S311 - an order, no secret
    return [shuffle.sample(modes, len(modes)) for _ in range(count)]


def is_sized(pod: Mapping[str, Any], domain: str = DOMAIN) -> bool:
    """Whether a pod carries a size, and a record that names the same one; both with keys of this domain."""
    metadata = pod["metadata"]
    size = (metadata.get("labels") or {}).get(SIZE.replace(DOMAIN, domain))
    record = (metadata.get("annotations") or {}).get(RECORD.replace(DOMAIN, domain)) or "{}"
    return bool(size) and json.loads(record).get("size") == size


def figures(made: Sequence[Created], *, mutated: bool, runs: int = 1) -> Figures:
    """
    Sum up.

    Args:
        mutated: Whether every pod must have a size.
        runs: How many runs, one after the other, are summed up.
    """
    done = [one for one in made if not one.failed]
    late_ms = sorted(one.latency_s * 1e3 for one in done) or [0.0]
    took_s = max((one.done_s for one in made), default=0.0)
    return Figures(
        pods=len(done),
        failed=len(made) - len(done),
        unmutated=sum(not one.sized for one in done) if mutated else 0,
        per_s=len(done) / took_s / runs if took_s else 0.0,
        median_ms=statistics.median(late_ms),
        p99_ms=percentile(late_ms, 99),
        longest_ms=late_ms[-1],
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile of ordered figures."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def failures(made: Iterable[Created]) -> list[str]:
    """What failures said, each once."""
    return sorted({f"{one.status}: {one.message}" for one in made if one.failed})

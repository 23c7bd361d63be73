"""What a soak saw, in words. Pure."""

from collections.abc import Iterator

from bench.cluster.plan import Created, figures
from tests.soak.soak import Span, Told


def lines(told: Told) -> Iterator[str]:
    """Say for each event what it cost, and then what must never be."""
    sums = figures(told.made, mutated=True)
    yield f"{len(told.made)} pods asked for, {sums.pods} created"
    yield f"median {sums.median_ms:.0f} ms, p99 {sums.p99_ms:.0f} ms"
    for span in told.spans:
        lost = [one for one in told.made if one.failed and span.holds(one)]
        window = f", within {_window_s(span, lost):.1f} s" if lost else ""
        why = " (the API server or etcd was not there)" if lost and span.event.api_down else ""
        yield f"{span.began_s:6.0f}-{span.ended_s:.0f} s  {span.event.name}: {len(lost)} failed{window}{why}"
    yield f"failed in planned events: {len(told.failed(planned=True))}"
    for message in sorted({one.message for one in told.failed(planned=True)}):
        yield f"  {message}"
    yield f"failed when a replica was killed: {len(told.failed(planned=False))}"
    yield f"created without a size: {told.unmutated}"
    yield f"decided by an unpublished catalogue: {len(told.unpublished)} of {len(told.revisions)} revisions"
    yield from (f"grew: {each}" for each in told.grew)
    yield from (f"not healed: {each}" for each in told.wrong)


def _window_s(span: Span, lost: list[Created]) -> float:
    return max(one.done_s for one in lost) - min(one.sent_s for one in lost)

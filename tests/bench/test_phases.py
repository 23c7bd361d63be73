"""When pods of a trace hold a GPU, and what that comes to."""

from pathlib import Path

import pytest

from bench.cluster.phases import (
    HOUR,
    Due,
    Phases,
    Span,
    hours,
    overlap_s,
    phases,
    read_trace,
    script,
    share_busy,
    share_held,
    total,
)


@pytest.mark.parametrize(
    ("samples", "hold", "held"),
    [
        pytest.param([0, 0], 1, [], id="never busy"),
        pytest.param([0, 5, 5, 0, 0, 0], 0, [(1, 3)], id="given back at once"),
        pytest.param([0, 5, 5, 0, 0, 0], 1, [(1, 4)], id="a sample of rest"),
        pytest.param([5, 0, 5, 0, 0], 1, [(0, 4)], id="kept over a short rest"),
        pytest.param([5, 0, 0, 5, 0], 1, [(0, 2), (3, 5)], id="asked for again"),
        pytest.param([5, 0, 0, 5], 2, [(0, 4)], id="and until the end"),
    ],
)
def test_when_a_gpu_is_held(samples: list[float], hold: int, held: list[tuple[int, int]]) -> None:
    assert [(span.begin, span.end) for span in phases(samples, hold).held] == held


def test_what_is_busy_is_held_and_a_longer_hold_holds_no_less() -> None:
    samples = [float(n * n % 7 > 3) for n in range(60)]
    found = [phases(samples, hold) for hold in range(4)]

    assert all(total(one.busy) == sum(value > 0 for value in samples) for one in found)
    assert [total(one.held) for one in found] == sorted(total(one.held) for one in found)
    assert total(found[0].held) == total(found[0].busy)


def test_each_pod_plays_an_hour_of_its_own() -> None:
    day = [0.0] * HOUR + [1.0] * HOUR
    found = hours({"a": day, "b": day, "c": [1.0, 0.0]}, 0)

    assert [pod.samples for pod in found] == [HOUR, HOUR, 2]
    assert sorted(total(pod.busy) for pod in found) == [0, 1, HOUR]


def test_who_asks_and_gives_back_when() -> None:
    pods = [Phases(4, (), (Span(0, 1), Span(2, 4))), Phases(4, (), (Span(1, 2),))]

    assert script(pods, 57.0) == [
        Due(0.0, 0, 0, False),
        Due(1.0, 0, 0, True),
        Due(1.0, 1, 0, False),
        Due(2.0, 0, 1, False),
        Due(2.0, 1, 0, True),
        Due(4.0, 0, 1, True),
    ]


def test_for_how_long_both_are_so() -> None:
    assert overlap_s([(0.0, 10.0), (20.0, 30.0)], [(5.0, 22.0), (29.0, 40.0)]) == pytest.approx(5 + 2 + 1)
    assert overlap_s([(0.0, 1.0)], [(2.0, 3.0)]) == 0


def test_the_bound_of_the_day_is_what_was_published(shared_data: Path) -> None:
    """And 143 hours in turn come to the same, to a tenth of a percent."""
    trace = read_trace(shared_data)
    day = [phases(samples, 1) for samples in trace.values()]
    hour = hours(trace, 1)

    assert (len(trace), round(share_busy(day), 2), round(share_held(day), 2)) == (143, 0.33, 0.41)
    assert len(hour) == 143
    assert share_held(hour) == pytest.approx(share_held(day), abs=1e-3)
    assert share_busy(hour) == pytest.approx(share_busy(day), abs=5e-3)

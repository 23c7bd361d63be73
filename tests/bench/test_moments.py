"""From when and until when a node is waited for, and what counts as flat."""

from typing import Any

import pytest

from bench.cluster.__main__ import BAR_S, Report, is_missed
from bench.cluster.moments import Moments, Spread, is_flat, is_ready, stands
from bench.cluster.nodes import Calls
from bench.cluster.waves import Wave, Waves

PPS = {"podsla.io/pps": "950k"}
OURS = {"podsla.io/family": "ecs.c7"}


def node(
    *,
    name: str = "n1",
    ready: str = "",
    labels: dict[str, str] | None = None,
    capacity: dict[str, str] | None = None,
    allocatable: dict[str, str] | None = None,
) -> dict[str, Any]:
    conditions = [{"type": "DiskPressure", "status": "False"}, *([{"type": "Ready", "status": ready}] if ready else [])]
    status = {"conditions": conditions, "capacity": capacity, "allocatable": allocatable}
    return {"metadata": {"name": name, "labels": labels}, "status": {k: v for k, v in status.items() if v is not None}}


def both(**fields: Any) -> dict[str, Any]:
    return node(labels=OURS, capacity=PPS, allocatable=PPS, **fields)


@pytest.mark.parametrize(
    ("thing", "ready", "standing"),
    [
        pytest.param(node(), False, False, id="as it is registered"),
        pytest.param(node(ready="False"), False, False, id="a kubelet that is not ready says so"),
        pytest.param(node(ready="True"), True, False, id="ready, with nothing of ours"),
        pytest.param(both(), False, True, id="capacity may come first"),
        pytest.param(both(ready="True"), True, True, id="both"),
        pytest.param(node(labels=OURS, capacity=PPS, allocatable={}), False, False, id="not allocatable yet"),
        pytest.param(node(labels=OURS, capacity={}, allocatable=PPS), False, False, id="allocatable alone"),
        pytest.param(node(labels={}, capacity=PPS, allocatable=PPS), False, False, id="no labels yet"),
    ],
)
def test_what_a_node_shows(thing: dict[str, Any], ready: bool, standing: bool) -> None:
    assert (is_ready(thing), stands(thing)) == (ready, standing)


def test_a_wait_is_from_ready_until_capacity_stands_and_each_counts_when_it_is_first_seen() -> None:
    moments = Moments()
    moments.see(node(), 1.0)
    moments.see(node(ready="True"), 2.0)
    moments.see(both(name="n2"), 2.5)
    assert moments.complete == 0
    moments.see(both(ready="True"), 5.0)
    moments.see(node(ready="True"), 5.5)
    moments.see(both(name="n2", ready="True"), 6.0)
    moments.see(both(ready="True"), 9.0)
    assert moments.complete == 2
    assert moments.waits_s() == [0.0, 3.0], "what stood before the node was ready was not waited for"
    assert moments.since_seen_s() == [0.0, 4.0]


def test_a_spread_of_times() -> None:
    assert Spread.of([float(n) for n in range(1, 201)]) == Spread(100.5, 198.0, 200.0)


@pytest.mark.parametrize(
    ("resident_mib", "flat"),
    [
        pytest.param([100.0], True, id="of one wave nothing is known"),
        pytest.param([100.0, 105.0, 104.0], True, id="within five per cent of the first"),
        pytest.param([100.0, 103.0, 106.0], False, id="a little more with each"),
        pytest.param([100.0, 106.0, 100.0], False, id="more in between"),
        pytest.param([100.0, 90.0], True, id="less"),
    ],
)
def test_memory_is_flat_if_no_wave_leaves_more_than_the_first(resident_mib: list[float], flat: bool) -> None:
    assert is_flat(resident_mib) is flat


def waves(*medians_s: float) -> Waves:
    """Waves of these medians, each with one node that waited long."""
    calls = Calls("wave", 60.0, {"patch nodes": 1000}, 1.0)
    return Waves(
        90.0, tuple(Wave(1000, 60.0, Spread(m, 9.0, 9.0), Spread(9.0, 9.0, 9.0), calls, 90.0) for m in medians_s)
    )


@pytest.mark.parametrize(
    ("report", "missed"),
    [
        pytest.param(Report(), False, id="nothing was measured"),
        pytest.param(Report(waves=waves(0.0, BAR_S)), False, id="every median is within the bar"),
        pytest.param(Report(waves=waves(0.0, BAR_S + 0.01, 0.0)), True, id="one wave is above it"),
    ],
)
def test_a_bar_that_is_missed_ends_the_bench_with_1(report: Report, missed: bool) -> None:
    assert is_missed(report) is missed

"""What counts as a pod without a size, and as a failure, when pods are created under load."""

from typing import Any

import pytest

from bench.cluster.plan import Created, Figures, evenly, failures, figures, is_sized, percentile, rollout, rounds

RECORD = '{"size":"s.large"}'
MADE = Created(due_s=1.0, sent_s=1.5, done_s=2.0, status=201, sized=True)


@pytest.mark.parametrize(
    ("labels", "annotations", "expected"),
    [
        pytest.param({"podsla.io/size": "s.large"}, {"podsla.io/record": RECORD}, True, id="a size and its record"),
        pytest.param({"podsla.io/size": "s.small"}, {"podsla.io/record": RECORD}, False, id="a record of another size"),
        pytest.param({"podsla.io/size": "s.large"}, None, False, id="a size without a record"),
        pytest.param(None, {"podsla.io/record": RECORD}, False, id="a record without a size"),
        pytest.param({"podsla.io/size": ""}, {"podsla.io/record": '{"size":""}'}, False, id="an empty size is none"),
        pytest.param({"a.b/size": "s.large"}, {"a.b/record": RECORD}, False, id="keys of another domain"),
    ],
)
def test_a_pod_is_sized_if_label_and_record_agree(labels: Any, annotations: Any, expected: bool) -> None:
    assert is_sized({"metadata": {"labels": labels, "annotations": annotations}}) is expected


def test_latency_counts_from_the_moment_a_pod_was_due_and_failures_have_none() -> None:
    unsized = Created(due_s=0.0, sent_s=0.0, done_s=4.0, status=201, sized=False)
    failed = Created(due_s=0.0, sent_s=0.0, done_s=60.0, status=0, sized=False, message="TimeoutError: timed out")
    found = figures([MADE, unsized, failed], mutated=True)
    assert found == Figures(pods=2, failed=1, unmutated=1, per_s=2 / 60, median_ms=2500, p99_ms=4000, longest_ms=4000)
    assert failures([MADE, unsized, failed, failed]) == ["0: TimeoutError: timed out"]


def test_pods_that_nobody_should_mutate_are_not_counted_as_unmutated() -> None:
    assert figures([Created(0.0, 0.0, 1.0, 201, sized=False)], mutated=False).unmutated == 0


def test_a_rollout_is_179_pods_in_a_minute_with_84_at_one_moment() -> None:
    due_s = rollout()
    assert (len(due_s), due_s.count(30.0)) == (179, 84)
    assert list(due_s) == sorted(due_s)
    assert due_s[-1] < 60


def test_pods_come_evenly() -> None:
    assert evenly(4, 2.0) == (0.0, 0.5, 1.0, 1.5)


def test_every_round_has_every_mode_and_the_same_seed_gives_the_same_order() -> None:
    orders = rounds(["a", "b", "c"], 20, seed=1)
    assert {tuple(sorted(order)) for order in orders} == {("a", "b", "c")}
    assert len({tuple(order) for order in orders}) > 1
    assert orders == rounds(["a", "b", "c"], 20, seed=1)


@pytest.mark.parametrize(
    ("ordered", "expected"),
    [
        pytest.param([7.0], 7.0, id="of one figure, that one"),
        pytest.param([float(n) for n in range(1, 101)], 99.0, id="of a hundred, the last but one"),
        pytest.param([float(n) for n in range(1, 201)], 198.0, id="of two hundred, two are above"),
    ],
)
def test_a_percentile_is_the_nearest_rank(ordered: list[float], expected: float) -> None:
    assert percentile(ordered, 99) == expected

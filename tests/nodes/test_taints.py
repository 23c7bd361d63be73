"""The taint that a node registers with goes once it says what it offers; that of a quarantine comes and goes."""

from collections.abc import Sequence
from typing import Any, Final

import pytest

from nodes.export import STARTUP_TAINT
from nodes.taints import quarantine, started

OURS: Final = {"key": STARTUP_TAINT, "value": "true", "effect": "NoSchedule"}
THEIRS: Final = {"key": "example.com/burn-in", "effect": "NoSchedule"}
UP: Final = {"cpu": "4"}


def node(taints: Sequence[dict[str, str]] | None, capacity: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": "n1", "resourceVersion": "7"}
    return {"metadata": metadata, "spec": {"taints": taints}, "status": {"capacity": capacity}}


@pytest.mark.parametrize(
    ("taints", "capacity", "waiting", "left"),
    [
        pytest.param([OURS], UP, set(), [], id="it says what it offers"),
        pytest.param([THEIRS, OURS], UP, set(), [THEIRS], id="what others gave it stays"),
        pytest.param([OURS], UP, {"n1"}, None, id="its capacity is to be written"),
        pytest.param([OURS], {}, set(), None, id="its kubelet has said nothing yet"),
        pytest.param([THEIRS], UP, set(), None, id="it never had ours"),
        pytest.param(None, UP, set(), None, id="it has none"),
    ],
)
def test_the_taint_goes_once_the_node_says_what_it_offers(
    taints: list[dict[str, str]] | None, capacity: dict[str, str], waiting: set[str], left: list[dict[str, str]] | None
) -> None:
    found = list(started([node(taints, capacity)], waiting))
    assert [one.body for one in found] == ([] if left is None else [{"spec": {"taints": left}}])
    assert all((one.node, one.version) == ("n1", "7") for one in found)


MARK: Final = {"key": "podsla.io/quarantined", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("taints", "unreserved", "left"),
    [
        pytest.param(None, {"n1"}, [MARK], id="the kubelet may give a device of it to anybody"),
        pytest.param([THEIRS], {"n1"}, [THEIRS, MARK], id="what others gave it stays as it gets ours"),
        pytest.param([OURS, THEIRS], {"n1"}, [OURS, THEIRS, MARK], id="one that starts keeps that taint too"),
        pytest.param([THEIRS, MARK], {"n1"}, None, id="it has it"),
        pytest.param([{**MARK, "value": "by-hand"}], {"n1"}, None, id="it has it with a value of somebody's"),
        pytest.param([MARK], {"n2"}, [], id="that was another node"),
        pytest.param([MARK, THEIRS], set(), [THEIRS], id="what others gave it stays as ours goes"),
        pytest.param([THEIRS], set(), None, id="it never had ours"),
        pytest.param(None, set(), None, id="it has none"),
    ],
)
def test_a_node_has_the_taint_while_a_quarantined_device_is_anybodys(
    taints: list[dict[str, str]] | None, unreserved: set[str], left: list[dict[str, str]] | None
) -> None:
    found = list(quarantine([node(taints, UP)], unreserved))
    assert [one.body for one in found] == ([] if left is None else [{"spec": {"taints": left}}])
    assert all((one.node, one.version) == ("n1", "7") for one in found)

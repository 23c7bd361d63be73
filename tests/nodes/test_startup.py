"""The taint that a node registers with goes once it says what it offers."""

from collections.abc import Sequence
from typing import Any, Final

import pytest

from nodes.export import STARTUP_TAINT
from nodes.startup import started

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

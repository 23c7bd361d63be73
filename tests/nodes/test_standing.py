"""Which running pods stand on what their size no longer has."""

import json
from typing import Any

import pytest

from catalog.dimension import PPS, Figures
from nodes.bound import keep_promises, read_bound
from nodes.standing import ClassUse, class_uses, holds
from tests.nodes.test_bound import pod

NOTHING: Figures = (None,) * 9


def offering(pps: int | None) -> Figures:
    return tuple(pps if index == PPS.index else None for index in range(9))


@pytest.mark.parametrize(
    ("offer", "kept", "expected"),
    [
        pytest.param(offering(600_000), {"network.pps": "600k"}, True, id="just enough"),
        pytest.param(offering(599_999), {"network.pps": "600k"}, False, id="too little"),
        pytest.param(offering(None), {"network.pps": "600k"}, False, id="withdrawn"),
        pytest.param(None, {}, False, id="the size is gone"),
        pytest.param(NOTHING, {}, True, id="nothing was promised"),
        pytest.param(NOTHING, {"network.colour": "blue"}, True, id="a dimension that is not known here"),
        pytest.param(offering(1), {"network.pps": "many"}, True, id="a figure that nobody can read"),
    ],
)
def test_holds(offer: Figures | None, kept: dict[str, str], *, expected: bool) -> None:
    assert holds(offer, kept) is expected


def test_pods_are_counted_by_the_class_that_they_got() -> None:
    some = [pod(), pod("700k"), fallen(), pod(phase="Failed"), bare()]
    bound = read_bound(map(keep_promises, some))
    offers = {"ecs.c7.xlarge": offering(650_000)}
    assert class_uses(bound, offers.get) == (ClassUse("general", 1, 0), ClassUse("net", 2, 1))


def fallen() -> dict[str, Any]:
    """A pod that got a fallback."""
    thing = pod()
    record = {"class": "general", "fallbackFrom": "net", "dimensions": {}}
    thing["metadata"]["annotations"]["podsla.io/record"] = json.dumps(record)
    return thing


def bare() -> dict[str, Any]:
    """A pod whose record was lost."""
    thing = pod()
    del thing["metadata"]["annotations"]
    return thing

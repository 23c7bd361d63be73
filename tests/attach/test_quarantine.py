"""Of quarantined devices, those are told that nothing reserves any more."""

from typing import Any, Final

import pytest

from attach.quarantine import unreserved

IS: Final = {"Quarantined": "True", "Attached": "False"}


def held(name: str = "a", uid: str = "p1", node: str = "n1", **conditions: str) -> dict[str, Any]:
    said = [{"type": kind, "status": status} for kind, status in (conditions or IS).items()]
    status = {"node": node, "placeholder": {"name": f"podsla-gpu-{name}", "uid": uid}, "conditions": said}
    return {"metadata": {"namespace": "t", "name": name}, "status": status}


def pod(uid: str = "p1", phase: str = "Running", **metadata: str) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "name": "podsla-gpu-a", **metadata}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("attachments", "placeholders", "found"),
    [
        pytest.param([held()], [pod()], {}, id="its placeholder runs"),
        pytest.param([held()], [pod(deletionTimestamp="2027-03-01T12:00:00Z")], {}, id="it is asked to go, and stays"),
        pytest.param([held()], [], {"n1": ("t/a",)}, id="it was deleted by force"),
        pytest.param([held()], [pod("p2")], {"n1": ("t/a",)}, id="another has its name"),
        pytest.param([held()], [pod(phase="Failed")], {"n1": ("t/a",)}, id="its node evicted it"),
        pytest.param([held()], [pod(phase="Succeeded")], {}, id="the agent let it end: the device is free"),
        pytest.param([held(Quarantined="False", Draining="True")], [], {}, id="the agent is at it still"),
        pytest.param([held(Overdue="True")], [], {}, id="it is its pod's still"),
        pytest.param([held(Released="True", Quarantined="False")], [], {}, id="it is over"),
        pytest.param([held(Failed="True", Quarantined="True")], [], {}, id="it is over, whatever else is said"),
        pytest.param([{"metadata": {"namespace": "t", "name": "new"}}], [], {}, id="nothing is said of it yet"),
        pytest.param(
            [held("b", "p2"), held(), held("c", "p3"), held("d", "p4", "n2")], [pod("p3")],
            {"n1": ("t/a", "t/b"), "n2": ("t/d",)},
            id="several, on two nodes",
        ),
    ],
)  # fmt: skip
def test_a_quarantine_that_nothing_reserves_is_told_with_its_node(
    attachments: list[dict[str, Any]], placeholders: list[dict[str, Any]], found: dict[str, tuple[str, ...]]
) -> None:
    assert unreserved(attachments, placeholders) == found

"""A running pod beside what a new one like it would get today."""

from typing import Any

import pytest

from podsla.recorded import Today, recall
from tests.builders import CATALOG, TODAY, pod, serving
from webhook.admit import Sized, admit

LOWERED = CATALOG.replace("pps: 1M", "pps: 620k")
RAISED_FLOOR = CATALOG.replace("floor: {network: {pps: 600k}}", "floor: {network: {pps: 1200k}}")
NO_SUCH = CATALOG.replace("- name: net\n", "- name: nat\n")


def running(sla_class: str | None = "net", **labels: str) -> dict[str, Any]:
    """A pod as the webhook left it and the scheduler bound it."""
    answer = admit(pod(sla_class), labels, serving(), TODAY)
    assert isinstance(answer, Sized)
    found = dict(answer.pod)
    return {**found, "spec": {**found["spec"], "nodeName": "n1"}}


def unreadable() -> dict[str, Any]:
    found = running()
    found["metadata"] = {**found["metadata"], "annotations": {"podsla.io/class": "net", "podsla.io/record": "{"}}
    return found


@pytest.mark.parametrize(
    ("given", "labels", "catalog", "today", "differences"),
    [
        pytest.param(running(), {}, CATALOG, Today.SAME, [], id="nothing changed"),
        pytest.param(
            running(), {}, LOWERED, Today.DIFFERS,
            ["size medium → large", "vcpu offer 3900m → 7900m", "memory offer 7Gi → 15Gi",
             "network.pps offer 950k → 1900k"],
            id="a figure was lowered",
        ),
        pytest.param(
            running(), {}, RAISED_FLOOR, Today.DIFFERS,
            ["size medium → large", "vcpu offer 3900m → 7900m", "memory offer 7Gi → 15Gi",
             "network.pps ask 600k → 1200k", "network.pps offer 950k → 1900k"],
            id="the class promises more",
        ),
        pytest.param(running(), {}, NO_SUCH, Today.REFUSED, [], id="the class is gone"),
        pytest.param(
            running(None, **{"podsla.io/default-class": "net"}), {"podsla.io/default-class": "net"}, CATALOG,
            Today.SAME, [], id="sized by the default of its namespace, before it was bound",
        ),
        pytest.param(
            running(None, **{"podsla.io/default-class": "net"}), {}, CATALOG, Today.LEFT_ALONE, [],
            id="the namespace has no default any more",
        ),
        pytest.param(pod(nodeName="n1"), {}, CATALOG, Today.NO_RECORD, [], id="created without podsla"),
        pytest.param(unreadable(), {}, CATALOG, Today.UNREADABLE, [], id="a record nobody can read"),
    ],
)  # fmt: skip
def test_recall(given: Any, labels: dict[str, str], catalog: str, today: Today, differences: list[str]) -> None:
    found = recall(given, labels, serving(catalog).index, TODAY)

    assert (found.today, list(found.differences)) == (today, differences)
    assert "input" not in found.record


def test_a_pod_that_podsla_missed_is_read_as_it_was_before_it_was_bound() -> None:
    missed = pod(None, nodeName="n1")  # the default of a namespace reaches no pod that names its node by itself

    found = recall(missed, {"podsla.io/default-class": "net"}, serving().index, TODAY)

    assert found.today is Today.NO_RECORD
    assert isinstance(found.answer, Sized)

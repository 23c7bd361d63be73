"""What is promised of nodes: which pods count, what of them, and how it is written."""

import json
from typing import Any

import pytest

from nodes.usage import class_of, render_amount, requests_of, usage
from tests.builders import container, pod

NODE = {
    "metadata": {"name": "n1", "labels": {"node.kubernetes.io/instance-type": "medium"}},
    "status": {"allocatable": {"cpu": "3900m", "podsla.io/pps": "1M", "broken": "??"}},
}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, {"cpu": 500, "memory": 1 << 30, "pods": 1}, id="one container"),
        pytest.param(
            {"overhead": {"cpu": "250m"}}, {"cpu": 750, "memory": 1 << 30, "pods": 1}, id="the sandbox costs too"
        ),
        pytest.param(
            {"resources": {"requests": {"cpu": "2"}}}, {"cpu": 2000, "memory": 1 << 30, "pods": 1}, id="of the pod"
        ),
        pytest.param(
            {"initContainers": [container("init", requests={"cpu": "3"})]},
            {"cpu": 3000, "memory": 1 << 30, "pods": 1},
            id="an init container that needs more",
        ),
        pytest.param(
            {"initContainers": [container("side", requests={"cpu": "1"}, restartPolicy="Always")]},
            {"cpu": 1500, "memory": 1 << 30, "pods": 1},
            id="a native sidecar runs beside",
        ),
    ],
)
def test_what_a_pod_holds_is_what_the_scheduler_counts(spec: dict[str, Any], expected: dict[str, int]) -> None:
    assert requests_of(pod(None, **spec)) == expected


def holding(name: str, node: str | None, phase: str = "Running") -> dict[str, Any]:
    spec: dict[str, Any] = {"nodeName": node} if node else {}
    asked = [container(requests={"podsla.io/pps": "600k"})]
    return {**pod("net", metadata={"name": name}, containers=asked, **spec), "status": {"phase": phase}}


def test_pods_count_from_when_they_are_bound_until_they_are_over() -> None:
    pods = [
        holding("a", "n1"),
        holding("b", "n1", "Pending"),
        holding("waiting", None, "Pending"),
        holding("done", "n1", "Succeeded"),
        holding("failed", "n1", "Failed"),
        holding("elsewhere", "n2"),
    ]

    (used,) = usage([NODE], pods)

    assert (used.node, used.node_type) == ("n1", "medium")
    assert [held.name for held in used.pods] == ["a", "b"]
    assert (used.promised["podsla.io/pps"], used.free("podsla.io/pps"), used.over("podsla.io/pps")) == (
        1_200_000,
        -200_000,
        True,
    )
    assert (used.allocatable["cpu"], used.allocatable["broken"], used.over("cpu")) == (3900, 0, False)


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        pytest.param({}, "", id="none"),
        pytest.param({"podsla.io/class": "net"}, "net", id="the one that it names"),
        pytest.param(
            {"podsla.io/class": "net", "podsla.io/record": json.dumps({"class": "general"})},
            "general",
            id="the fallback that serves it",
        ),
        pytest.param({"podsla.io/class": "net", "podsla.io/record": "{"}, "net", id="a record that cannot be read"),
        pytest.param({"podsla.io/class": "net", "podsla.io/record": "[]"}, "net", id="a record of another form"),
    ],
)
def test_class_of(annotations: dict[str, str], expected: str) -> None:
    assert class_of(pod(None, annotations=annotations)) == expected


@pytest.mark.parametrize(
    ("resource", "amount", "text"),
    [
        ("cpu", 1500, "1500m"),
        ("memory", (15 << 30) + 4096, "15Gi"),
        ("memory", 1234 << 20, "1234Mi"),
        ("podsla.io/pps", 600_000, "600k"),
        ("podsla.io/pps", -200_000, "-200k"),
    ],
)
def test_render_amount(resource: str, amount: int, text: str) -> None:
    assert render_amount(resource, amount) == text

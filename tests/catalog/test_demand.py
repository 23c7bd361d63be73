"""What a pod demands, summed as Kubernetes sums it (KEP-753, KEP-2837)."""

from typing import Any

import pytest

from catalog.demand import demand, uncovered
from catalog.dimension import GPU_COUNT, MEMORY, PPS, VCPU
from catalog.pod import PodError, read_pod
from catalog.target import Runtime
from tests.sample import container, pod

RUNC = Runtime("runc")
RUND = Runtime("rund", "rund", vm_backed=True, overhead_cpu_m=250, overhead_memory_bytes=160 << 20)


def cpu(requests: str | None = None, limits: str | None = None, **fields: Any) -> dict[str, Any]:
    return container(
        requests={"cpu": requests} if requests else None, limits={"cpu": limits} if limits else None, **fields
    )


@pytest.mark.parametrize(
    ("spec", "millicores"),
    [
        pytest.param({"containers": [cpu("1"), cpu("500m")]}, 1500, id="running containers add up"),
        pytest.param({"containers": [cpu("1", "3")]}, 3000, id="the limit counts where it is set"),
        pytest.param({"containers": [cpu()]}, 0, id="nothing asked is nothing"),
        pytest.param(
            {"containers": [cpu("1")], "initContainers": [cpu("3"), cpu("2")]}, 3000, id="the largest init container"
        ),
        pytest.param(
            {"containers": [cpu("1")], "initContainers": [cpu("1", restartPolicy="Always")]},
            2000,
            id="a sidecar adds up",
        ),
        pytest.param(
            {"containers": [cpu("1")], "initContainers": [cpu("1", restartPolicy="Always"), cpu("2")]},
            3000,
            id="an init container runs beside the sidecars before it",
        ),
        pytest.param(
            {"containers": [cpu("1")], "initContainers": [cpu("2"), cpu("1", restartPolicy="Always")]},
            2000,
            id="and not beside those after it",
        ),
        pytest.param(
            {"containers": [cpu("1", "4")], "resources": {"limits": {"cpu": "2"}}},
            2000,
            id="a pod-level limit stands for all",
        ),
        pytest.param(
            {"containers": [cpu("1")], "resources": {"requests": {"cpu": "2"}}}, 2000, id="a pod-level request counts"
        ),
        pytest.param(
            {"containers": [cpu("3")], "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}},
            3000,
            id="a container added since counts beyond the pod level",
        ),
        pytest.param({"containers": [cpu("1")], "overhead": {"cpu": "250m"}}, 1250, id="overhead is added"),
        pytest.param({"containers": [cpu(1)]}, 1000, id="a plain number"),  # type: ignore[arg-type]
    ],
)
def test_cpu(spec: dict[str, Any], millicores: int) -> None:
    assert demand(read_pod({"spec": spec}), None, RUNC)[VCPU.index] == millicores


def test_overhead_of_the_runtime_that_the_class_brings_is_the_targets() -> None:
    before, after = pod("c"), pod("c", runtimeClassName="rund", overhead={"cpu": "300m", "memory": "1Gi"})

    assert demand(read_pod(before), None, RUND) == demand(read_pod(after), None, RUND)
    assert demand(read_pod(before), None, RUND)[MEMORY.index] == 160 << 20


def test_reservations_and_gpus_count() -> None:
    own = {"podsla.io/pps": "100k", "nvidia.com/gpu": "1"}
    given = read_pod(pod("c", container("a", own, own), container("b", own, own)))

    assert demand(given, "nvidia.com/gpu", RUNC)[PPS.index] == 200_000
    assert demand(given, "nvidia.com/gpu", RUNC)[GPU_COUNT.index] == 2
    assert demand(given, None, RUNC)[GPU_COUNT.index] == 0


def test_what_no_dimension_stands_for_is_named() -> None:
    own = {"ephemeral-storage": "1Gi", "example.com/fpga": "1", "hugepages-2Mi": "4Mi", "cpu": "1"}

    assert uncovered(read_pod(pod("c", container("a", own))), None) == (
        "ephemeral-storage",
        "example.com/fpga",
        "hugepages-2Mi",
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"spec": {}}, "spec.containers must name at least one container", id="no containers"),
        pytest.param({"spec": []}, "spec must be a mapping, and is list", id="a list as spec"),
        pytest.param(
            {"spec": {"containers": {}}}, "spec.containers must be a list, and is dict", id="a mapping of containers"
        ),
        pytest.param(
            {"spec": {"containers": ["a"]}},
            "spec.containers[0]: it must be a mapping, and is str",
            id="a text as container",
        ),
        pytest.param(
            pod("c", container(requests={"memory": "-1"})),
            "spec.containers[0]: resources.requests.memory: '-1' is negative; write 0 or more",
            id="a negative request",
        ),
    ],
)
def test_what_is_no_pod_is_told_so(given: Any, message: str) -> None:
    with pytest.raises(PodError) as caught:
        read_pod(given)

    assert str(caught.value) == message

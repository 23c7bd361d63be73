"""CPU and memory: raised where they are below the floor, never lowered, and Guaranteed stays Guaranteed."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.sample import container, pod, sized

G = {"cpu": "500m", "memory": "1Gi"}
WHOLE = {"cpu": "1", "memory": "1Gi"}
FLOOR = {"cpu": "2", "memory": "4Gi"}


def pod_level(given: Mapping[str, Any]) -> Any:
    return given["spec"].get("resources")


def of_containers(given: Mapping[str, Any]) -> list[Any]:
    return [c.get("resources") for c in given["spec"]["containers"]]


@pytest.mark.parametrize(
    ("containers", "spec", "expected"),
    [
        pytest.param([container()], {}, {"requests": FLOOR}, id="nothing asked: the floor is requested, no limit made"),
        pytest.param(
            [container(requests={"cpu": "3", "memory": "5Gi"})], {}, None, id="above the floor: nothing is written"
        ),
        pytest.param(
            [container(requests={"cpu": "3"})], {}, {"requests": {"memory": "4Gi"}}, id="only what is below is raised"
        ),
        pytest.param(
            [container(requests=G, limits=G)],
            {},
            {"requests": FLOOR, "limits": FLOOR},
            id="Guaranteed with shared CPUs stays Guaranteed at pod level",
        ),
        pytest.param(
            [container(requests={"cpu": "500m", "memory": "6Gi"}, limits={"cpu": "500m", "memory": "6Gi"})],
            {},
            {"requests": {"cpu": "2", "memory": "6Gi"}, "limits": {"cpu": "2", "memory": "6Gi"}},
            id="Guaranteed is judged by both resources, so both are written",
        ),
        pytest.param(
            [container()],
            {"resources": {"limits": {"cpu": "1", "memory": "8Gi"}}},
            {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"cpu": "2", "memory": "8Gi"}},
            id="pod-level limits alone are requests too, and are raised together",
        ),
        pytest.param(
            [container()],
            {"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1500m"}}},
            {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "2"}},
            id="a pod-level limit below the floor is raised, none is made",
        ),
    ],
)
def test_floors_are_written_at_pod_level(containers: list[Any], spec: dict[str, Any], expected: Any) -> None:
    given = sized(pod("floored", *containers, **spec)).pod

    assert pod_level(given) == expected
    assert of_containers(given) == [c.get("resources") for c in containers]


def test_exclusive_cores_are_kept_by_writing_on_the_container() -> None:
    given = sized(pod("floored", container("side", G, G), container("main", WHOLE, WHOLE))).pod

    assert pod_level(given) is None
    assert of_containers(given)[0] == {"requests": G, "limits": G}
    raised = {"cpu": "2", "memory": "3Gi"}
    assert of_containers(given)[1] == {"requests": raised, "limits": raised}


def test_windows_pods_have_no_pod_level_resources() -> None:
    given = sized(pod("floored", container(requests=G), os={"name": "windows"})).pod

    assert pod_level(given) is None
    assert of_containers(given) == [{"requests": {"cpu": "2", "memory": "4Gi"}}]


def test_a_target_may_have_no_pod_level_resources_yet() -> None:
    given = sized(
        pod("floored", container(requests=G, limits={"cpu": "1"})), "{resources: containers, consumers: []}"
    ).pod

    assert of_containers(given) == [{"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "2"}}]


def test_reserve_size_takes_all_that_a_node_of_the_size_offers() -> None:
    given = sized(pod("whole", container(requests=G))).pod

    assert pod_level(given) == {
        "requests": {"cpu": "1900m", "memory": "3Gi"},
        "limits": {"cpu": "1900m", "memory": "3Gi"},
    }


def test_of_a_whole_size_sidecars_request_their_limits_and_init_containers_stay() -> None:
    """Seen to fail where only containers are written: the record says more than the pod requests."""
    asked, limited = {"cpu": "300m", "memory": "256Mi"}, {"cpu": "500m", "memory": "512Mi"}
    side = container("side", asked, limited, restartPolicy="Always")
    init = container("init", asked, limited)
    on = "{resources: containers, consumers: [{by: node-labels}, {by: reservation}]}"

    given = sized(pod("whole", container("main", G, G), initContainers=[init, side]), on).pod

    assert [c["resources"] for c in given["spec"]["initContainers"]] == [
        init["resources"],
        {"requests": limited, "limits": limited},
    ]
    main = {"cpu": "1500m", "memory": "3584Mi", "podsla.io/pps": "475k"}  # of 2 vCPU and 4 GiB
    assert of_containers(given) == [{"requests": main, "limits": main}]


def test_init_containers_and_sidecars_count_as_kubernetes_counts_them() -> None:
    init = container("init", requests={"cpu": "3", "memory": "1Gi"})
    side = container("side", requests={"cpu": "1", "memory": "1Gi"}, restartPolicy="Always")

    place = sized(pod("floored", container(requests={"cpu": "1", "memory": "1Gi"}), initContainers=[side, init])).place

    assert place.demand[:2] == (4000, 2 << 30)
    assert place.choice.size.name == "s.2xlarge"

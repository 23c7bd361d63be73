"""A power cut: control plane, controllers and replicas are gone at once, and come back in the order that is worst."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest
import yaml

from catalog.keys import CLASS, SIZE
from kube.api import ApiError, Object, Resource
from kube.kinds import NAMESPACES, NODES, PODS
from tests.builders import container, pod, template, workload
from tests.cluster import binaries
from tests.cluster.control_plane import kill_control_plane, run_control_plane
from tests.cluster.install import NAMESPACE, OVERLAYS, kubectl
from tests.cluster.kwok import start_kwok
from tests.cluster.pins import needed
from tests.cluster.processes import stop
from tests.cluster.profile import Profile
from tests.cluster.state import Cluster, Process
from tests.soak.events import publish
from tests.soak.stand import WAIT_S, Stand
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

DEPLOYMENTS: Final = Resource("apps/v1", "deployments")
REPLICA_SETS: Final = Resource("apps/v1", "replicasets")
COLD: Final = "cold"  # the namespace of the pods
ONE_NODE: Final = Profile(kwok_nodes=1)
SMALL: Final = [container(requests={"cpu": "100m", "memory": "64Mi"})]


@pytest.fixture
def nodes(made: Stand) -> Iterator[Callable[[], None]]:
    """Have a node join, with the pods that every node has; it leaves afterwards."""
    cluster = replace(made.cluster, profile=ONE_NODE)
    yield lambda: start_kwok(cluster, binaries.ensure(needed(ONE_NODE)), lambda _: None)
    for started in of_name(cluster, "kwok"):
        stop(started)
    for node in made.api.list(NODES):
        made.api.delete(NODES, node["metadata"]["name"])


def of_name(cluster: Cluster, name: str) -> list[Process]:
    """The processes that were started under a name."""
    return [one for one in cluster.journal.read() if isinstance(one, Process) and one.name == name]


def deployment(name: str, sla_class: str | None) -> dict[str, Any]:
    """A Deployment of one pod."""
    labels = {"app": name}
    made = template(sla_class, labels=labels, containers=SMALL)
    metadata = {"name": name, "namespace": None}
    document = workload(metadata=metadata, template=made, replicas=1, selector={"matchLabels": labels})
    return {"apiVersion": "apps/v1", **document}


def own_deployments(cluster: Cluster) -> list[Object]:
    """Podsla's own, as they are shipped; a node that is played runs them in name only."""
    documents = yaml.safe_load_all(kubectl(cluster, "kustomize", str(OVERLAYS / "default")))
    return [one for one in documents if one["kind"] == "Deployment"]


def of_app(made: Stand, kind: Resource, namespace: str, name: str, label: str = "app") -> list[Object]:
    """The pods of a Deployment, or its ReplicaSet."""
    return list(made.api.list(kind, namespace, labelSelector=f"{label}={name}"))


def assert_runs(made: Stand, namespace: str, name: str, label: str = "app") -> Object:
    """A pod of a Deployment gets to run."""

    def running() -> Object | None:
        found = of_app(made, PODS, namespace, name, label)
        return next((one for one in found if one["status"]["phase"] == "Running"), None)

    found = eventually(running, f"the pod of {name} in {namespace} runs", WAIT_S)
    assert found is not None
    return found


def why_it_waits(made: Stand, name: str) -> str:
    """What the ReplicaSet of a Deployment says of the pods that it cannot create."""
    conditions = [
        each for one in of_app(made, REPLICA_SETS, COLD, name) for each in one["status"].get("conditions", ())
    ]
    return next((each["message"] for each in conditions if each["type"] == "ReplicaFailure"), "")


def test_row_26_a_cluster_that_was_down_as_a_whole_comes_back_by_itself(made: Stand, nodes: Callable[[], None]) -> None:
    """
    Podsla comes last: whatever it needs waits for nobody, and what waits for it goes on once it is there.

    Seen to fail where the webhook is sent all pods, those of kube-system too: no node gets a pod of a DaemonSet.
    """
    publish(made)
    api = made.api
    api.create(NAMESPACES, {"metadata": {"name": COLD}})
    api.create(DEPLOYMENTS, deployment("before", "general"), COLD)
    eventually(lambda: of_app(made, PODS, COLD, "before"), "a pod that was sized before", WAIT_S)

    kill_control_plane(made.cluster)
    made.lose_podsla()
    run_control_plane(made.cluster, binaries.ensure(needed(made.cluster.profile)), lambda _: None)

    assert all(made.bundles()), "the cluster is still told to ask podsla"
    nodes()
    for namespace, sla_class in ((COLD, None), ("kube-system", "general")):
        api.create(DEPLOYMENTS, deployment("free", sla_class), namespace)
        assert_runs(made, namespace, "free")
    for own in own_deployments(made.cluster):
        api.create(DEPLOYMENTS, own, NAMESPACE)
        assert_runs(made, NAMESPACE, own["metadata"]["name"], "app.kubernetes.io/name")
    with pytest.raises(ApiError, match="failed calling webhook"):
        api.create(PODS, pod("general", containers=SMALL, metadata={"name": "web", "namespace": COLD}), COLD)
    api.create(DEPLOYMENTS, deployment("waits", "general"), COLD)
    eventually(lambda: "failed calling webhook" in why_it_waits(made, "waits"), "it is told why it waits", WAIT_S)
    assert of_app(made, PODS, COLD, "waits") == []

    for start in (made.start_controller, made.start_replica, made.start_replica):
        start()
    for name in ("before", "waits"):
        found = assert_runs(made, COLD, name)["metadata"]
        assert found["annotations"][CLASS] == "general"
        assert SIZE in found["labels"]

"""A real Karpenter buys the node that a class needs, from what podsla tells it of nodes that do not exist yet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from catalog.keys import INSTANCE_TYPE
from catalog.load import shipped_targets
from kube.api import Resource
from kube.kinds import CONFIG_MAPS, NODES, PODS
from tests.cluster.install import NAMESPACE, PODSLA, install
from tests.cluster.nodes import SIZES
from tests.cluster.own import own_cluster
from tests.cluster.state import load_cluster
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

EVENTS: Final = Resource("v1", "events")
CLAIMS: Final = Resource("karpenter.sh/v1", "nodeclaims")
BUY_S: Final = 90.0
FAST: Final = {"ecs.hfc7.2xlarge", "ecs.hfg7.4xlarge", "ecs.g7ne.4xlarge"}  # 3.3 GHz; no other of the twelve has 3
PACKETS: Final = {"ecs.g7.4xlarge", "ecs.g7ne.4xlarge"}  # of the twelve those with 2.5 million packets/s for pods


@pytest.fixture(scope="module")
def buyer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A cluster without a node, with Karpenter and podsla, whose target lists the types that can be bought."""
    with own_cluster(request, "podsla-karpenter", "control-plane+karpenter") as cluster:
        found = load_cluster(cluster.name)
        if found is None:
            pytest.skip("Karpenter is brought up by the project's own launcher, and kind is in its place")
        install(found)
        user = User(cluster, PODSLA)
        metadata = {"name": "podsla-target", "namespace": NAMESPACE}
        written = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"target.yaml": target()}}
        user.api.create(CONFIG_MAPS, written, NAMESPACE)
        assert user.podsla("catalog", "apply", "ecs", "classes").returncode == 0
        yield user


def target() -> str:
    """The shipped target of a cluster that can have the twelve types."""
    return shipped_targets()["kubernetes"].read_text() + f"  nodeTypes: [{', '.join(SIZES)}]\n"


def deployment(name: str, **annotations: str) -> dict[str, Any]:
    """One pod that says what it needs by annotations alone."""
    keys = {f"podsla.io/{key.replace('_', '-')}": text for key, text in annotations.items()}
    pod = {"containers": [{"name": "app", "image": "x", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]}
    template = {"metadata": {"labels": {"app": name}, "annotations": keys}, "spec": pod}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def pods(user: User, name: str) -> list[Any]:
    return list(user.api.list(PODS, "default", labelSelector=f"app={name}"))


def bought(user: User, name: str) -> str:
    """Wait until the pod runs, and name the type of its node."""

    def node() -> str:
        running = [pod for pod in pods(user, name) if pod["status"]["phase"] == "Running"]
        return str(running[0]["spec"]["nodeName"]) if running else ""

    found = user.api.get(NODES, eventually(node, f"{name} runs", BUY_S))
    assert found is not None
    return str(found["metadata"]["labels"][INSTANCE_TYPE])


def told(user: User, name: str) -> list[str]:
    """What Karpenter said of the pods of a Deployment."""
    names = {pod["metadata"]["name"] for pod in pods(user, name)}
    return [
        event["message"]
        for event in user.api.list(EVENTS, "default")
        if event["involvedObject"]["name"] in names and event["source"].get("component") == "karpenter"
    ]


def test_packets_are_bought_once_karpenter_knows_which_type_has_them(buyer: User, tmp_path: Path) -> None:
    """Without the export it says that no type has any, and buys nothing."""
    assert buyer.apply(deployment("relay", **{"class": "net-intensive", "min_pps": "2500000"})).returncode == 0
    refused = eventually(lambda: told(buyer, "relay"), "Karpenter says that it cannot", BUY_S)
    assert any("podsla.io/pps" in message for message in refused)
    assert list(buyer.api.list(CLAIMS)) == []

    file = tmp_path / "target.yaml"
    file.write_text(target())
    exported = buyer.podsla("catalog", "export", "karpenter", "--target", str(file))
    assert exported.returncode == 0, exported.stderr
    applied = buyer.kubectl("apply", "-f", "-", text=exported.stdout)
    assert applied.returncode == 0, applied.stderr

    assert bought(buyer, "relay") in PACKETS


def test_a_base_clock_is_bought_by_the_types_that_have_it(buyer: User) -> None:
    """From no node at all, so that it is bought for this pod and for no other."""
    buyer.kubectl("delete", "deployment", "relay", "--ignore-not-found", "--cascade=foreground")
    buyer.kubectl("delete", "nodeclaims.karpenter.sh", "--all", "--wait=false")
    eventually(lambda: not [*buyer.api.list(CLAIMS), *buyer.api.list(NODES)], "Karpenter gives nodes back", BUY_S)

    assert buyer.apply(deployment("trader", **{"class": "high-frequency"})).returncode == 0

    assert bought(buyer, "trader") in FAST
    (claim,) = buyer.api.list(CLAIMS)
    assert claim["metadata"]["labels"][INSTANCE_TYPE] in FAST

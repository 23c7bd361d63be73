"""One cluster with both real nodes for all tests of this folder: of the nodes first, then of podsla, then its end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pytest_kind import KindCluster

from kube.api import Object
from tests.cluster.archives import AGNHOST, PODSLA
from tests.cluster.binaries import find
from tests.cluster.install import PODSLA as COMMAND_LINE
from tests.cluster.install import describe, install
from tests.cluster.kind import PROFILE_VARIABLE
from tests.cluster.leftovers import snapshot
from tests.cluster.lifecycle import down
from tests.cluster.real.needs import need_real_nodes
from tests.cluster.real.pods import CLASSES, OVERHEAD, wait_running
from tests.cluster.state import Cluster, load_cluster
from tests.system.user import User
from tests.waiting import eventually

NAME: Final = "real-nodes"
PROFILE: Final = "control-plane+host+vm"
HERE: Final = Path(__file__).resolve().parent
KIND: Final = HERE.parent / "kind"


@pytest.fixture(scope="session")
def before() -> frozenset[str]:
    """What this machine has before there is a cluster."""
    need_real_nodes()
    return snapshot()


@pytest.fixture(scope="session")
def user(request: pytest.FixtureRequest, before: frozenset[str]) -> Iterator[User]:
    """A person with kubectl and podsla, in a cluster with real nodes; podsla's image is there, podsla is not yet."""
    kind = KindCluster(NAME, kind_path=KIND, kubectl_path=find("kubectl"))
    try:
        with pytest.MonkeyPatch.context() as patch:  # for this cluster alone, not for those of tests to come
            patch.setenv(PROFILE_VARIABLE, PROFILE)
            kind.create()
        kind.load_docker_image(PODSLA)
        person = User(kind, COMMAND_LINE)
        for handler, overhead in OVERHEAD.items():
            assert person.apply(runtime_class(handler, overhead)).returncode == 0
        yield person
    finally:
        if not request.config.getoption("keep_cluster"):
            down(NAME, print)


def runtime_class(handler: str, overhead: dict[str, str]) -> dict[str, Any]:
    """Say how pods of a runtime are run, and what each costs beside its containers."""
    body = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": handler}, "handler": handler}
    return {**body, "overhead": {"podFixed": overhead}}


@pytest.fixture(scope="session")
def cluster(user: User) -> Cluster:
    """The launcher's own view of the cluster."""
    found = load_cluster(NAME)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def installed(user: User, cluster: Cluster) -> User:
    """The same person, with podsla installed in pods, this cluster described, and its catalogue published."""
    install(cluster)
    describe(cluster, HERE)
    probe = ("run", "probe", "--image=x", "--annotations=podsla.io/class=enclave", "--dry-run=server")
    eventually(lambda: user.kubectl(*probe).returncode == 0, "the webhook serves catalogue and target")
    return user


@pytest.fixture(scope="session")
def classed(installed: User) -> dict[str, Object]:
    """A running pod of each class, created by kubectl with the one annotation."""
    for name, resources in CLASSES.items():
        container = {"name": "main", "image": AGNHOST, "imagePullPolicy": "Never", "resources": resources}
        meta = {"name": name, "annotations": {"podsla.io/class": name}}
        spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
        done = installed.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        assert done.returncode == 0, done.stderr
    return {name: wait_running(installed, name) for name in CLASSES}

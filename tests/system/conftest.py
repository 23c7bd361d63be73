"""A cluster with podsla in it, as a user would have it; every test gets namespaces of its own."""

import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from pytest_kind import KindCluster

from kube.api import Api
from kube.kinds import NAMESPACES, SPEC_CATALOGS
from tests.cluster.install import OVERLAYS, PODSLA, ROOT, install
from tests.cluster.state import Cluster, load_cluster
from tests.system.user import User
from tests.waiting import eventually

IMAGE = "docker.io/podsla/podsla:dev"
CATALOGS = Path(__file__).parent / "catalogs"


@pytest.fixture(scope="session")
def user(kind_cluster: KindCluster) -> User:
    """A person with kubectl and podsla, in a cluster that podsla was just installed in; no catalogue yet."""
    cluster = load_cluster(kind_cluster.name)
    if cluster is not None:
        install(cluster)
    else:  # kind itself, with Docker
        subprocess.run(["docker", "build", "--tag", IMAGE, "--file", "Containerfile", "."], cwd=ROOT, check=True)
        kind_cluster.load_docker_image(IMAGE)
        kind_cluster.kubectl("apply", "--server-side", "-k", str(OVERLAYS / "default"))
        kind_cluster.kubectl("-n", "podsla-system", "rollout", "status", "deployment/podsla-webhook", "--timeout=180s")
    return User(kind_cluster, PODSLA)


@pytest.fixture(scope="session")
def beside(kind_cluster: KindCluster) -> Cluster:
    """The cluster whose webhook and controller run as processes beside it; skipped where they run in pods."""
    cluster = load_cluster(kind_cluster.name)
    if cluster is None or cluster.profile.real:
        pytest.skip("podsla runs in pods here, so its processes cannot be reached from this machine")
    return cluster


@pytest.fixture(scope="session")
def catalogs(user: User) -> None:
    """The shipped catalogues, and the tests' own classes."""
    done = user.podsla("catalog", "apply", "ecs", "classes", str(CATALOGS / "mission.yaml"))
    assert done.returncode == 0, done.stderr
    probe = ("run", "probe", "--image=x", "--annotations=podsla.io/class=every-figure", "--dry-run=server")
    eventually(lambda: user.kubectl(*probe).returncode == 0, "the webhook serves what the controller accepted")


@pytest.fixture
def api(user: User) -> Api:
    """The administrator's connection."""
    return user.api


_numbers = count(1)


@pytest.fixture
def namespace(user: User, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Make namespaces with labels; they are deleted after the test."""
    made: list[str] = []

    def make(**labels: str) -> str:
        """Labels are podsla's own, with "_" for "-": default_class="x" is podsla.io/default-class: x."""
        name = f"t{next(_numbers)}-{request.node.originalname.removeprefix('test_').replace('_', '-')[:40]}".rstrip("-")
        metadata = {
            "name": name,
            "labels": {f"podsla.io/{key.replace('_', '-')}": value for key, value in labels.items()},
        }
        user.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        made.append(name)
        return name

    yield make
    for name in made:
        user.api.delete(NAMESPACES, name)


@pytest.fixture
def scratch_catalog(user: User) -> Iterator[Callable[[str], None]]:
    """Catalogues that a test writes; they are deleted after it."""
    made: list[str] = []
    yield made.append
    for name in made:
        user.api.delete(SPEC_CATALOGS, name)
        eventually(lambda name=name: user.api.get(SPEC_CATALOGS, name) is None)  # type: ignore[misc]

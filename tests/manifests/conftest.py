"""A bare API server: what manifests/ holds is applied to it, and no process of podsla runs."""

from collections.abc import Iterator

import pytest

from tests.cluster.install import PODSLA
from tests.cluster.own import own_cluster
from tests.manifests.kubectl import MANIFESTS, run
from tests.system.user import User


@pytest.fixture(scope="session")
def admin(request: pytest.FixtureRequest) -> Iterator[User]:
    """An administrator of a cluster without nodes and without podsla."""
    with own_cluster(request, "podsla-manifests", "control-plane") as cluster:
        yield User(cluster, PODSLA)


@pytest.fixture(scope="session")
def crd(admin: User) -> None:
    """The CRD, ready for objects."""
    run(admin, "apply", "--server-side", "-f", str(MANIFESTS / "base" / "crds"))
    run(
        admin,
        "wait",
        "--for=condition=Established",
        "crd/speccatalogs.podsla.io",
        "crd/gpuattachments.podsla.io",
        "--timeout=30s",
    )

"""A bare API server: what manifests/ holds is applied to it, and no process of podsla runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_kind import KindCluster

from tests.cluster.install import PODSLA
from tests.manifests.kubectl import MANIFESTS, run
from tests.system.user import User


@pytest.fixture(scope="session")
def admin(request: pytest.FixtureRequest) -> Iterator[User]:
    """An administrator of a cluster without nodes and without podsla."""
    kind, kubectl = (Path(request.config.getoption(name)) for name in ("kind_bin", "kind_kubectl_bin"))
    cluster = KindCluster("podsla-manifests", kind_path=kind, kubectl_path=kubectl)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODSLA_CLUSTER_PROFILE", "control-plane")
        cluster.create()
    yield User(cluster, PODSLA)
    cluster.delete()


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

"""A bare API server with what manifests/ holds, and no process of podsla."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_kind import KindCluster

from kube.api import Api
from tests.cluster.install import PODSLA
from tests.manifests.kubectl import MANIFESTS, run
from tests.system.user import User


@pytest.fixture(scope="session")
def bare(request: pytest.FixtureRequest) -> Iterator[Api]:
    """The administrator's connection to it."""
    kind, kubectl = (Path(request.config.getoption(name)) for name in ("kind_bin", "kind_kubectl_bin"))
    cluster = KindCluster("podsla-controller", kind_path=kind, kubectl_path=kubectl)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODSLA_CLUSTER_PROFILE", "control-plane")
        cluster.create()
    user = User(cluster, PODSLA)
    run(user, "apply", "--server-side", "-k", str(MANIFESTS / "overlays" / "outside"))
    run(
        user,
        "wait",
        "--for=condition=Established",
        "crd/speccatalogs.podsla.io",
        "crd/gpuattachments.podsla.io",
        "--timeout=30s",
    )
    yield user.api
    cluster.delete()

"""A bare API server with what manifests/ holds, and no process of podsla."""

from collections.abc import Iterator

import pytest

from kube.api import Api
from tests.cluster.install import PODSLA
from tests.cluster.own import own_cluster
from tests.manifests.kubectl import MANIFESTS, run
from tests.system.user import User


@pytest.fixture(scope="session")
def bare(request: pytest.FixtureRequest) -> Iterator[Api]:
    """The administrator's connection to it."""
    with own_cluster(request, "podsla-controller", "control-plane") as cluster:
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

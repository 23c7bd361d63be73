"""EDGE: a cluster of a test module's own, through the door that `kind_cluster` is too."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytest_kind import KindCluster


@contextmanager
def own_cluster(request: pytest.FixtureRequest, name: str, profile: str) -> Iterator[KindCluster]:
    """Bring up a cluster of a profile, by the programs that the command line names; it is deleted at the end."""
    kind, kubectl = (Path(request.config.getoption(option)) for option in ("kind_bin", "kind_kubectl_bin"))
    cluster = KindCluster(name, kind_path=kind, kubectl_path=kubectl)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODSLA_CLUSTER_PROFILE", profile)
        cluster.create()
    try:
        yield cluster
    finally:
        cluster.delete()

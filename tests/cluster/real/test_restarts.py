"""A catalogue is edited under running pods, and then kubelets restart: they admit their pods anew, and fail none."""

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from kube.api import Object
from kube.kinds import NODES
from tests.cluster.nodeconfig import HOST, VM
from tests.cluster.real.pods import restart_kubelets, running
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes

CATALOG: Final = Path(__file__).parent / "catalog.yaml"
PPS, MHZ = "podsla.io/pps", "podsla.io/base-mhz"


def lowered() -> dict[str, Any]:
    """The catalogue with less than pods were promised: fewer packets on one node, slower cores on the other."""
    catalog: dict[str, Any] = yaml.safe_load(CATALOG.read_text())
    host, vm = catalog["spec"]["sizes"]
    packets, clock, *_ = catalog["spec"]["classes"]
    host["network"]["pps"], packets["floor"]["network"]["pps"] = "500k", "300k"
    vm["cpu"]["baseMHz"], clock["floor"]["cpu"]["baseMHz"] = 2600, 2600
    return catalog


def published(user: User, node: str) -> tuple[str | None, str | None]:
    """The packets/s and the base clock that a node says it has."""
    found = user.api.get(NODES, node)
    assert found is not None
    return found["status"]["allocatable"].get(PPS), found["metadata"]["labels"].get(MHZ)


def apply(user: User, catalog: Path) -> None:
    """Publish a catalogue."""
    done = user.podsla("catalog", "apply", str(catalog))
    assert done.returncode == 0, done.stderr


def test_no_running_pod_ends_when_its_kubelet_restarts_after_edits(
    installed: User, cluster: Cluster, classed: dict[str, Object], tmp_path: Path
) -> None:
    """
    First figures are lowered, then the whole catalogue goes, and with it all that no pod needs.

    Where capacity simply followed, kubelets failed pods: OutOfpodsla.io/pps, and NodeAffinity. The last test of
    test_uninstall.py shows the former.
    """
    before = running(installed, classed)
    edited = tmp_path / "lowered.yaml"
    edited.write_text(yaml.safe_dump(lowered()))
    apply(installed, edited)
    # 600k and 3500 MHz are what pods were promised; else it would be 475k and 2600 MHz.
    eventually(lambda: published(installed, HOST) == ("600k", "2500"), "the host has what its pod was promised")
    assert published(installed, VM) == ("285k", "3500")

    assert installed.kubectl("delete", "speccatalog", "rack").returncode == 0
    left = {HOST: ("600k", None), VM: (None, "3500")}  # a label, and packets, that no pod needs are gone
    eventually(lambda: {node: published(installed, node) for node in left} == left, "what pods need is left")

    restart_kubelets(installed, cluster, "restarted")

    assert running(installed, classed) == before
    assert {node: published(installed, node) for node in left} == left
    apply(installed, edited)
    eventually(lambda: published(installed, HOST) == ("600k", "2500"), "what was withdrawn comes back with it")

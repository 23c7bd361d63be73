"""EDGE: nodes that kwok plays: real objects to the control plane, with no machine behind them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from catalog.load import SHIPPED_CATALOG, load_catalog, load_target
from tests.cluster.api import Admin
from tests.cluster.network import LOOPBACK
from tests.cluster.nodes import ANNOTATION, DAEMONS, daemon_sets, nodes
from tests.cluster.pins import STAGES
from tests.cluster.processes import start, wait_ready
from tests.cluster.state import Cluster, Process

_OWN_STAGES: Final = Path(__file__).parent / "stages"
_TARGET: Final = "kubernetes"  # the shipped target whose words for GPUs the nodes use
_LEASE_S: Final = (
    160  # renewed in a quarter of it: 25 calls a second for 1,000 nodes, and well before nodes count as lost
)


def start_kwok(cluster: Cluster, binaries: Mapping[str, Path], report: Callable[[str], None]) -> None:
    """
    Start kwok, create the profile's nodes and two DaemonSets, and wait until all of it runs.

    Raises:
        ClusterError: Some node or pod did not come up in time.
    """
    count = cluster.profile.kwok_nodes
    report(f"{count} kwok nodes")
    stages = [*sorted(binaries[STAGES].glob("*.yaml")), *sorted(_OWN_STAGES.glob("*.yaml"))]
    flags = [
        f"--kubeconfig={cluster.kubeconfig}",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
        f"--node-lease-duration-seconds={_LEASE_S}",
        # Addresses for benchmarks (RFC 2544), so that nothing that speaks to a played pod reaches anyone.
        "--cidr=198.18.0.0/15",
        f"--node-ip={LOOPBACK}",
        "--v=WARN",  # else a line for every pod
        *(f"--config={stage}" for stage in stages),
    ]
    process = start(cluster, "kwok", [binaries["kwok"], *flags])
    admin = Admin(cluster)
    admin.create_all("/api/v1/nodes", nodes(count, load_catalog([SHIPPED_CATALOG]), load_target(_TARGET)))
    admin.create_all("/apis/apps/v1/namespaces/kube-system/daemonsets", daemon_sets({"type": "kwok"}))
    _wait_running(cluster, admin, process, count)


def _wait_running(cluster: Cluster, admin: Admin, process: Process, count: int) -> None:
    """Wait for nodes and DaemonSet pods; the DaemonSets' own status counts both, in two small objects."""
    paths = [f"/apis/apps/v1/namespaces/kube-system/daemonsets/{name}" for name in DAEMONS]
    what = f"{count} kwok nodes are ready, each with a pod of every DaemonSet"

    def all_ready() -> bool:
        return all(admin.get(path).get("status", {}).get("numberReady") == count for path in paths)

    wait_ready(cluster, what, all_ready, process, deadline_s=60 + count * 0.2)

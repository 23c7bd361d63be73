"""EDGE: what both real nodes share: kube-proxy on this machine, the kernel settings that nodes change, readiness."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from tests.cluster import binaries, residue
from tests.cluster.network import BRIDGE_ADDRESS, LOOPBACK, free_ports
from tests.cluster.nodeconfig import HOST, VM
from tests.cluster.pki import Authority, write_kubeconfig
from tests.cluster.processes import is_alive, start, wait_ready
from tests.cluster.state import Cluster, ClusterError, Command, Process

# The kubelet and the bridge plugin set these for the whole machine.
_SETTINGS: Final = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
_ONCE: Final = threading.Lock()


def prepare(cluster: Cluster) -> None:
    """
    Make this machine one that routes for pods: forwarding on, Service addresses answered; once per cluster.

    Raises:
        ClusterError: Chains of another Kubernetes node are in the way.
    """
    with _ONCE:  # nodes start side by side
        if running(cluster, "kube-proxy") is None:
            _prepare(cluster)


def _prepare(cluster: Cluster) -> None:
    if there := residue.found():
        raise ClusterError(
            f"this machine has {len(there)} things of another Kubernetes node ({there[0]}, …); "
            f"take it down, or remove what it left by `python {residue.__file__}`"
        )
    for setting in _SETTINGS:
        file = Path("/proc/sys") / setting
        cluster.journal.record(Command(("sh", "-c", f"echo {file.read_text().strip()} > {file}")))
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    cluster.journal.record(Command((sys.executable, residue.__file__)))
    _start_proxy(cluster, HOST if cluster.profile.host else VM)


def _start_proxy(cluster: Cluster, node: str) -> None:
    authority = Authority.load(cluster.pki)
    kubeconfig = cluster.pki / "kube-proxy.kubeconfig"
    pair = authority.issue("system:kube-proxy")
    write_kubeconfig(kubeconfig, cluster=cluster.name, server=cluster.server, ca=authority.pair.certificate, pair=pair)
    ports = free_ports(["healthz", "metrics"], cluster.ports.values())
    command = [
        str(binaries.find("kube-proxy")),
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={node}",
        f"--bind-address={BRIDGE_ADDRESS}",
        "--proxy-mode=iptables",
        "--masquerade-all",  # answers come back this way, from whichever node
        "--iptables-localhost-nodeports=false",
        "--iptables-min-sync-period=100ms",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
        f"--healthz-bind-address={LOOPBACK}:{ports['healthz']}",
        f"--metrics-bind-address={LOOPBACK}:{ports['metrics']}",
    ]
    start(cluster, "kube-proxy", command)


def running(cluster: Cluster, name: str) -> Process | None:
    """Find a live process of the cluster by the name it was started under."""
    entries = cluster.journal.read()
    named = [entry for entry in entries if isinstance(entry, Process) and entry.name == name]
    return next((process for process in reversed(named) if is_alive(process)), None)


def wait_for_node(cluster: Cluster, node: str, process: Process, deadline_s: float) -> None:
    """Wait until the API server calls the node Ready."""
    path = '{.status.conditions[?(@.type=="Ready")].status}'
    command = [
        str(binaries.find("kubectl")),
        f"--kubeconfig={cluster.kubeconfig}",
        "get",
        "node",
        node,
        f"-o=jsonpath={path}",
    ]

    def ready() -> bool:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout == "True"

    wait_ready(cluster, f"node {node} is Ready", ready, process, deadline_s=deadline_s)

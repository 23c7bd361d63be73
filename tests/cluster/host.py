"""EDGE: makes this machine a node of the cluster: containerd, kubelet (cgroup version 1, cgroupfs) and kube-proxy."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.cluster import archives, binaries, node_network
from tests.cluster.network import BRIDGE_ADDRESS, HOST_POD_CIDR, free_ports
from tests.cluster.nodeconfig import CNI_PROGRAMS, HOST, KUBELET_ROOT, PROGRAMS, Node
from tests.cluster.pki import Authority, write_kubeconfig, write_pair
from tests.cluster.processes import start as start_process
from tests.cluster.processes import stop as stop_process
from tests.cluster.processes import wait_ready
from tests.cluster.state import Cgroup, Cluster, ClusterError, Link, Mount, Tree

INSTANCE_TYPE: Final = "test.host.large"
CNI_LINK: Final = "cni0"
READY_S: Final = 60.0
RUN: Final = Path("/run/podsla-node")
# Where the kubelet and the CNI library write whatever they are told.
_FIXED_FOLDERS: Final = (KUBELET_ROOT, RUN, Path("/var/lib/cni"), Path("/var/log/containers"))


def start(cluster: Cluster, *, instance_type: str = INSTANCE_TYPE) -> None:
    """
    Start the node and wait until it is Ready.

    Raises:
        ClusterError: Another Kubernetes node uses this machine, or some part does not come up.
    """
    node = _node(cluster, instance_type)
    _claim(cluster, node)
    node_network.prepare(cluster)
    _write_files(cluster, node)
    _start_containerd(cluster, node)
    for archive in (archives.pause(binaries.cache_folder()), archives.agnhost(binaries.cache_folder())):
        import_image(cluster, archive)
    kubelet = start_process(cluster, "kubelet", node.kubelet(), env=_path(node))
    node_network.wait_for_node(cluster, HOST, kubelet, READY_S)


def restart_kubelet(cluster: Cluster) -> None:
    """Stop the kubelet and start it again; pods run on meanwhile, and it admits them anew."""
    if process := node_network.running(cluster, "kubelet"):
        stop_process(process)
    node = _node(cluster, INSTANCE_TYPE)
    kubelet = start_process(cluster, "kubelet", node.kubelet(), env=_path(node))
    node_network.wait_for_node(cluster, HOST, kubelet, READY_S)


def restart_containerd(cluster: Cluster) -> None:
    """Stop containerd and start it again; its shims, and what runs in them, live on meanwhile."""
    if process := node_network.running(cluster, "containerd"):
        stop_process(process)
    _start_containerd(cluster, _node(cluster, INSTANCE_TYPE))


def _start_containerd(cluster: Cluster, node: Node) -> None:
    containerd = start_process(cluster, "containerd", node.containerd(), env=_path(node))
    wait_ready(cluster, "containerd answers", lambda: _runs(node, "version"), containerd)


def _path(node: Node) -> dict[str, str]:
    return {"PATH": f"{node.config}/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def stop(cluster: Cluster) -> None:
    """End the node's processes in the order in which none starts another anew; the journal takes back the rest."""
    for name in ("kubelet", "kube-proxy", "containerd"):
        if process := node_network.running(cluster, name):
            stop_process(process)
    for pid in _shims():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def import_image(cluster: Cluster, archive: Path) -> None:
    """Give the node the image in *archive*, a docker-archive tar."""
    command = _node(cluster, INSTANCE_TYPE).import_image(str(archive))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"node {HOST} cannot import {archive}: {done.stderr.strip()[-400:]}")


def _node(cluster: Cluster, instance_type: str) -> Node:
    ports = free_ports(["kubelet", "healthz"], cluster.ports.values())
    overlay = "overlay" in Path("/proc/filesystems").read_text().split()
    return Node(
        name=HOST,
        instance_type=instance_type,
        address=BRIDGE_ADDRESS,
        port=ports["kubelet"],
        healthz_port=ports["healthz"],
        pods=HOST_POD_CIDR,
        config=cluster.data / HOST,
        data=cluster.data / HOST / "data",
        run=RUN,
        logs=cluster.folder / "log" / "pods",
        snapshotter="overlayfs" if overlay else "native",
        systemd=False,
    )


def _claim(cluster: Cluster, node: Node) -> None:
    """Journal all that will lie outside the cluster's folder, or be mounted in it; refuse where some of it is there."""
    cgroups = [path / "kubepods" for path in _hierarchies()]
    claimed = [*_FIXED_FOLDERS, *cgroups, Path("/sys/class/net") / CNI_LINK]
    if there := [str(path) for path in claimed if path.exists()]:
        raise ClusterError(
            f"this machine is, or was, a node of another cluster: {', '.join(there)} exists; "
            "take that node down and remove what it left, or leave `host` out of the profile"
        )
    for folder in _FIXED_FOLDERS:
        cluster.journal.record(Tree(str(folder)))
    for folder in (KUBELET_ROOT, RUN, node.data):
        cluster.journal.record(Mount(str(folder)))  # after the folder: unmounted before it is removed
    for cgroup in cgroups:
        cluster.journal.record(Cgroup(str(cgroup)))
    cluster.journal.record(Link(CNI_LINK))


def _hierarchies() -> list[Path]:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted({Path(mount[1]) for mount in mounts if mount[2] in ("cgroup", "cgroup2")})


def _write_files(cluster: Cluster, node: Node) -> None:
    for name, content in node.files().items():
        file = node.config / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    programs = node.config / "bin"
    programs.mkdir(exist_ok=True)
    for program, path in binaries.ensure([*PROGRAMS, *CNI_PROGRAMS]).items():
        (programs / program).symlink_to(path)
    write_credentials(cluster, node)


def write_credentials(cluster: Cluster, node: Node, folder: Path | None = None) -> None:
    """Write the kubelet's certificate, which is a node's and a server's, and its kubeconfig."""
    target = folder or node.config
    authority = Authority.load(cluster.pki)
    user = f"system:node:{node.name}"
    pair = authority.issue(user, organizations=["system:nodes"], dns=[node.name], addresses=[node.address])
    write_pair(target, "kubelet", pair)
    ca = authority.pair.certificate
    (target / "ca.crt").write_bytes(ca)
    write_kubeconfig(target / "kubeconfig", cluster=cluster.name, server=cluster.server, ca=ca, pair=pair)


def _runs(node: Node, command: str) -> bool:
    ctr = [f"{node.config}/bin/ctr", f"--address={node.socket}", command]
    return subprocess.run(ctr, capture_output=True, check=False).returncode == 0


def _shims() -> list[int]:
    """Find the shims of our containerd, by its socket in their command lines: they outlive it by design."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            if arguments[0].endswith(b"containerd-shim-runc-v2") and f"{RUN}/containerd.sock".encode() in arguments:
                found.append(int(folder.name))
    return found

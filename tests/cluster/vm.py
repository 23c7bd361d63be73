"""
EDGE: a virtual machine as a node: Debian with systemd, cgroup version 2 and the systemd driver, under QEMU.

Its root disk is made once and kept; a cluster writes to an overlay of it. What is the cluster's comes on a second disk.
"""

import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.cluster import archives, binaries, imagestore, node_network, qemu
from tests.cluster.host import write_credentials
from tests.cluster.network import BRIDGE, VM_ADDRESS, VM_POD_CIDR, ip
from tests.cluster.nodeconfig import CNI_PROGRAMS, PROGRAMS, VM, Node
from tests.cluster.processes import start as start_process
from tests.cluster.processes import stop as stop_process
from tests.cluster.processes import wait_ready
from tests.cluster.qemu import Ran, run_in_guest
from tests.cluster.state import Cluster, ClusterError, Link, Route, Tree

INSTANCE_TYPE: Final = "test.vm.large"
TAP: Final = "podsla-tap0"
READY_S: Final = 240.0  # software emulation on a busy machine
IMPORT_S: Final = 300.0
SLOTS: Final = 4  # free PCI Express ports, slot1 to slot4, for what is plugged in while it runs
CONFIG: Final = Path("/node")  # in the machine, as is the next one
NODE_RUN: Final = Path("/run/podsla-node")
_RUN: Final = Path("/run/podsla-vm")
_MONITOR: Final = _RUN / "qmp.sock"
_AGENT: Final = _RUN / "agent.sock"
_DISK: Final = "plugged"


def start(cluster: Cluster, *, instance_type: str = INSTANCE_TYPE) -> None:
    """
    Start the virtual machine and wait until its node is Ready.

    Raises:
        ClusterError: Some part of it does not come up; the end of the serial console is in the message.
    """
    node = _node(instance_type)
    folder = cluster.data / VM
    folder.mkdir()
    if _RUN.exists():
        raise ClusterError(f"{_RUN} exists: another cluster has a virtual machine; take that cluster down")
    cluster.journal.record(Tree(str(_RUN)))
    _RUN.mkdir(mode=0o700)
    node_network.prepare(cluster)
    cluster.journal.record(Link(TAP))
    ip("tuntap", "add", TAP, "mode", "tap")
    ip("link", "set", TAP, "master", BRIDGE, "up")
    ip("link", "set", TAP, "type", "bridge_slave", "hairpin", "on")  # a Service of the VM's may be served by the VM
    cluster.journal.record(Route(VM_POD_CIDR))
    ip("route", "add", VM_POD_CIDR, "via", VM_ADDRESS)
    machine, store = prepare(instance_type)
    _make_overlay(store, folder / "store.qcow2")
    _make_overlay(machine / "root.img", folder / "root.qcow2")
    _write_node_disk(cluster, node, folder)
    process = start_process(cluster, "qemu", _qemu(cluster, machine, folder))
    node_network.wait_for_node(cluster, VM, process, READY_S)


def prepare(instance_type: str = INSTANCE_TYPE) -> tuple[Path, Path]:
    """Make what every such machine boots from, and the disk that has its images; both are kept."""
    cache = binaries.cache_folder()
    images = [build(cache) for build in (archives.pause, archives.agnhost, archives.build)]
    return archives.virtual_machine(cache), imagestore.filled_disk(cache, _node(instance_type), images)


def stop(cluster: Cluster) -> None:
    """Switch the virtual machine off, as by its plug."""
    if process := node_network.running(cluster, "qemu"):
        stop_process(process)


def restart_kubelet() -> None:
    """Restart the kubelet; pods run on meanwhile, and it admits them anew."""
    if (ran := run(["systemctl", "restart", "kubelet"])).returncode:
        raise ClusterError(f"the kubelet of node {VM} does not restart: {ran.output.strip()[-400:]}")


def reset() -> None:
    """Start the machine anew as by its button: nothing on it is told, and what was not written to disk is lost."""
    monitor("set-action", reboot="reset")  # else QEMU ends where a machine would start anew
    monitor("system_reset")


def run(argv: Sequence[str], *, deadline_s: float = 120.0) -> Ran:
    """Run a program in the virtual machine as root, for instance `systemctl daemon-reload`."""
    return run_in_guest(_AGENT, argv, deadline_s=deadline_s)


def monitor(command: str, **arguments: object) -> object:
    """Ask QEMU, by the QEMU Machine Protocol; PCI devices go into bus `slot1` to `slot3`."""
    return qemu.monitor(_MONITOR, command, **arguments)


def import_image(cluster: Cluster, archive: Path) -> None:
    """Give the node the image in *archive*, a docker-archive tar; only layers that it lacks are sent."""
    node = _node(INSTANCE_TYPE)
    ctr = [f"{node.config}/bin/ctr", f"--address={node.socket}", "--namespace=k8s.io"]
    name, digest = imagestore.identity(archive)
    if any({name, digest} <= set(line.split()) for line in run([*ctr, "image", "list"]).output.splitlines()):
        return
    present = run([*ctr, "content", "list", "--quiet"]).output.split()
    with tempfile.NamedTemporaryFile(dir=cluster.data / VM, suffix=".tar") as thin:
        imagestore.thin(archive, present, Path(thin.name))
        with _plugged_in(cluster, Path(thin.name)) as device:
            ran = run(node.import_image(device), deadline_s=IMPORT_S)
    if ran.returncode:
        raise ClusterError(f"node {VM} cannot import {archive}: {ran.output.strip()[-400:]}")


@contextmanager
def _plugged_in(cluster: Cluster, file: Path) -> Iterator[str]:
    """Plug a file in as a disk, read-only; the guest's device is yielded, and pulled out at the end."""
    source = {"driver": "file", "filename": str(file), "read-only": True}
    monitor("blockdev-add", **{"node-name": _DISK, "driver": "raw", "read-only": True, "file": source})
    try:
        monitor("device_add", driver="virtio-blk-pci", id=_DISK, drive=_DISK, serial=_DISK, bus=f"slot{SLOTS}")
        device = f"/dev/disk/by-id/virtio-{_DISK}"
        wait_ready(cluster, f"{device} is there", lambda: not run(["test", "-e", device]).returncode)
        yield device
        monitor("device_del", id=_DISK)
        wait_ready(cluster, f"{device} is gone", lambda: bool(run(["test", "-e", device]).returncode))
    finally:
        monitor("blockdev-del", **{"node-name": _DISK})


def _node(instance_type: str) -> Node:
    return Node(
        name=VM,
        instance_type=instance_type,
        address=VM_ADDRESS,
        port=10250,
        healthz_port=10248,
        pods=VM_POD_CIDR,
        config=CONFIG,
        data=Path("/var/lib/podsla-node"),
        run=NODE_RUN,
        logs=Path("/var/log/pods"),
        snapshotter="overlayfs",
        systemd=True,
    )


def _make_overlay(disk: Path, overlay: Path) -> None:
    archives.call(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(disk), str(overlay)])


def _write_node_disk(cluster: Cluster, node: Node, folder: Path) -> None:
    """Write the disk that the machine mounts at /node: configuration, credentials, programs."""
    content = folder / "node"
    path = f"export PATH={node.config}/bin:$PATH"
    scripts = {
        "containerd.sh": [path, f"exec {shlex.join(node.containerd())}"],
        "kubelet.sh": [path, f"exec {shlex.join(node.kubelet())}"],
    }
    (content / "bin").mkdir(parents=True)
    for name, text in node.files().items():
        (content / name).parent.mkdir(exist_ok=True)
        (content / name).write_text(text)
    for name, lines in scripts.items():
        (content / name).write_text("\n".join(["#!/bin/sh -e", *lines, ""]))
        (content / name).chmod(0o755)
    for program, found in binaries.ensure([*PROGRAMS, *CNI_PROGRAMS]).items():
        shutil.copy(found, content / "bin" / program)
    write_credentials(cluster, node, content)
    archives.call(["mke2fs", "-q", "-t", "ext4", "-L", "node", "-d", str(content), f"{folder}/node.img", "512M"])
    shutil.rmtree(content)


def _qemu(cluster: Cluster, machine: Path, folder: Path) -> list[str]:
    slots = [f"pcie-root-port,id=slot{number},chassis={number}" for number in range(1, SLOTS + 1)]
    options = [
        *shlex.split("-machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 2048"),
        *shlex.split("-display none -monitor none -no-reboot -nodefaults"),
        *("-kernel", f"{machine}/vmlinuz", "-initrd", f"{machine}/initrd.img"),
        *("-append", f"root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off systemd.hostname={VM}"),
        *("-serial", f"file:{cluster.log('vm-console')}", "-qmp", f"unix:{_MONITOR},server=on,wait=off"),
        *("-drive", f"file={folder}/root.qcow2,if=virtio,cache=unsafe"),
        *("-drive", f"file={folder}/store.qcow2,if=virtio,cache=unsafe"),
        *("-drive", f"file={folder}/node.img,if=virtio,format=raw,readonly=on"),
        *("-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no", "-device", "virtio-net-pci,netdev=net"),
        *("-chardev", f"socket,id=agent,path={_AGENT},server=on,wait=off", "-device", "virtio-serial"),
        *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0", "-device", "virtio-rng-pci"),
    ]
    return ["qemu-system-x86_64", *options, *(word for slot in slots for word in ("-device", slot))]

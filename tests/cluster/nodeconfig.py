"""What a real node is told: the files and command lines of containerd, kubelet and CNI, here and in the VM alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from tests.cluster.archives import PAUSE

HOST: Final = "host"
VM: Final = "vm"
PROGRAMS: Final = ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "kubelet")
CNI_PROGRAMS: Final = ("bridge", "loopback", "host-local", "portmap", "bandwidth")
KUBELET_ROOT: Final = Path("/var/lib/kubelet")  # where what runs in pods looks for the kubelet's sockets
RUNTIME_HANDLERS: Final = ("runc", "rund", "rune")  # all run runc: what RuntimeClass does can be seen without a VM
_TEMPLATES: Final = Path(__file__).parent / "node"


@dataclass(frozen=True, slots=True)
class Node:
    """
    A node that runs containers.

    Attributes:
        address: Its own, on the bridge.
        pods: The addresses of its pods, as a CIDR.
        config: Where the node has its configuration; its programs lie in `bin` there.
        data: Where containerd keeps images and containers.
        run: Where its sockets are; short, for a socket's path has at most 107 bytes.
        logs: Where the kubelet keeps the logs of pods.
        systemd: Whether systemd makes the cgroups (version 2), or the kubelet does (version 1).
    """

    name: str
    instance_type: str
    address: str
    port: int
    healthz_port: int
    pods: str
    config: Path
    data: Path
    run: Path
    logs: Path
    snapshotter: str
    systemd: bool

    @property
    def socket(self) -> Path:
        """Where containerd answers."""
        return self.run / "containerd.sock"

    def files(self) -> Mapping[str, str]:
        """The node's configuration: path below `config` → content."""
        values = {
            **{name: str(getattr(self, name)) for name in self.__slots__},
            "systemd": "true" if self.systemd else "false",
            "cgroup_driver": "systemd" if self.systemd else "cgroupfs",
            "socket": str(self.socket),
            "pause": PAUSE,
        }
        runtimes = [_fill("runtime.toml", {**values, "handler": handler}) for handler in RUNTIME_HANDLERS]
        return {
            "containerd.toml": _fill("containerd.toml", values) + "".join(runtimes),
            "kubelet.yaml": _fill("kubelet.yaml", values),
            "cni/pods.conflist": _fill("cni.json", values),
        }

    def containerd(self) -> list[str]:
        """The command line of containerd."""
        return [f"{self.config}/bin/containerd", f"--config={self.config}/containerd.toml"]

    def kubelet(self) -> list[str]:
        """The command line of the kubelet."""
        return [
            f"{self.config}/bin/kubelet",
            f"--config={self.config}/kubelet.yaml",
            f"--kubeconfig={self.config}/kubeconfig",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            f"--node-labels=node.kubernetes.io/instance-type={self.instance_type}",
        ]

    def import_image(self, archive: str) -> list[str]:
        """The command line that gives the kubelet an image; *archive* is a path as the node sees it."""
        where = [f"--address={self.socket}", "--namespace=k8s.io"]
        return [
            f"{self.config}/bin/ctr",
            *where,
            "image",
            "import",
            "--local",
            f"--snapshotter={self.snapshotter}",
            archive,
        ]


def _fill(template: str, values: Mapping[str, str]) -> str:
    return Template((_TEMPLATES / template).read_text()).substitute(values)

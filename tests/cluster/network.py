"""EDGE: the addresses of a cluster: loopback ports, or the bridge that real nodes and the API server share."""

import os
import random
import socket
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tests.cluster.state import Cluster, ClusterError, Link

BRIDGE: Final = "podsla0"
BRIDGE_ADDRESS: Final = "10.89.0.1"
BRIDGE_CIDR: Final = "10.89.0.0/24"
VM_ADDRESS: Final = "10.89.0.2"
CLUSTER_CIDR: Final = "10.88.0.0/16"
HOST_POD_CIDR: Final = "10.88.0.0/24"
VM_POD_CIDR: Final = "10.88.1.0/24"
SERVICE_CIDR: Final = "10.96.0.0/16"
SERVICE_ADDRESS: Final = "10.96.0.1"  # of the Service `kubernetes`
LOOPBACK: Final = "127.0.0.1"
_PORTS: Final = range(20_000, 32_000)  # below the range from which the kernel takes ports for outgoing connections


def free_ports(names: Sequence[str], taken: Iterable[int]) -> dict[str, int]:
    """Choose a port for each name that nobody listens on, on any address, and that is not *taken*."""
    shut = set(taken)
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):  # so that clusters begun at once rarely meet
        if port not in shut and _is_free(port):
            found.append(port)
        if len(found) == len(names):
            return dict(zip(names, found, strict=True))
    raise ClusterError(f"no {len(names)} ports are free between {_PORTS.start} and {_PORTS.stop}; end what holds them")


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("0.0.0.0", port))  # noqa: S104  # bound for a moment, never listened on
        except OSError:
            return False
    return True


def check_root() -> None:
    """
    Make sure that this process may make a cluster with real nodes.

    Raises:
        ClusterError: It may not.
    """
    if os.geteuid() != 0:
        raise ClusterError("profile parts host and vm make network links and cgroups: run as root, or leave them out")


def create_bridge(cluster: Cluster) -> None:
    """
    Make the bridge that carries the API server's address, and journal it.

    Raises:
        ClusterError: It is there: another cluster with real nodes is up.
    """
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        raise ClusterError(
            f"network link {BRIDGE} exists: a machine holds one cluster with real nodes. "
            f"See `python -m tests.cluster list`, and take that one down; if none is listed: `ip link delete {BRIDGE}`"
        )
    cluster.journal.record(Link(BRIDGE))
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("address", "add", f"{BRIDGE_ADDRESS}/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")


def ip(*arguments: str) -> None:
    """
    Run ip(8).

    Raises:
        ClusterError: It is missing or refuses; its own words are in the message.
    """
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ClusterError("the program `ip` is missing: install iproute2") from None
    if done.returncode:
        raise ClusterError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")

"""EDGE: a control plane, two replicas of the webhook behind a balancer, and two controllers, all of them processes."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Final, TypeAlias

from controller.world import WEBHOOKS
from kube.api import Api
from kube.kinds import LEASES, NAMESPACES
from tests.cluster import binaries, lifecycle
from tests.cluster.control_plane import restart_api_server, restart_etcd
from tests.cluster.install import NAMESPACE, OVERLAYS, PODSLA, ROOT, kubectl, service_account_kubeconfig
from tests.cluster.network import LOOPBACK, free_ports
from tests.cluster.processes import is_alive, start
from tests.cluster.profile import parse_profile
from tests.cluster.state import Cluster, Process
from tests.soak.balancer import Balancer
from tests.soak.clock import Clock
from tests.waiting import eventually

DRAIN_S: Final = 5
WAIT_S: Final = 60.0
HOME: Final = "soak"  # the namespace of the pods
Usage: TypeAlias = tuple[int, int, int]


class Stand:
    """
    What the events of a soak act on.

    Attributes:
        source: The folder whose manifests are applied and whose code runs from now on.
    """

    def __init__(self, cluster: Cluster, balancer: Balancer, source: Path = ROOT) -> None:
        self.cluster, self.balancer, self.api = cluster, balancer, Api.connect(cluster.kubeconfig)
        self.source = source
        self.replicas: dict[int, Process] = {}
        self.controllers: dict[str, Process] = {}
        self._numbers = count(1)

    def install(self) -> None:
        """Apply the manifests, and start two of each."""
        self.apply()
        kubectl(self.cluster, "wait", "--for=condition=Established", "crd/speccatalogs.podsla.io", "--timeout=30s")
        for _ in range(2):
            self.start_controller()
        for _ in range(2):
            self.start_replica()
        eventually(lambda: all(self.bundles()), "the CA bundle of every entry", WAIT_S)
        self.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})
        account = f"/api/v1/namespaces/{HOME}/serviceaccounts/default"
        eventually(lambda: self.api.send("GET", account).status == 200, "the service account", WAIT_S)

    def apply(self) -> None:
        """Apply what manifests/ holds for processes outside."""
        manifests = kubectl(self.cluster, "kustomize", str(self.source / OVERLAYS.relative_to(ROOT) / "outside"))
        manifests = manifests.replace(f"{LOOPBACK}:8443", f"{LOOPBACK}:{self.balancer.port}")
        kubectl(self.cluster, "apply", "--server-side", "-f", "-", text=manifests)

    def clock(self) -> Clock:
        """Make a wall clock, which goes right."""
        return Clock(self.cluster, f"clock-{next(self._numbers)}")

    def start_controller(self, clock: Clock | None = None) -> str:
        """Start a controller, and name it."""
        name = f"controller-{next(self._numbers)}"
        self.controllers[name] = self._start("controller", self._port(), "--identity", name, clock=clock)[1]
        return name

    def end_controller(self, name: str) -> None:
        """End a controller by SIGTERM, and wait until it is gone."""
        process = self.controllers.pop(name)
        os.kill(process.pid, signal.SIGTERM)
        eventually(lambda: not is_alive(process), f"{name} has ended", WAIT_S)

    def start_replica(self, clock: Clock | None = None) -> int:
        """Start a replica, and wait until calls are routed to it."""
        arguments = ("--address", LOOPBACK, "--drain", str(DRAIN_S))
        port, process = self._start("webhook", self._port(), *arguments, clock=clock)
        self.replicas[port] = process
        self.balancer.replicas.add(port)
        eventually(lambda: port in self.balancer.ready, f"replica {port} is ready", WAIT_S)
        return port

    def end_replica(self, port: int) -> None:
        """End a replica by SIGTERM, and wait until it is gone."""
        process = self.replicas.pop(port)
        os.kill(process.pid, signal.SIGTERM)
        eventually(lambda: port not in self.balancer.ready, f"replica {port} is out of service", WAIT_S)
        eventually(lambda: not is_alive(process), f"replica {port} has ended", WAIT_S)
        self.balancer.replicas.discard(port)

    def kill_replica(self, port: int) -> None:
        """Kill a replica with its worker, as the end of a container does."""
        process = self.replicas.pop(port)
        os.killpg(process.pid, signal.SIGKILL)
        eventually(lambda: port not in self.balancer.ready, f"replica {port} is out of service", WAIT_S)
        self.balancer.replicas.discard(port)

    def lose_podsla(self) -> None:
        """Kill every process of podsla; nobody starts another."""
        for process in self.controllers.values():
            os.killpg(process.pid, signal.SIGKILL)
        self.controllers.clear()
        for port in list(self.replicas):
            self.kill_replica(port)

    def restart_api_server(self) -> None:
        """Stop the API server and start it again."""
        restart_api_server(self.cluster, binaries.find("kube-apiserver"))

    def restart_etcd(self) -> None:
        """Stop etcd and start it again on its data; the API server stays."""
        restart_etcd(self.cluster, binaries.find("etcd"))

    def leader(self) -> Process:
        """The controller that leads."""

        def found() -> Process | None:
            lease = self.api.get(LEASES, "podsla-controller", NAMESPACE) or {}
            return self.controllers.get(lease.get("spec", {}).get("holderIdentity", ""))

        leading = eventually(found, "a controller leads", WAIT_S)
        assert leading is not None
        return leading

    def bundles(self) -> list[str]:
        """Read the CA bundle of every entry."""
        configurations = [self.api.get(*webhook) or {} for webhook in WEBHOOKS]
        return [
            hook["clientConfig"].get("caBundle", "") for each in configurations for hook in each.get("webhooks", ())
        ]

    def _port(self) -> int:
        taken = [*self.cluster.ports.values(), *self.replicas, self.balancer.port]
        return free_ports(["one"], taken)["one"]

    def _start(self, name: str, port: int, *arguments: str, clock: Clock | None) -> tuple[int, Process]:
        config = service_account_kubeconfig(self.cluster, f"podsla-{name}")
        argv = [str(PODSLA), name, "--kubeconfig", str(config), "--port", str(port), *arguments]
        env = {"PYTHONPATH": str(self.source), **(clock.env if clock is not None else {})}
        return port, start(self.cluster, f"{name}-{next(self._numbers)}", argv, env=env, cwd=self.source)


@contextmanager
def stand(name: str, report: Callable[[str], None], source: Path = ROOT) -> Iterator[Stand]:
    """Bring everything up, of the code and the manifests in *source*; all of it is taken down at the end."""
    with ExitStack() as ended:
        ended.callback(lifecycle.down, name, report)
        cluster = lifecycle.up(name, parse_profile("control-plane"), report)
        port = free_ports(["balancer"], cluster.ports.values())["balancer"]
        made = Stand(cluster, ended.enter_context(Balancer(port)), source)
        made.install()
        yield made


def usage(pid: int) -> Usage:
    """Resident memory in MiB, descriptors and threads of one process (Linux)."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return int(status["VmRSS"].split()[0]) >> 10, descriptors, int(status["Threads"])

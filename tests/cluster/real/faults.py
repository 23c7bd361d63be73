"""EDGE: what goes wrong in a real cluster, on purpose."""

import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from kube.api import Object
from tests.cluster import dying_agent, vm
from tests.cluster.deviceplugin import FOLDER, UNHEALTHY
from tests.cluster.gpus import METRICS
from tests.cluster.install import NAMESPACE as SYSTEM
from tests.cluster.install import kubectl
from tests.cluster.processes import is_alive
from tests.cluster.real.pods import wait_running
from tests.cluster.state import Cluster, Process
from tests.system.user import User

RELOADS_S: Final = 120.0
SOON_S: Final = 1.5
DEATHS: Final = Path(dying_agent.__file__).with_name("dying_controller.py")
CONTROLLER: Final = "deployment/podsla-controller"


class Strike(NamedTuple):
    """
    What strikes a pod that has a device open.

    Attributes:
        policy: How the pod's attachment is to end.
        command: What kubectl is told; "{namespace}" is the pod's, "{placeholder}" the pod that reserves.
        text: What it reads, likewise.
        reasons: Why the attachment may say that it ended; none: it goes with its pod.
    """

    policy: str
    command: str
    text: str = ""
    reasons: frozenset[str] = frozenset()

    def argv(self, **names: str) -> list[str]:
        """What kubectl is told of these names."""
        return [word.format(**names) for word in self.command.split()]


@contextmanager
def api_server_away(cluster: Cluster) -> Iterator[None]:
    """Let the API server stand still: connections open, and nothing answers."""
    processes = [made for made in cluster.journal.read() if isinstance(made, Process)]
    server = next(made for made in processes if made.name == "kube-apiserver" and is_alive(made))
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def kill_agent() -> None:
    """Kill the agent of this machine; its kubelet starts it again in the same pod."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if {b"agent", b"--watch"} <= {*(folder / "cmdline").read_bytes().split(b"\0")}:
                os.kill(int(folder.name), signal.SIGKILL)


@contextmanager
def killed_meanwhile() -> Iterator[None]:
    """Kill the agent of this machine at some moment soon, while something else is done, or right after it."""
    killer = threading.Timer(random.uniform(0.0, SOON_S), kill_agent)  # noqa: S311 - any moment will do
    killer.start()
    try:
        yield
    finally:
        killer.join()


class Order(NamedTuple):
    """What the agent of this machine was told; see `tests/cluster/dying_agent.py`."""

    file: Path

    @property
    def obeyed(self) -> bool:
        """Whether it has died."""
        return not self.file.exists()


@contextmanager
def dying_at(number: int) -> Iterator[Order]:
    """Have the agent of this machine die at the n-th moment from now; its kubelet starts it again."""
    order = Order(METRICS / dying_agent.DIES_AT)
    dying_agent.put(order.file, number)
    try:
        yield order
    finally:
        order.file.unlink(missing_ok=True)


@contextmanager
def clocks_ahead(seconds: float) -> Iterator[None]:
    """Put the clocks of the agent of this machine forward; afterwards another one begins, by the machine's own."""
    order = METRICS / dying_agent.AHEAD_S
    dying_agent.put(order, seconds)
    try:
        yield
    finally:
        order.unlink()
        kill_agent()


@contextmanager
def dying_controllers(cluster: Cluster) -> Iterator[None]:
    """Have both controllers die after every write about attachments; see `tests/cluster/dying_controller.py`."""
    mounts = [{"name": "dying", "mountPath": "/dying"}, {"name": "away", "mountPath": "/away"}]
    container = {"name": "controller", "env": [{"name": "PYTHONPATH", "value": "/dying"}], "volumeMounts": mounts}
    volumes = [{"name": "dying", "configMap": {"name": "tests-dying"}}, {"name": "away", "emptyDir": {}}]
    patch = {"spec": {"template": {"spec": {"volumes": volumes, "containers": [container]}}}}
    meta = {"name": "tests-dying", "namespace": SYSTEM}
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"sitecustomize.py": DEATHS.read_text()}}
    try:
        kubectl(cluster, "apply", "-f", "-", text=json.dumps(code))
        kubectl(cluster, "-n", SYSTEM, "patch", CONTROLLER, "-p", json.dumps(patch))
        _wait_rolled_out(cluster)
        yield
    finally:
        kubectl(cluster, "-n", SYSTEM, "rollout", "undo", CONTROLLER)
        _wait_rolled_out(cluster)
        kubectl(cluster, "-n", SYSTEM, "delete", "configmap", "tests-dying")


def _wait_rolled_out(cluster: Cluster) -> None:
    kubectl(cluster, "-n", SYSTEM, "rollout", "status", CONTROLLER, "--timeout=180s")


@contextmanager
def unhealthy(gpu: Object) -> Iterator[None]:
    """Have the device plugin of this machine say that a device is not well."""
    file = FOLDER / UNHEALTHY
    file.write_text(gpu["uuid"])
    try:
        yield
    finally:
        file.unlink()


@contextmanager
def reloading() -> Iterator[None]:
    """Have the systemd of the virtual node make every device rule anew, over and over."""
    loop = "while sleep 5; do systemctl daemon-reload && echo >> /run/reloads; done"
    began = vm.run(["sh", "-c", f": > /run/reloads; systemd-run --unit=reloads sh -c '{loop}'"])
    assert began.returncode == 0, began.output
    try:
        yield
    finally:
        vm.run(["systemctl", "stop", "reloads"])


def wait_reload() -> None:
    """Wait until systemd has reloaded once more, from its first word to its last."""
    count = "$(wc --lines < /run/reloads)"
    script = f"last=$(({count} + 1)); until [ {count} -gt $last ]; do sleep 1; done"
    assert vm.run(["sh", "-c", script], deadline_s=RELOADS_S).returncode == 0


def allowed_by_systemd(user: User, pod: str) -> list[str]:
    """List which devices the systemd of the virtual node knows that a pod's container may open."""
    told = vm.run(["systemctl", "show", "--property=DeviceAllow", "--value", _unit(user, pod)])
    assert told.returncode == 0, told.output
    return sorted(told.output.splitlines())


def set_property(user: User, pod: str) -> None:
    """Have the systemd of the virtual node change something else of a pod's container, and its rules with it."""
    told = vm.run(["systemctl", "set-property", "--runtime", _unit(user, pod), "TasksMax=500"])
    assert told.returncode == 0, told.output


def _unit(user: User, pod: str) -> str:
    (container,) = wait_running(user, pod)["status"]["containerStatuses"]
    return f"cri-containerd-{container['containerID'].rpartition('://')[2]}.scope"

"""What an agent costs while nothing happens: real containers on the node, two of them with a device attached.

The agent is the command as a node runs it; its processor time and memory, with those of the child that opens devices,
are read from /proc.
"""

import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from attach.model import CgroupVersion
from attach.reservation import Device, PodDevices
from bench.attach import Row
from bench.proc import resident_mib, tree, tree_cpu_s
from catalog.keys import PLACEHOLDER
from tests.answering import JsonHandler
from tests.attach.kubelet import kubelet
from tests.attach.node.conftest import missing
from tests.attach.node.containers import Machine, Runtime, build_root, build_workload, hierarchies, in_version, machine
from tests.attach.node.files import PODSLA, attachment, write_desired, write_inventory
from tests.attach.node.world import RealWorld
from tests.podsla.apiserver import kubeconfig
from tests.waiting import eventually

CONTAINERS: Final = 110  # as many as a kubelet takes by default
SETTLE_S: Final = 10.0
WATCHED_S: Final = 60.0
NODE: Final = "node-1"


def bench_idle() -> Iterator[Row]:
    """Watch an agent for a minute, on each version of cgroups that this machine has."""
    if lacking := missing():
        yield "agent at rest", "-", "-", f"not measured: {lacking}"
        return
    for world, here in fresh_worlds():
        yield _watch(world, here, world.version)
        yield _in_cluster(world, here, world.version)


def fresh_worlds() -> Iterator[tuple[RealWorld, Machine]]:
    """Make a world for each version of cgroups that this machine has; one ends before the next one begins."""
    for version, hierarchy in sorted(hierarchies().items(), reverse=True):
        with machine() as here:
            root = build_root(here.folder, build_workload(here.folder), busybox=False)
            world = RealWorld(Runtime("runc", version, here, root), hierarchy)
            try:
                yield world, here
            finally:
                world.close()


def _watch(world: RealWorld, here: Machine, version: CgroupVersion) -> Row:
    containers = [world.start() for _ in range(CONTAINERS)]
    files = write_inventory(here.folder, world.devices)
    lent = [
        attachment(f"u{number}", containers[-1 - number].target, f"GPU-{number}")
        for number in range(len(world.devices))
    ]
    with run_agent(version, [*files, "--desired", str(write_desired(here.folder, *lent))], here.folder / "log") as pid:
        for number, device in enumerate(world.devices):
            container = containers[-1 - number]
            eventually(lambda it=container, at=device.path: it.opens(at) == 0, f"{device.path} is attached")  # type: ignore[misc]
        what = f"cgroup {version}: agent at rest, {CONTAINERS} containers, {len(lent)} with a device"
        return what, _share(pid), "", f"{resident_mib(pid):.1f} MiB"


def _share(pid: int) -> str:
    """Watch a process and its children for a while, once they have settled; say how much of a core they take."""
    time.sleep(SETTLE_S)
    before_s, begun = tree_cpu_s(pid), time.monotonic()
    time.sleep(WATCHED_S)
    return f"{(tree_cpu_s(pid) - before_s) / (time.monotonic() - begun):.2%} of a core"


def _in_cluster(world: RealWorld, here: Machine, version: CgroupVersion) -> Row:
    """Read what an agent takes that follows a cluster, and has attached a device that the kubelet gave."""
    folder, web, device = here.folder / "cluster", world.start(), world.devices[0]
    folder.mkdir()
    files, socket = write_inventory(folder, world.devices), folder / "kubelet.sock"
    running = {"name": "main", "containerID": f"containerd://{web.target.container_id}", "state": {"running": {}}}
    pods = [_pod(f"pod-{number}", f"uid-{number}") for number in range(CONTAINERS - 2)]
    pods += [_pod("web", web.target.uid, containerStatuses=[running]), _pod("holder", "h-1")]
    pods[-1]["metadata"]["labels"] = {PLACEHOLDER: "a-1"}
    known = {"node": NODE, "podUID": web.target.uid, "container": "main"}
    lent = {
        "apiVersion": "podsla.io/v1beta1",
        "kind": "GPUAttachment",
        "metadata": {"name": "a", "namespace": "team-a", "uid": "a-1", "resourceVersion": "1"},
        "spec": {"podName": "web"},
        "status": {**known, "placeholder": {"name": "holder", "uid": "h-1"}},
    }
    given = (PodDevices("team-a", "holder", (Device("nvidia.com/gpu", "GPU-0"),)),)
    with _ApiServer(pods=pods, gpuattachments=[lent]) as server, kubelet(socket, given):
        config = folder / "config"
        config.write_text(kubeconfig({"here": f"http://127.0.0.1:{server.server_port}"}))
        reach = ["--kubeconfig", str(config), "--node", NODE, "--kubelet-socket", str(socket)]
        options = [*files, *reach, "--every", "1.5"]  # as the DaemonSet has it
        with run_agent(version, options, folder / "log") as pid:
            eventually(lambda: web.opens(device.path) == 0, f"{device.path} is attached")
            share = _share(pid)
            child = sum(resident_mib(one) for one in [*tree(pid)][1:])
            note = f"{resident_mib(pid):.1f} MiB, {child:.1f} of them the child's"
    what = f"cgroup {version}: agent at rest in a cluster, {CONTAINERS} pods, one with a device"
    return what, share, "", note


def _pod(name: str, uid: str, **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "team-a", "uid": uid, "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {"nodeName": NODE}, "status": {"phase": "Running", **status}}


class _ApiServer(ThreadingHTTPServer):
    """An API server in which nothing changes; *lists* are its collections by plural, all others are empty."""

    def __init__(self, **lists: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Lists)
        self.lists, self._thread = lists, threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Lists(JsonHandler, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _ApiServer

    def do_GET(self) -> None:
        if "watch=" in self.path:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            time.sleep(3 * SETTLE_S + WATCHED_S)
            return
        plural = self.path.partition("?")[0].rpartition("/")[2]
        items = self.server.lists.get(plural, [])
        self.answer(200, {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})

    def do_PATCH(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, {})


@contextmanager
def run_agent(version: CgroupVersion, options: list[str], log: Path) -> Iterator[int]:
    """Run an agent; its process is the one that is started, for each program on the way becomes the next."""
    command = in_version(version, [*PODSLA, "agent", "--watch", *options])
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as agent:
        try:
            yield agent.pid
        finally:
            agent.terminate()
            eventually(lambda: agent.poll() is not None, "the agent has ended")


if __name__ == "__main__":
    for row in bench_idle():
        print(*row, sep="  ")

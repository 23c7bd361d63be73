"""What an agent costs while nothing happens: real containers on the node, two of them with a device attached.

The agent is the command as a node runs it; its processor time and memory, with those of the child that opens devices,
are read from /proc.
"""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from attach.model import CgroupVersion
from bench.attach import Row
from bench.proc import resident_mib, tree_cpu_s
from tests.attach.node.conftest import missing
from tests.attach.node.containers import Machine, Runtime, build_root, build_workload, hierarchies, in_version, machine
from tests.attach.node.files import PODSLA, attachment, write_desired, write_inventory
from tests.attach.node.world import RealWorld, stand_ins
from tests.waiting import eventually

CONTAINERS: Final = 110  # as many as a kubelet takes by default
SETTLE_S: Final = 10.0
WATCHED_S: Final = 60.0


def bench_idle() -> Iterator[Row]:
    """Watch an agent for a minute, on each version of cgroups that this machine has."""
    if lacking := missing():
        yield "agent at rest", "-", "-", f"not measured: {lacking}"
        return
    for version, hierarchy in sorted(hierarchies().items(), reverse=True):
        with machine() as here:
            root = build_root(here.folder, build_workload(here.folder), busybox=False)
            world = RealWorld(Runtime("runc", version, here, root), hierarchy)
            try:
                yield _watch(world, here, version)
                yield _in_cluster(here, version)
            finally:
                world.close()


def _watch(world: RealWorld, here: Machine, version: CgroupVersion) -> Row:
    containers = [world.start() for _ in range(CONTAINERS)]
    files = write_inventory(here.folder, world.devices)
    lent = [
        attachment(f"u{number}", containers[-1 - number].target, f"GPU-{number}")
        for number in range(len(world.devices))
    ]
    with _agent(version, [*files, "--desired", str(write_desired(here.folder, *lent))], here.folder / "log") as pid:
        for number, device in enumerate(world.devices):
            container = containers[-1 - number]
            eventually(lambda it=container, at=device.path: it.opens(at) == 0, f"{device.path} is attached")  # type: ignore[misc]
        time.sleep(SETTLE_S)
        before_s, begun = tree_cpu_s(pid), time.monotonic()
        time.sleep(WATCHED_S)
        share = (tree_cpu_s(pid) - before_s) / (time.monotonic() - begun)
        what = f"cgroup {version}: agent at rest, {CONTAINERS} containers, {len(lent)} with a device"
        return what, f"{share:.2%} of a core", "", f"{resident_mib(pid):.1f} MiB"


def _in_cluster(here: Machine, version: CgroupVersion) -> Row:
    """Read what an agent takes that watches a cluster in which nothing is lent: the Kubernetes client, and the pods."""
    folder = here.folder / "cluster"
    folder.mkdir()
    inventory = write_inventory(folder, stand_ins())
    with ThreadingHTTPServer(("127.0.0.1", 0), _Lists) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (folder / "config").write_text(
            '{"apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "x", "user": {}}], '
            '"contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}], '
            f'"clusters": [{{"name": "x", "cluster": {{"server": "http://127.0.0.1:{server.server_port}"}}}}]}}'
        )
        options = [*inventory, "--kubeconfig", str(folder / "config"), "--node", "node-1"]
        with _agent(version, options, folder / "log") as pid:
            time.sleep(SETTLE_S)
            taken = resident_mib(pid)
        server.shutdown()
    return f"cgroup {version}: agent at rest that watches a cluster, {CONTAINERS} pods", "", "", f"{taken:.1f} MiB"


class _Lists(BaseHTTPRequestHandler):
    """An API server whose every list is empty but that of pods, and where nothing changes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "watch=" in self.path:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            time.sleep(2 * SETTLE_S)
            return
        named = {"spec": {"nodeName": "node-1"}, "status": {"phase": "Running"}}
        pods = [
            {
                "metadata": {"name": f"pod-{n}", "namespace": "team-a", "uid": f"uid-{n}", "resourceVersion": "1"},
                **named,
            }
            for n in range(CONTAINERS)
        ]
        items = pods if "/pods" in self.path else []
        body = json.dumps({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _agent(version: CgroupVersion, options: list[str], log: Path) -> Iterator[int]:
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

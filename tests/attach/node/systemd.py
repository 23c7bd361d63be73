"""A real systemd in namespaces of its own, whose scopes stand for containers."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attach.cgroup import Hierarchy
from attach.model import CgroupVersion, Container, Target
from attach.processes import HostProcesses
from tests.attach.node.containers import Machine, Workload
from tests.waiting import eventually

# systemd answers only whom it sees: one in its PID namespace, as an agent with hostPID is. This one speaks for us.
RELAY = """
import select, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
while True:
    client, peer = server.accept()[0], socket.socket(socket.AF_UNIX)
    try:
        peer.connect(sys.argv[2])
    except OSError:  # it is just starting anew
        client.close()
        continue
    client.setblocking(False)
    peer.setblocking(False)
    ends = {client: peer, peer: client}
    try:
        while ends:
            for end in select.select(ends, [], [])[0]:
                data = end.recv(65536)
                ends[end].sendall(data) if data else ends.clear()
                if not ends:
                    break
    except OSError:  # one of them went away, as an agent that is killed does
        pass
    client.close()
    peer.close()
"""
ALLOWED = ("/dev/null rwm", "/dev/zero rwm")
OWN_DEV = """
mount -t tmpfs -o mode=755 tmpfs /dev
mknod -m 666 /dev/null c 1 3
mknod -m 666 /dev/zero c 1 5
exec "$@"
"""


def _family(major: int) -> str:
    """Name the devices of a major number, as systemd wants them named."""
    characters = Path("/proc/devices").read_text().partition("Block devices")[0]
    return next(name for number, name in map(str.split, characters.splitlines()[1:-1]) if number == str(major))


@dataclass(frozen=True, slots=True)
class Systemd:
    """A systemd, told by the words of a runtime."""

    pid: int
    control: Path
    hierarchy: Hierarchy
    machine: Machine
    root: Path
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def private(self) -> Path:
        return Path(f"/proc/{self.pid}/root/run/systemd/private")

    @property
    def socket(self) -> Path:
        return self.control / "systemd"

    def listen(self) -> None:
        """Have somebody in its PID namespace pass on what is sent to `socket`."""
        eventually(self.private.exists, "systemd listens")
        enter = ["nsenter", "--target", str(self.pid), "--pid"]
        self._started.append(
            subprocess.Popen([*enter, sys.executable, "-I", "-c", RELAY, str(self.socket), str(self.private)])
        )
        eventually(self.socket.exists, "it is passed on")

    def run(self, *command: str) -> str:
        """Run a command beside it, and wait."""
        done = subprocess.run([*self._enter(), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def reload(self, container: Container, *command: str) -> None:
        """Have it load its units anew, and wait: a reexec goes on after its command has ended."""
        self.run("systemctl", *(container.cgroup.unit if each == "UNIT" else each for each in command))
        eventually(lambda: self.listed(container), "systemd answers again")

    def _enter(self) -> list[str]:
        namespaces = ("--mount", "--pid", "--cgroup", "--root", "--wd")
        return ["nsenter", "--target", str(self.pid), *namespaces]

    def start(
        self, target: Target, /, *, privileged: bool = False, devices: Sequence[Mapping[str, Any]] = (), **_: Any
    ) -> Workload:
        """Start a container's process in a scope with a list of devices, named as containerd and kubelet do."""
        families = [f"char-{_family(each['major'])} {each['access']}" for each in devices]
        pod = f"kubepods-burstable-pod{target.uid.replace('-', '_')}.slice"
        allowed = [f"DeviceAllow={each}" for each in (*ALLOWED, *families)]
        rules = [] if privileged else ["DevicePolicy=strict", *allowed]
        properties = [part for rule in rules for part in ("--property", rule)]
        scope = ["systemd-run", "--scope", f"--slice={pod}", f"--unit=cri-containerd-{target.container_id}"]
        own_dev = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", OWN_DEV, "sh"]
        name = target.container_id[:12]
        command = [*self._enter(), *scope, *properties, *own_dev, "/workload", f"/ctl/{name}"]
        null = subprocess.DEVNULL
        self._started.append(subprocess.Popen(command, stdin=null, stdout=null, stderr=null))
        container = eventually(lambda: self._found(target), "the scope is there")
        workload = Workload(target, container.init.pid, self.control / name, CgroupVersion.V2)
        eventually(lambda: workload.ask("try /dev/null").error == 0, "its process answers")
        return workload

    def delete(self, target: Target) -> None:
        """End a scope and all that is in it."""
        if (container := self.find(target)) is not None:
            self.run("systemctl", "kill", "--signal=KILL", container.cgroup.unit)
            eventually(lambda: not Path(container.cgroup.path).exists(), "its cgroup is removed")

    def find(self, target: Target) -> Container | None:
        return HostProcesses(self.hierarchy).find(target)

    def _found(self, target: Target) -> Container:
        container = self.find(target)
        assert container is not None
        return container

    def end(self) -> None:
        """End all that was started."""
        for process in self._started:
            process.kill()
            process.wait()

    def listed(self, container: Container) -> set[str]:
        """Read which devices systemd would allow."""
        out = self.run("systemctl", "show", "--property=DeviceAllow", "--value", container.cgroup.unit)
        return set(out.split("\n")) - {""}

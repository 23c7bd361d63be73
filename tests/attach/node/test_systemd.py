"""A real systemd that rules a container's scope: it reloads, and access stays or is repaired."""

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from attach.cgroup import Hierarchy
from attach.errors import Gone, Unknown
from attach.model import Cgroup, CgroupVersion, Container, DeviceNode, Target
from attach.processes import HostProcesses
from attach.rules2 import Rules2
from attach.systemd import SystemdRules
from tests.attach.node.conftest import skip
from tests.attach.node.containers import Machine, Workload, hierarchies, new_target
from tests.attach.node.test_rules2 import programs
from tests.attach.node.world import stand_ins
from tests.waiting import eventually

SCRIPT = Path(__file__).with_name("systemd.sh")
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
    while ends:
        for end in select.select(ends, [], [])[0]:
            data = end.recv(65536)
            ends[end].sendall(data) if data else ends.clear()
            if not ends:
                break
    client.close()
    peer.close()
"""
ALLOWED = ("/dev/null rwm", "/dev/zero rwm")


@dataclass(frozen=True, slots=True)
class Systemd:
    """A systemd in namespaces of its own."""

    pid: int
    control: Path
    hierarchy: Hierarchy
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

    def start(self) -> tuple[Workload, Container]:
        """Start a container's process in a scope with a list of devices, named as containerd and kubelet do."""
        target = new_target()
        pod = f"kubepods-burstable-pod{target.uid.replace('-', '_')}.slice"
        rules = ["DevicePolicy=strict", *(f"DeviceAllow={each}" for each in ALLOWED)]
        properties = [part for rule in rules for part in ("--property", rule)]
        scope = ["systemd-run", "--scope", f"--slice={pod}", f"--unit=cri-containerd-{target.container_id}"]
        name = target.container_id[:12]
        command = [*self._enter(), *scope, *properties, "/workload", f"/ctl/{name}"]
        null = subprocess.DEVNULL
        self._started.append(subprocess.Popen(command, stdin=null, stdout=null, stderr=null))
        container = eventually(lambda: self._found(target), "the scope is there")
        workload = Workload(target, container.init.pid, self.control / name, CgroupVersion.V2)
        eventually(lambda: workload.ask("try /dev/null").error == 0, "its process answers")
        return workload, self._found(target)

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


@pytest.fixture(scope="module")
def systemd(here: Machine) -> Iterator[Systemd]:
    """A systemd that has come up; it ends with its cgroup."""
    hierarchy = hierarchies().get(CgroupVersion.V2)
    if hierarchy is None:
        skip("this machine has no cgroup version 2 mounted")
    if not Path("/usr/lib/systemd/systemd").exists():
        skip("systemd is not installed: run tests/attach/node/install-packages")
    root, control = here.folder / "systemd", here.folder / "systemd.ctl"
    root.mkdir()
    control.mkdir()
    cgroup = Path(hierarchy.mount, here.name, "systemd")
    cgroup.mkdir(parents=True)
    command = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", str(SCRIPT)]
    with (here.folder / "systemd.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, str(root), str(cgroup), str(here.folder / "workload")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    first = eventually(lambda: (cgroup / "init.scope/cgroup.procs").read_text().split()[:1], "systemd is up")
    made = Systemd(int(first[0]), control, hierarchy)
    made.listen()
    yield made
    made.end()
    process.kill()
    process.wait()


def make_node(workload: Workload) -> str:
    """Put the device's node where the container's process sees it; all scopes share one root here."""
    gpu = stand_ins()[0]
    path = f"/dev/gpu-{workload.target.container_id[:12]}"
    place = workload.host_path(path)
    subprocess.run(["mknod", "--mode=666", str(place), "c", str(gpu.major), str(gpu.minor)], check=True)
    return path


def left_after(change: Callable[[Cgroup, list[DeviceNode]], None], container: Container) -> int:
    """Count a container's programs after a pass."""
    change(container.cgroup, [stand_ins()[0]])
    return len(programs(container.cgroup))


RELOADS = [
    pytest.param(("daemon-reload",), id="daemon-reload"),
    pytest.param(("daemon-reexec",), id="daemon-reexec"),
    pytest.param(("set-property", "--runtime", "UNIT", "TasksMax=500"), id="set-property of something else"),
]


@pytest.mark.parametrize("reload", RELOADS)
def test_a_systemd_that_was_told_gives_the_device_again_by_itself(systemd: Systemd, reload: tuple[str, ...]) -> None:
    """Cases 2 and 3."""
    web, container = systemd.start()
    gpu, path = stand_ins()[0], make_node(web)
    before = systemd.listed(container)
    rules = SystemdRules(Rules2(), systemd.socket)

    assert web.ask(f"try {path}").error == errno.EPERM
    rules.allow(container.cgroup, [gpu])
    assert web.ask(f"try {path}").error == 0
    assert systemd.listed(container) == before | {f"/dev/char/{gpu.major}:{gpu.minor} rw"}
    for _ in range(3):
        systemd.reload(container, *reload)
        assert web.ask(f"try {path}").error == 0
        assert rules.allowed(container.cgroup) == {gpu.rdev}
        eventually(lambda: left_after(rules.allow, container) <= 3, "no program is left behind")

    rules.deny(container.cgroup, [gpu])
    assert web.ask(f"try {path}").error == errno.EPERM
    systemd.reload(container, *reload)
    assert web.ask(f"try {path}").error == errno.EPERM
    assert web.ask("try /dev/zero").error == 0
    assert systemd.listed(container) == before


@pytest.mark.parametrize("reload", RELOADS)
def test_a_systemd_that_was_not_told_takes_the_device_away_and_the_next_pass_repairs_it(
    systemd: Systemd, reload: tuple[str, ...]
) -> None:
    """Cases 2 and 3, and the second line of defence: no reload leaves a program behind."""
    web, container = systemd.start()
    gpu, path, rules = stand_ins()[0], make_node(web), Rules2()
    rules.allow(container.cgroup, [gpu])

    def repaired() -> bool:  # by this pass or a later one: systemd may load another program after it has answered
        return left_after(rules.allow, container) <= 2 and web.ask(f"try {path}").error == 0

    lost = 0
    for _ in range(5):
        systemd.reload(container, *reload)
        lost += web.ask(f"try {path}").error == errno.EPERM
        eventually(repaired, "the device opens again, and no program is left behind")
    assert lost or reload[0] != "daemon-reload"
    rules.deny(container.cgroup, [gpu])
    assert web.ask(f"try {path}").error == errno.EPERM
    assert web.ask("try /dev/zero").error == 0


def test_attaching_over_and_over_leaves_no_program_behind(systemd: Systemd) -> None:
    """Case 16: 64 would fit."""
    web, container = systemd.start()
    gpu, path = stand_ins()[0], make_node(web)
    rules = SystemdRules(Rules2(), systemd.socket)
    for _ in range(40):
        rules.allow(container.cgroup, [gpu])
        assert web.ask(f"try {path}").error == 0
        rules.deny(container.cgroup, [gpu])
        assert web.ask(f"try {path}").error == errno.EPERM
    eventually(lambda: left_after(rules.deny, container) <= 4, "no program is left behind")


def test_a_scope_that_has_ended_is_gone_and_taking_back_is_no_error(systemd: Systemd) -> None:
    web, container = systemd.start()
    gpu, rules = stand_ins()[0], SystemdRules(Rules2(), systemd.socket)
    rules.allow(container.cgroup, [gpu])
    systemd.run("systemctl", "kill", "--signal=KILL", container.cgroup.unit)
    eventually(lambda: systemd.find(web.target) is None, "it has ended")
    eventually(lambda: not Path(container.cgroup.path).exists(), "its cgroup is removed")
    rules.deny(container.cgroup, [gpu])
    with pytest.raises(Gone):
        rules.allow(container.cgroup, [gpu])


def test_a_systemd_that_does_not_answer_leaves_the_access_unknown(systemd: Systemd, tmp_path: Path) -> None:
    """The rule is not taken away behind systemd's back: the next reload would give it again."""
    _, container = systemd.start()
    gpu, rules = stand_ins()[0], SystemdRules(Rules2(), tmp_path / "nobody")
    with pytest.raises(Unknown) as unknown:
        rules.deny(container.cgroup, [gpu])
    assert unknown.value.reason == "SystemdSilent"

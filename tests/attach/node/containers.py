"""
Real containers for the tests, by runc, crun or containerd: unprivileged processes with the default list of devices.

All that is made on the machine has our name and its maker's pid in it, so what a killed run left is found and undone.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from attach.cgroup import Hierarchy
from attach.model import CgroupVersion, Target
from tests.waiting import eventually

PREFIX: Final = "podsla-attach-test-"
SOURCE: Final = Path(__file__).parent / "workload.c"
USER: Final = 1000
GROUP: Final = 1001  # one more of its process
ANSWER_DEADLINE_S: Final = 20.0
UNIFIED: Final = Path("/sys/fs/cgroup/unified")  # where a hybrid host has version 2, beside version 1 with the devices
_SEES: Final = {
    CgroupVersion.V1: f'umount {UNIFIED} || true; exec "$@"',  # crun takes no mixture
    CgroupVersion.V2: 'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"',
}
_SEES_BOTH: Final = f'mountpoint -q {UNIFIED} || mount -t cgroup2 none {UNIFIED}; exec "$@"'
# Where containerd's shims and its runc write whatever they are told, from the outermost folder on.
_ITS_OWN: Final = ("/run/containerd", "/run/containerd/s", "/run/containerd/runc", "/run/containerd/runc/tests")
_NO_LIMITS: Final = "int setrlimit(int what, const void *limit) { (void)what; (void)limit; return 0; }"


def in_version(version: CgroupVersion, command: Sequence[str], *, hybrid: bool = False) -> list[str]:
    """Make a command see only that version of cgroups, or both as on a hybrid host, in a mount namespace of its own."""
    script = _SEES_BOTH if hybrid else _SEES[version]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", *command]


@contextmanager
def _held(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_PATH)
    try:
        yield fd
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a workload says: an errno, 0 for success, and maybe a word and a descriptor."""

    error: int
    text: str = ""
    fd: int = -1


@dataclass(slots=True)
class Workload:
    """A container, and the socket by which its process is told what to do."""

    target: Target
    pid: int
    socket_path: Path
    version: CgroupVersion

    def ask(self, request: str, *, fd: int = -1) -> Answer:
        """Have the container's own process do something."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer, _held(self.socket_path.parent) as folder:
            peer.settimeout(ANSWER_DEADLINE_S)
            peer.connect(f"/proc/self/fd/{folder}/{self.socket_path.name}")  # the whole path is too long
            socket.send_fds(peer, [request.encode()], [fd] if fd >= 0 else [])
            data, fds, _, _ = socket.recv_fds(peer, 512, 1)
        error, _, text = data.decode().partition(" ")
        return Answer(int(error), text, fds[0] if fds else -1)

    def host_path(self, path: str) -> Path:
        """Where a path of the container is on the host; follows the image's own symlinks on the host's side."""
        return Path(f"/proc/{self.pid}/root{path}")


@dataclass(slots=True)
class Machine:
    """A folder with images, and the containers that were started from it."""

    folder: Path
    name: str

    @property
    def cgroup_parent(self) -> str:
        """The cgroup below which all containers are."""
        return f"/{self.name}"


def build_workload(folder: Path) -> Path:
    """Compile what runs in the containers: one static file, which is a whole image."""
    program = folder / "workload"
    subprocess.run(["gcc", "-O1", "-static", "-pthread", "-o", str(program), str(SOURCE)], check=True)
    return program


def build_shim(folder: Path) -> Path:
    """Compile what keeps crun from raising a limit that Linux 5.11 no longer needs, and a machine may forbid."""
    shim = folder / "limits.so"
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(shim)]
    subprocess.run(command, input=_NO_LIMITS.encode(), check=True)
    return shim


def build_root(folder: Path, program: Path, *, busybox: bool) -> Path:
    """Make a root file system: the program alone ("distroless"), or busybox and the program."""
    root = folder / ("busybox" if busybox else "distroless")
    for name in ("dev", "proc", "sys", "ctl", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(program, root / "workload")
    if busybox:
        (root / "bin").mkdir()
        shutil.copy(shutil.which("busybox") or "busybox", root / "bin/busybox")
        for applet in ("sh", "ls", "cat", "mknod"):
            (root / "bin" / applet).symlink_to("busybox")
    return root


def new_target(name: str = "web") -> Target:
    """Name a pod and a container that never were before."""
    return Target("default", name, str(uuid.uuid4()), uuid.uuid4().hex + uuid.uuid4().hex)


def spec(root: Path, control: Path, cgroup_path: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Make the OCI specification of an unprivileged container; what else it has stands in *options*."""
    namespaces = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]
    devices = [{"allow": options.get("privileged", False), "access": "rwm"}]
    linux: dict[str, Any] = {
        "namespaces": namespaces,
        "cgroupsPath": cgroup_path,
        "resources": {"devices": [*devices, *options.get("devices", ())]},
    }
    if options.get("user_namespace"):
        namespaces.append({"type": "user"})
        mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        linux |= {"uidMappings": mapping, "gidMappings": mapping}
    dev = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]}
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        options.get("dev_mount", dev),
        {"destination": "/ctl", "type": "bind", "source": str(control), "options": ["bind", "rw"]},
        *options.get("mounts", ()),
    ]
    process = {
        "user": {"uid": USER, "gid": USER, "additionalGids": [GROUP]},
        "args": [options.get("program", "/workload"), "/ctl/socket"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "noNewPrivileges": True,
        "capabilities": {},
    }
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(root), "readonly": options.get("read_only", False)},
        "mounts": mounts,
        "linux": linux,
    }


def write_bundle(
    bundle: Path, target: Target, root: Path, machine: Machine, options: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Write what a runtime starts a container from: its specification, and the folder of its socket."""
    control = bundle / "ctl"
    control.mkdir(parents=True)
    control.chmod(0o777)
    parent = options.get("parent", f"{machine.cgroup_parent}/kubepods/burstable/pod{target.uid}")
    config = spec(options.get("root", root), control, f"{parent}/{target.container_id}", options)
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle / "config.json", control


@dataclass(slots=True)
class Runtime:
    """runc or crun, which writes the device rules as it always does; *hybrid*: it sees both versions of cgroups."""

    program: str
    version: CgroupVersion
    machine: Machine
    root: Path
    hybrid: bool = False

    def start(self, target: Target, /, **options: Any) -> Workload:
        """Start a container and wait until its process answers."""
        bundle = self.machine.folder / "bundles" / target.container_id
        _, control = write_bundle(bundle, target, self.root, self.machine, options)
        self.call("run", "--detach", "--bundle", str(bundle), target.container_id)
        state = json.loads(self.call("state", target.container_id))
        made = Workload(target, state["pid"], control / "socket", self.version)
        eventually(lambda: made.ask("try /dev/null").error == 0, f"container {target.container_id[:12]} answers")
        return made

    def call(self, *arguments: str) -> str:
        """Run the runtime; raises with what it printed."""
        program = [self.program, "--root", str(self.machine.folder / self.program)]
        command = in_version(self.version, [*program, *arguments], hybrid=self.hybrid)
        log = self.machine.folder / "runtime.log"
        with log.open("ab") as errors:  # not a pipe: the container would hold its end
            out = subprocess.PIPE if arguments[0] == "state" else errors
            shim = {"LD_PRELOAD": str(self.machine.folder / "limits.so")} if self.program == "crun" else {}
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=os.environ | shim, check=False
            )
        if done.returncode:
            raise AssertionError(f"{self.program} {arguments[0]} failed: {log.read_text(errors='replace')[-800:]}")
        return done.stdout.decode() if done.stdout else ""

    def delete(self, target: Target) -> None:
        """End a container and all that is in it."""
        self.call("delete", "--force", target.container_id)


def hierarchies() -> dict[CgroupVersion, Hierarchy]:
    """Find where each version's tree that rules devices is mounted on this machine."""
    found: dict[CgroupVersion, Hierarchy] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, (kind, _, options) = line.split()[4], line.partition(" - ")[2].split(maxsplit=2)
        if kind == "cgroup2":
            found.setdefault(CgroupVersion.V2, Hierarchy(CgroupVersion.V2, mount))
        elif kind == "cgroup" and "devices" in options.split(","):
            found.setdefault(CgroupVersion.V1, Hierarchy(CgroupVersion.V1, mount))
    return found


@contextmanager
def machine() -> Iterator[Machine]:
    """Make a folder to work in; what is made on the machine is undone at the end, and first what killed runs left."""
    for left in leftovers():
        undo(left)
    name = f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex[:6]}"
    folder = Path(tempfile.gettempdir(), name)
    folder.mkdir(0o711)  # not below pytest's own, which a user namespace may not enter
    try:
        yield Machine(folder, name)
    finally:
        undo(name)


def leftovers() -> set[str]:
    """Name what runs left whose pytest no longer runs."""
    places = [*_cgroup_mounts(), Path(tempfile.gettempdir())]
    names = {path.name for place in places for path in place.glob(f"{PREFIX}*")}
    return {name for name in names if not Path(f"/proc/{name.removeprefix(PREFIX).partition('-')[0]}").exists()}


def _cgroup_mounts() -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [Path(line.split()[4]) for line in lines if line.partition(" - ")[2].split()[0].startswith("cgroup")]


def undo(name: str) -> None:
    """End every process below our cgroups, then remove these in every tree, and what is in our folder."""
    folder = Path(tempfile.gettempdir(), name)
    tops = [path for mount in _cgroup_mounts() if (path := mount / name).is_dir()]
    eventually(lambda: not _kill_all(tops, folder), f"no process is left of {name}")
    for top in tops:
        for below, _, _ in os.walk(top, topdown=False):
            eventually(lambda below=below: _removed(below), f"cgroup {below} is removed")  # type: ignore[misc]
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if (point := line.split()[4]).startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", point], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def _kill_all(tops: Sequence[Path], folder: Path) -> bool:
    """Kill what runs in our cgroups, and what was started with our folder's name; False: there is nothing."""
    pids = set[int]()
    for path in [path for top in tops for path, _, _ in os.walk(top)]:
        if (thaw := Path(path, "cgroup.freeze")).exists():
            thaw.write_text("0")
        with suppress(OSError):
            pids.update(int(pid) for pid in Path(path, "cgroup.procs").read_text().split())
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{folder}/".encode() in (process / "cmdline").read_bytes():
                pids.add(int(process.name))
    for pid in pids - {os.getpid()}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids - {os.getpid()})


def _removed(path: str) -> bool:
    with suppress(FileNotFoundError):
        os.rmdir(path)
    return True


@dataclass(slots=True)
class Containerd:
    """A containerd of our own, with its own folders and socket, that runs containers by runc as for a kubelet."""

    version: CgroupVersion
    machine: Machine
    root: Path
    program: str = "containerd"
    daemon: "subprocess.Popen[bytes] | None" = None
    absent: tuple[str, ...] = ()

    @property
    def _folder(self) -> Path:
        return self.machine.folder / f"containerd-{self.version}"

    def begin(self) -> None:
        """Start the daemon, in a mount namespace where it sees one version of cgroups."""
        self._folder.mkdir()
        self.absent = tuple(folder for folder in _ITS_OWN if not Path(folder).exists())
        (self._folder / "config.toml").write_text(
            f'version = 2\nroot = "{self._folder}/root"\nstate = "{self._folder}/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{self._folder}/s"\n'
        )
        command = in_version(self.version, ["containerd", "--config", str(self._folder / "config.toml")])
        with (self._folder / "log").open("wb") as log:
            self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(lambda: self.ctr("version").returncode == 0, "containerd answers")

    def end(self) -> None:
        """Stop the daemon; its shims end with their containers."""
        if self.daemon is not None:
            daemon = self.daemon
            daemon.terminate()
            eventually(lambda: daemon.poll() is not None, "containerd has ended")
        for folder in reversed(self.absent):
            with suppress(OSError):  # another's things are in it by now
                os.rmdir(folder)

    def ctr(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run containerd's own client."""
        command = ["ctr", "--address", f"{self._folder}/s", "--namespace", "tests", *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def start(self, target: Target, /, **options: Any) -> Workload:
        """Start a container and wait until its process answers."""
        bundle = self.machine.folder / "bundles" / target.container_id
        config, control = write_bundle(bundle, target, self.root, self.machine, options)
        done = self.ctr("run", "--detach", "--null-io", "--config", str(config), target.container_id)
        assert done.returncode == 0, done.stderr
        tasks = {line.split()[0]: line.split()[1] for line in self.ctr("task", "list").stdout.splitlines()}
        made = Workload(target, int(tasks[target.container_id]), control / "socket", self.version)
        eventually(lambda: made.ask("try /dev/null").error == 0, f"container {target.container_id[:12]} answers")
        return made

    def delete(self, target: Target) -> None:
        """End a container and all that is in it."""

        def is_gone() -> bool:
            self.ctr("task", "delete", "--force", target.container_id)
            self.ctr("container", "delete", target.container_id)
            left = self.ctr("container", "list", "--quiet")
            return left.returncode == 0 and target.container_id not in left.stdout.split()

        eventually(is_gone, f"container {target.container_id[:12]} is deleted")

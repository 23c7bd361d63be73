"""EDGE: a folder per cluster, and in it the journal of all that the launcher makes on this machine, written first."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.cluster.profile import Profile, parse_profile

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


class ClusterError(Exception):
    """Something on this machine did not work; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process; its start time tells it from a later one with the same pid."""

    pid: int
    start_ticks: int
    name: str


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount, and whatever is mounted below it."""

    path: str


@dataclass(frozen=True, slots=True)
class Link:
    """A network link."""

    name: str


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table, by its destination."""

    destination: str


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A cgroup folder, all below it, and the processes in it."""

    path: str


@dataclass(frozen=True, slots=True)
class Tree:
    """A file or folder outside the cluster's own."""

    path: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command that undoes something; run once or more, so a second run must do no harm."""

    argv: tuple[str, ...]


Resource: TypeAlias = Process | Mount | Link | Route | Cgroup | Tree | Command
_KINDS: Final[Mapping[str, type[Resource]]] = {
    kind.__name__.lower(): kind for kind in (Process, Mount, Link, Route, Cgroup, Tree, Command)
}


@dataclass(frozen=True, slots=True)
class Journal:
    """
    What was made, a line each, in order; a line is written before its effect.

    Entries of an earlier boot are void, but for files: processes, mounts, links and cgroups end with the kernel.
    """

    path: Path

    def record(self, made: Resource) -> None:
        """Write down what is about to be made."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, _entry(made))
        finally:
            os.close(fd)

    def keep(self, left: Iterable[Resource]) -> None:
        """Forget everything but what could not be taken back."""
        written = self.path.with_suffix(".new")
        written.write_bytes(b"".join(map(_entry, left)))
        written.replace(self.path)

    def read(self) -> list[Resource]:
        """All that was made and may still be there, in order; a line cut off by a crash never had its effect."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return []
        complete = text[: text.rfind("\n") + 1]
        return [made for line in complete.splitlines() if (made := _read_entry(json.loads(line))) is not None]


def _entry(made: Resource) -> bytes:
    return json.dumps({"boot": boot_id(), "kind": type(made).__name__.lower(), **asdict(made)}).encode() + b"\n"


def _read_entry(entry: dict[str, Any]) -> Resource | None:
    boot, kind = entry.pop("boot"), _KINDS[entry.pop("kind")]
    if kind is Command:
        entry["argv"] = tuple(entry["argv"])
    return kind(**entry) if boot == boot_id() or kind is Tree else None


@dataclass(frozen=True, slots=True)
class Cluster:
    """
    A cluster as its state folder has it.

    Attributes:
        address: Where the API server listens: loopback, or the bridge that real nodes reach.
        ports: A port per component, unique on this machine.
        ready: False until everything that the profile names has come up.
    """

    name: str
    profile: Profile
    folder: Path
    address: str
    ports: Mapping[str, int]
    ready: bool = False

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return f"https://{self.address}:{self.ports['kube-apiserver']}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def pki(self) -> Path:
        """The folder of keys, certificates and the components' kubeconfigs."""
        return self.folder / "pki"

    @property
    def data(self) -> Path:
        """The folder of what components keep."""
        return self.folder / "data"

    @property
    def journal(self) -> Journal:
        """What this cluster made on the machine."""
        return Journal(self.folder / "resources.jsonl")

    def log(self, name: str) -> Path:
        """The log file of a component."""
        return self.folder / "log" / f"{name}.log"

    def save(self) -> None:
        """Write `cluster.json` in one piece."""
        shown = {"name": self.name, "profile": str(self.profile), "address": self.address, "ports": dict(self.ports)}
        text = json.dumps({**shown, "server": self.server, "kubeconfig": str(self.kubeconfig), "ready": self.ready})
        written = self.folder / "cluster.json.new"
        written.write_text(text + "\n")
        written.replace(self.folder / "cluster.json")

    def with_ready(self) -> "Cluster":
        """The same cluster, complete."""
        return replace(self, ready=True)


def state_folder() -> Path:
    """Where clusters are kept: `PODSLA_STATE`, else below `XDG_STATE_HOME`, else `~/.local/state`."""
    given = os.environ.get("PODSLA_STATE")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return (Path(given) if given else Path(base) / "podsla").absolute() / "clusters"


def cluster_folder(name: str) -> Path:
    """
    The folder of a cluster, which need not exist.

    Raises:
        ClusterError: The name is no DNS label of at most 40 characters.
    """
    if not _NAME.fullmatch(name):
        raise ClusterError(
            f"cluster name {name!r}: use at most 40 lower-case letters, digits and hyphens, as in podsla-2"
        )
    return state_folder() / name


def create_folder(cluster: Cluster) -> None:
    """Make the cluster's folders and write `cluster.json`."""
    for folder in (cluster.folder, cluster.pki, cluster.data, cluster.folder / "log"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    cluster.save()


def load_cluster(name: str) -> Cluster | None:
    """Read a cluster from its folder; None where there is none, or its launcher died before it wrote anything."""
    folder = cluster_folder(name)
    try:
        kept = json.loads((folder / "cluster.json").read_text())
    except FileNotFoundError:
        return None
    return Cluster(name, parse_profile(kept["profile"]), folder, kept["address"], kept["ports"], kept["ready"])


def list_names() -> list[str]:
    """Every name that has a folder, crashed ones too."""
    folder = state_folder()
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def remove_folder(name: str) -> None:
    """Remove what the cluster kept; only once everything in its journal is undone."""
    remove_tree(cluster_folder(name))


def remove_tree(path: Path) -> None:
    """
    Remove a file, a symbolic link or a folder; one that is gone already is no error.

    Raises:
        ClusterError: Something is mounted in it, whose files would go too.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if mounts := mounted_below(path):
        raise ClusterError(f"{path} is kept, since {', '.join(mounts)} is mounted in it; unmount, then run down again")
    shutil.rmtree(path)


def mounted_below(folder: Path) -> list[str]:
    """Every mount at *folder* or in it."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    plain = [mount.encode().decode("unicode_escape") for mount in mounts]  # \040 stands for a space
    return [mount for mount in plain if Path(mount).is_relative_to(folder)]


@contextmanager
def locked(name: str) -> Iterator[None]:
    """
    Keep other launchers from this name.

    Raises:
        ClusterError: Another launcher is at work on it.
    """
    state_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state_folder() / f"{cluster_folder(name).name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterError(f"another launcher is at work on cluster {name!r}; wait for it, or end it") from None
        yield


@cache
def boot_id() -> str:
    """Which run of the kernel this is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

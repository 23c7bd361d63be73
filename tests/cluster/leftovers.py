"""EDGE: what clusters leave on a machine: takes a snapshot of all kinds of things they make, and compares two."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.cluster.residue import found
from tests.cluster.state import state_folder

SETTLE_S: Final = 10.0  # the kernel removes a network namespace, and the links in it, some time after its last user
_WATCHED: Final = ("/run", "/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/var/log/pods")
_POLL_S: Final = 0.1


def snapshot() -> frozenset[str]:
    """List, a line each: mounts, links, routes, cgroups, firewall chains and watched files; processes of ours only."""
    return frozenset(
        [*_processes(), *_mounts(), *_routes(), *_cgroups(), *found(), *_files(), *_children("link", "/sys/class/net")]
    )


def leftovers(before: frozenset[str]) -> list[str]:
    """List what there is now and was not in the snapshot *before*, once nothing more goes away by itself."""
    deadline = time.monotonic() + SETTLE_S
    while (left := snapshot() - before) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return sorted(left)


def _processes() -> Iterator[str]:
    """Processes that name our state folder in their command line, or work in it: other people's come and go."""
    ours = str(state_folder())
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(ours in word for word in words) or str((folder / "cwd").readlink()).startswith(ours):
                yield f"process {folder.name} {' '.join(words)[:200]}"


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        yield f"mount {line.split()[4]}"


def _routes() -> Iterator[str]:
    shown = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True)
    for line in shown.stdout.splitlines():
        yield f"route {line.strip()}"


def _cgroups() -> Iterator[str]:
    mount = Path("/sys/fs/cgroup")
    for folder in (*mount.glob("kubepods*"), *mount.glob("*/kubepods*")):  # version 2, and each controller of version 1
        yield f"cgroup {folder}"


def _files() -> Iterator[str]:
    for folder in _WATCHED:
        if Path(folder).exists():
            yield f"file {folder}"
            yield from _children("file", folder)


def _children(kind: str, folder: str) -> Iterator[str]:
    for path in Path(folder).iterdir():
        yield f"{kind} {path if kind == 'file' else path.name}"

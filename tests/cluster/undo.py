"""EDGE: takes back what a journal says was made, last first; what is gone already is no error."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.cluster.network import ip
from tests.cluster.processes import stop
from tests.cluster.state import (
    Cgroup,
    ClusterError,
    Command,
    Journal,
    Link,
    Mount,
    Process,
    Resource,
    Route,
    Tree,
    mounted_below,
    remove_tree,
)

_CGROUP_S: Final = 10.0
_COMMAND_S: Final = 60.0


def undo(journal: Journal) -> None:
    """
    Take back everything in the journal, in reverse, as often as it is asked.

    Raises:
        ClusterError: Something stays; the rest was taken back, and a later call tries again.
    """
    failed: list[tuple[Resource, Exception]] = []
    for made in reversed(journal.read()):
        try:
            _UNDO[type(made)](made)
        except (ClusterError, OSError, subprocess.SubprocessError) as error:
            failed.append((made, error))
    journal.keep([made for made, _ in reversed(failed)])  # what is gone may come again as someone else's
    if failed:
        raise ClusterError("cannot take back:\n" + "\n".join(f"  {made}: {error}" for made, error in failed))


def _unmount(made: Mount) -> None:
    for path in sorted(mounted_below(Path(made.path)), reverse=True):
        subprocess.run(["umount", "--lazy", path], check=True, capture_output=True)


def _delete_link(made: Link) -> None:
    if Path(f"/sys/class/net/{made.name}").exists():
        ip("link", "delete", made.name)


def _delete_route(made: Route) -> None:
    shown = subprocess.run(
        ["ip", "route", "show", "exact", made.destination], capture_output=True, text=True, check=True
    )
    if shown.stdout.strip():
        ip("route", "delete", made.destination)


def _remove_cgroup(made: Cgroup) -> None:
    """End what runs in the cgroup, then remove it from the leaves up; the kernel needs a moment after the last exit."""
    deadline = time.monotonic() + _CGROUP_S
    while Path(made.path).is_dir():
        for folder, _, _ in os.walk(made.path, topdown=False):
            _kill_members(Path(folder))
            with suppress(OSError):
                Path(folder).rmdir()
        if not Path(made.path).is_dir():
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"cgroup {made.path} still has processes or children {_CGROUP_S:.0f} s after KILL")
        time.sleep(0.05)


def _kill_members(folder: Path) -> None:
    with suppress(FileNotFoundError, OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _remove_tree(made: Tree) -> None:
    remove_tree(Path(made.path))


def _run(made: Command) -> None:
    done = subprocess.run(made.argv, capture_output=True, text=True, check=False, timeout=_COMMAND_S)
    if done.returncode:
        raise ClusterError(f"exit code {done.returncode}: {done.stderr.strip()[-400:]}")


_UNDO: Final[dict[type[Resource], Callable[[Any], None]]] = {
    Process: stop,
    Mount: _unmount,
    Link: _delete_link,
    Route: _delete_route,
    Cgroup: _remove_cgroup,
    Tree: _remove_tree,
    Command: _run,
}

"""EDGE: processes that outlive the launcher: begun, waited for, and ended by pid and start time, never by name."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.cluster.state import Cluster, ClusterError, Process

READY_S: Final = 60.0
STOP_S: Final = 10.0
LOG_TAIL: Final = 15  # lines shown of a process that did not become ready
_POLL_S: Final = 0.05
# The program runs once its pid stands in the journal; a launcher that dies before that ends the pipe, and this shell.
_GATE: Final = 'read -r go && cd "$1" && shift && exec "$@" </dev/null'


def start(
    cluster: Cluster,
    name: str,
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Process:
    """
    Start a program in a session of its own, with its output in `log/NAME.log`, and journal it before it runs.

    Args:
        env: Variables on top of this process's own.
        cwd: Its working folder; the cluster's own by default.
    """
    gate_read, gate_write = os.pipe()
    log = os.open(cluster.log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _GATE, "sh", str(cwd or cluster.folder), *map(str, argv)],
            {**os.environ, **(env or {})},
            file_actions=[(os.POSIX_SPAWN_DUP2, gate_read, 0), *((os.POSIX_SPAWN_DUP2, log, fd) for fd in (1, 2))],
            setsid=True,
        )
        process = Process(pid, start_ticks(pid) or 0, name)
        cluster.journal.record(process)
        os.write(gate_write, b"go\n")
    finally:
        for fd in (gate_read, gate_write, log):
            os.close(fd)
    return process


def wait_ready(
    cluster: Cluster,
    what: str,
    probe: Callable[[], bool],
    process: Process | None = None,
    *,
    deadline_s: float = READY_S,
) -> None:
    """
    Wait until *probe* says yes; an OSError of the probe counts as no.

    Raises:
        ClusterError: The deadline passed or *process* ended; the message has the last lines of its log.
    """
    began = time.monotonic()
    last = ""
    while time.monotonic() - began < deadline_s:
        try:
            if probe():
                return
        except OSError as error:
            last = f" ({error})"
        if process is not None and not is_alive(process):
            raise ClusterError(f"{what}: {process.name} ended{_tail(cluster, process)}")
        time.sleep(_POLL_S)
    raise ClusterError(f"{what}: not so within {deadline_s:.0f} s{last}{_tail(cluster, process)}")


def stop(process: Process, *, grace_s: float = STOP_S) -> None:
    """End a process by TERM, and by KILL after *grace_s* seconds; a later process with the same pid is left alone."""
    for sent, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, STOP_S)):
        if not is_alive(process):
            break
        with suppress(ProcessLookupError):
            os.kill(process.pid, sent)
        deadline = time.monotonic() + patience_s
        while is_alive(process) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    if is_alive(process):
        raise ClusterError(f"{process.name} (pid {process.pid}) lives on after KILL; end it, then run down again")


def is_alive(process: Process) -> bool:
    """Whether this very process runs: the same pid with another start time is someone else's."""
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)  # our own child would stay a zombie
    return start_ticks(process.pid) == process.start_ticks


def start_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None where it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in "ZX" else int(fields[19])


def _tail(cluster: Cluster, process: Process | None) -> str:
    if process is None:
        return ""
    log = cluster.log(process.name)
    lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL:] if log.exists() else []
    return "\n".join([f"; the end of {log}:", *(f"  {line[:400]}" for line in lines)])

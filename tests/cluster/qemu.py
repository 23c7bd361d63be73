"""EDGE: talks to QEMU and to the guest agent inside the virtual machine: JSON, a line each way, over a local socket."""

import base64
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from tests.cluster.state import ClusterError

ANSWER_S: Final = 30.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program in the guest said and ended with."""

    returncode: int
    output: str


def monitor(path: Path, command: str, **arguments: Any) -> Any:
    """
    Ask QEMU itself, by the QEMU Machine Protocol: `device_add`, `quit`, …

    Raises:
        ClusterError: QEMU refuses; its words are in the message.
        OSError: It does not listen.
    """
    with _open(path) as stream:
        _answer(stream)  # the greeting
        _ask(stream, "qmp_capabilities", {})
        return _ask(stream, command, arguments)


def run_in_guest(path: Path, argv: Sequence[str], *, deadline_s: float = 120.0) -> Ran:
    """
    Run a program in the guest, by its agent, and wait for its end; standard output and error come as one text.

    Raises:
        ClusterError: It did not end in time, or the agent refuses.
        OSError: The agent does not answer (yet).
    """
    shell = ["-c", 'exec 2>&1; exec "$@"', "sh", *argv]
    with _open(path) as stream:
        _synchronise(stream)
        started = {"path": "/bin/sh", "arg": shell, "capture-output": True}
        pid = _ask(stream, "guest-exec", started)["pid"]
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            status = _ask(stream, "guest-exec-status", {"pid": pid})
            if status["exited"]:
                output = base64.b64decode(status.get("out-data", "")).decode(errors="replace")
                return Ran(status.get("exitcode", -1), output)
            time.sleep(_POLL_S)
    raise ClusterError(f"in the virtual machine, `{' '.join(argv)}` did not end within {deadline_s:.0f} s")


def _synchronise(stream: TextIO) -> None:
    """Skip what the agent still has to say to an earlier caller that gave up."""
    mark = time.monotonic_ns() % 2**31
    _send(stream, "guest-sync", {"id": mark})
    while _answer(stream) != mark:
        pass


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_S)
        connection.connect(str(path))
        with connection.makefile("rw") as stream:
            yield stream


def _ask(stream: TextIO, command: str, arguments: Mapping[str, Any]) -> Any:
    _send(stream, command, arguments)
    return _answer(stream)


def _send(stream: TextIO, command: str, arguments: Mapping[str, Any]) -> None:
    stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    stream.flush()


def _answer(stream: TextIO) -> Any:
    for line in stream:
        said = json.loads(line)
        if "error" in said:
            raise ClusterError(f"QEMU: {said['error']['desc']}")
        if "event" not in said:
            return said.get("return")
    raise ClusterError("QEMU ended the conversation")

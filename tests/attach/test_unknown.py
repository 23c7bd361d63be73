"""What a node does not let be known is never read as "no": by the real adapters, over files that stand for /proc."""

import errno
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from attach.bpf import Bpf
from attach.cgroup import Hierarchy
from attach.errors import Unknown
from attach.model import Cgroup, CgroupVersion, Container, DeviceNode, Holder, Process, Target
from attach.nodes import HostNodes
from attach.processes import HostProcesses
from attach.rules2 import Rules2

POD, CID, PID, TICKS = "12345678-1234-1234-1234-123456789abc", "0123456789abcdef" * 4, 7, 42
WEB, GPU = Target("default", "web", POD, CID), DeviceNode("/dev/gpu0", 195, 0)


def _refuse(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def processes(folder: Path, cgroup: str, pid: int = PID) -> HostProcesses:
    """Write the /proc of one process."""
    own = folder / str(pid)
    own.mkdir()
    (own / "stat").write_text(f"{pid} (x) S {' '.join(['0'] * 18)} {TICKS} 0\n")
    (own / "cgroup").write_text(f"0::{cgroup}\n")
    (own / "comm").write_text("x\n")
    return HostProcesses(Hierarchy(CgroupVersion.V2, str(folder)), folder)


def test_a_pods_process_that_may_not_be_looked_into_may_hold_any_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostProcesses, "_by_descriptor", _refuse)
    with pytest.raises(Unknown) as unknown:
        processes(tmp_path, f"/kubepods/pod{POD}/{CID}").holders([GPU.rdev])
    assert unknown.value.reason == "ProcessUnreadable"


def test_one_of_the_nodes_own_that_may_not_be_looked_into_is_a_holder_of_every_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no pod, so that it can be known as a resident by who was a holder before an attach."""
    monkeypatch.setattr(HostProcesses, "_by_descriptor", _refuse)
    assert processes(tmp_path, "/system.slice/x.service").holders([GPU.rdev]) == [
        Holder(Process(PID, TICKS), GPU.rdev, "", "", "x (unreadable)", mapped=False)
    ]


def _find(folder: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    (folder / "kubepods" / f"pod{POD}" / CID).mkdir(parents=True)
    monkeypatch.setattr("attach.processes._members", _refuse)
    return HostProcesses(Hierarchy(CgroupVersion.V2, str(folder)), folder).find(WEB)


def _state(folder: Path, _: object) -> object:
    (folder / str(PID)).mkdir()
    (folder / str(PID) / "root").symlink_to("root")
    container = Container(WEB, Process(PID, TICKS), Cgroup(CgroupVersion.V2, str(folder), folder.stat().st_ino))
    return HostNodes(Hierarchy(CgroupVersion.V2, str(folder)), folder).state(container, GPU)


class _SilentBpf(Bpf):
    def query(self, cgroup_fd: int, *, effective: bool = False) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def _allowed(folder: Path, _: object) -> object:
    return Rules2(_SilentBpf()).allowed(Cgroup(CgroupVersion.V2, str(folder), folder.stat().st_ino))


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        pytest.param(_find, "CgroupUnknown", id="a cgroup that can't be read"),
        pytest.param(_state, "NamespaceClosed", id="a root folder that can't be entered"),
        pytest.param(_allowed, "RulesUnknown", id="rules that can't be read"),
    ],
)
def test_what_can_not_be_read_is_unknown(
    ask: Callable[[Path, pytest.MonkeyPatch], object], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unknown) as unknown:
        ask(tmp_path, monkeypatch)
    assert unknown.value.reason == reason


def test_a_process_is_held_before_it_is_looked_at_and_looked_at_before_it_is_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I8: a number that came round again would be seen, for the process that is held is the one that is signalled."""
    done: list[str] = []

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            done.append(f"read {Path(arguments[0]).name}" if name == "read" else name)
            return real(*arguments, **options)

        return call

    with subprocess.Popen(["sleep", "60"]) as sleeping:
        try:
            web = processes(tmp_path, f"/kubepods/pod{POD}/{CID}", sleeping.pid)
            with monkeypatch.context() as watched:
                watched.setattr(os, "pidfd_open", noted("hold", os.pidfd_open))
                watched.setattr(os, "open", noted("read", os.open))
                watched.setattr(signal, "pidfd_send_signal", noted("signal", signal.pidfd_send_signal))
                watched.setattr(os, "kill", lambda *_: pytest.fail("a number may be another process by now"))
                assert web.signal(Process(sleeping.pid, TICKS), POD, signal.SIGKILL)
            assert done == ["hold", "read stat", "read cgroup", "signal"]
            assert sleeping.wait(timeout=20) == -signal.SIGKILL
        finally:
            sleeping.kill()

"""The child that opens devices may begin slowly; one that gives no answer is ended, and its word is not taken later."""

import subprocess
import sys
from pathlib import Path

import pytest

import attach.nodes
from attach.cgroup import Hierarchy
from attach.model import Access, Cgroup, CgroupVersion, Container, DeviceNode, Process, Target
from attach.nodes import HostNodes

GPU = DeviceNode("/dev/gpu0", 195, 0)
CONTAINER = Container(Target("team-a", "eval", "p1", "c1"), Process(7, 5), Cgroup(CgroupVersion.V1, "/c", 1))


@pytest.fixture
def nodes(tmp_path: Path) -> HostNodes:
    """Its node has a process 7, in a cgroup."""
    for name in ("self", "7"):
        (tmp_path / "proc" / name).mkdir(parents=True)
        (tmp_path / "proc" / name / "cgroup").write_text("4:devices:/kubepods/c1\n")
    return HostNodes(Hierarchy(CgroupVersion.V1, "/sys/fs/cgroup/devices"), tmp_path / "proc")


def speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have a script stand for the Python that opens."""
    child = tmp_path / "python"
    child.write_text(f"#!/bin/sh\n{script}\n")
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))


def test_one_that_takes_longer_to_begin_than_to_open_is_waited_for(
    nodes: HostNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a virtual machine whose processor is emulated."""
    monkeypatch.setattr(attach.nodes, "_OPEN_DEADLINE_S", 0.3)
    speaks(tmp_path, monkeypatch, "sleep 1; echo ready; while read -r _; do echo 0; done")

    assert [nodes.access(CONTAINER, GPU) for _ in range(2)] == [Access.OPENS] * 2
    nodes.close()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("while :; do sleep 1; done", id="never ready"),
        pytest.param("echo ready; while :; do sleep 1; done", id="never answers"),
        pytest.param("exit 1", id="ends at once"),
        pytest.param("sleep 0.4; echo ready; while read -r _; do echo 0; done", id="ready too late"),
    ],
)
def test_what_gives_no_answer_in_time_never_opens(
    nodes: HostNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(attach.nodes, "_START_DEADLINE_S", 0.2)
    monkeypatch.setattr(attach.nodes, "_OPEN_DEADLINE_S", 0.8)
    speaks(tmp_path, monkeypatch, script)

    assert [nodes.access(CONTAINER, GPU) for _ in range(2)] == [Access.FAILS] * 2
    nodes.close()


class Unkillable(subprocess.Popen[bytes]):
    """A child that hangs in an open of a driver's: it outlives SIGKILL for as long as that lasts."""

    def wait(self, timeout: float | None = None) -> int:
        if timeout is None:
            pytest.fail("it was waited for without end")
        raise subprocess.TimeoutExpired(self.args, timeout)


def test_one_that_can_not_be_killed_holds_up_nobody(
    nodes: HostNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach.nodes, "_OPEN_DEADLINE_S", 0.3)
    speaks(tmp_path, monkeypatch, "echo ready; exec sleep 60")
    monkeypatch.setattr(subprocess, "Popen", Unkillable)
    assert nodes.access(CONTAINER, GPU) is Access.FAILS

    monkeypatch.undo()
    speaks(tmp_path, monkeypatch, "echo ready; while read -r _; do echo 0; done")
    assert nodes.access(CONTAINER, GPU) is Access.OPENS
    nodes.close()

"""A container that is a GPU phase: its command waits for the GPU, has it, and gives it back by ending."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.install import ROOT
from tests.podsla.lending.agent import UUID, StandInAgent
from tests.podsla.lending.apiserver import FakeApiServer, unreadable
from tests.podsla.lending.test_borrow import revoke
from tests.waiting import eventually

pytestmark = pytest.mark.wire

NO_GPU = 75
SAYS = 'echo "$CUDA_VISIBLE_DEVICES $NVIDIA_VISIBLE_DEVICES $(test -e $STAND_IN_GPU && echo there)"'

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What podsla's image has as podsla-phase."""
    made = tmp_path_factory.mktemp("phase") / "podsla-phase"
    try:
        subprocess.run(["gcc", "-static", "-Os", "-Wall", "-Werror", "-o", made, ROOT / "podsla/phase.c"], check=True)
    except FileNotFoundError:
        pytest.skip("gcc is missing: podsla-phase is compiled")
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What both containers see."""
    made = tmp_path / "phase"
    made.mkdir()
    return made


@pytest.fixture
def beside(program: Path, folder: Path, server: FakeApiServer) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start the container beside; who asks for it ends it, and what is left of a test that failed is killed."""
    every: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        options = ["--container=infer", "--grace=1", "--lease=30"]
        argv: list[str | Path] = [program, "put", folder, sys.executable, "-m", "podsla.phase", folder, *options]
        started = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        every.append(started)
        eventually((folder / "run").exists, "the program is there")
        return started

    yield start
    for process in every:
        if process.poll() is None:
            process.kill()
            process.communicate()


def end(process: subprocess.Popen[str]) -> None:
    """End it as the kubelet does, and see that it ends well."""
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said


@pytest.fixture
def sidecar(beside: Callable[[], subprocess.Popen[str]]) -> Iterator[subprocess.Popen[str]]:
    """The container beside, until the end of the test."""
    process = beside()
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process)


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start a container that is a phase."""
    started: list[subprocess.Popen[str]] = []

    def make(*command: str) -> subprocess.Popen[str]:
        argv: list[str | Path] = [folder / "run", "--", *command]
        started.append(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield make
    for process in started:
        process.kill()
        process.communicate()


def all_of(server: FakeApiServer) -> list[dict[str, Any]]:
    """The attachments, in the order of their creation."""
    with server.changed:
        return list(server.objects.values())


def released(server: FakeApiServer, count: int) -> bool:
    """Tell whether there are so many attachments, each of them over."""
    found = all_of(server)
    return len(found) == count and all("Released" in json.dumps(one.get("status", {})) for one in found)


@pytest.mark.usefixtures("sidecar")
def test_the_command_has_the_gpu_from_its_first_instruction_and_gives_it_back(
    server: FakeApiServer, agent: StandInAgent, node: Path, start: Start
) -> None:
    agent.paused.set()
    infer = start("sh", "-c", SAYS)
    eventually(lambda: len(all_of(server)) == 1, "it is asked for")
    assert infer.poll() is None
    agent.paused.clear()

    out, said = infer.communicate(timeout=30)

    assert (infer.returncode, out, said) == (0, f"{UUID} {UUID} there\n", "")
    eventually(lambda: released(server, 1), "it is given back")
    assert not node.exists()
    spec = server.only()["spec"]
    assert (spec["podName"], spec["container"], spec["count"]) == ("eval-x", "infer", 1)


@pytest.mark.usefixtures("sidecar", "agent")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(["sh", "-c", "exit 7"], 7, id="its own"),
        pytest.param(["sh", "-c", "kill -SEGV $$"], 128 + signal.SIGSEGV, id="a crash"),
        pytest.param(["no-such-program"], 127, id="not found"),
        pytest.param(["/etc/passwd"], 126, id="not executable"),
    ],
)
def test_however_it_ends_the_code_is_its_own_and_the_gpu_goes(
    server: FakeApiServer, start: Start, command: list[str], code: int
) -> None:
    assert start(*command).wait(30) == code
    eventually(lambda: released(server, 1), "it is given back")


@pytest.mark.usefixtures("sidecar", "agent")
def test_each_run_has_an_attachment_of_its_own(server: FakeApiServer, start: Start) -> None:
    for number in (1, 2, 3):
        assert start("true").wait(30) == 0
        eventually(lambda number=number: released(server, number), "it is given back")  # type: ignore[misc]


@pytest.mark.usefixtures("sidecar", "agent")
def test_a_child_that_closes_every_descriptor_and_outlives_the_command_keeps_nothing(
    server: FakeApiServer, start: Start, tmp_path: Path
) -> None:
    """The pipe is the wrapper's alone, so the end of the run is its end."""
    mark = tmp_path / "fds"
    script = f"ls /proc/self/fd | wc -w > {mark}; setsid sleep 60 <&- >&- 2>&- & exit 0"
    assert start("sh", "-c", script).wait(30) == 0
    eventually(lambda: released(server, 1), "it is given back")
    assert mark.read_text() == "4\n"  # three, and that of the listing


@pytest.mark.usefixtures("sidecar", "agent")
def test_a_signal_goes_to_the_command(server: FakeApiServer, start: Start, tmp_path: Path) -> None:
    mark = tmp_path / "began"
    infer = start("sh", "-c", f"trap 'exit 9' TERM; touch {mark}; while :; do sleep 0.05; done")
    eventually(mark.exists, "the command has begun")
    infer.terminate()
    assert infer.wait(30) == 9
    eventually(lambda: released(server, 1), "it is given back")


@pytest.mark.usefixtures("sidecar")
def test_one_that_is_stopped_while_it_waits_asks_no_more(
    server: FakeApiServer, agent: StandInAgent, start: Start
) -> None:
    agent.paused.set()
    infer = start("true")
    eventually(lambda: len(all_of(server)) == 1, "it is asked for")
    infer.terminate()
    assert infer.wait(30) == 128 + signal.SIGTERM
    eventually(lambda: server.only()["spec"].get("release"), "it is given up")


@pytest.mark.usefixtures("sidecar", "agent")
def test_one_that_is_taken_back_ends_the_command(server: FakeApiServer, start: Start, tmp_path: Path) -> None:
    """By SIGTERM, and where that is not heard by SIGKILL."""
    mark = tmp_path / "began"
    infer = start("sh", "-c", f"trap '' TERM; touch {mark}; while :; do sleep 0.05; done")
    eventually(mark.exists, "the command has begun")
    revoke(server)
    _, said = infer.communicate(timeout=30)
    assert infer.returncode == 128 + signal.SIGKILL
    assert said.startswith("podsla-phase: LeaseExpired: the GPU of eval-x-")


@pytest.mark.usefixtures("sidecar", "agent")
def test_a_pod_that_may_not_borrow_is_told_what_to_do_and_may_try_again(server: FakeApiServer, start: Start) -> None:
    server.fail["POST"] = [(403, "Forbidden")]
    infer = start("true")
    _, said = infer.communicate(timeout=30)
    assert infer.returncode == NO_GPU
    assert said.startswith("podsla-phase: no GPU: Forbidden: POST /apis/podsla.io/v1beta1/")
    assert said.endswith("; bind the role podsla-gpu-borrower to the pod's service account\n")

    assert start("true").wait(30) == 0


@pytest.mark.usefixtures("sidecar", "agent")
@pytest.mark.parametrize("name", ["token", "ca.crt"])
def test_one_whose_files_cannot_be_read_for_a_while_waits_for_them(
    server: FakeApiServer, folder: Path, start: Start, name: str
) -> None:
    with unreadable(server.folder / name):
        infer = start("true")
        eventually(lambda: "\nwait\n" in (folder / "answer").read_text(), "the run is heard of")
        with pytest.raises(subprocess.TimeoutExpired):
            infer.wait(1.0)
    assert infer.wait(30) == 0
    eventually(lambda: released(server, 1), "it is given back")


@pytest.mark.usefixtures("agent")
def test_a_container_beside_that_is_killed_takes_up_the_run_that_goes_on(
    server: FakeApiServer, beside: Callable[[], subprocess.Popen[str]], start: Start, tmp_path: Path, node: Path
) -> None:
    mark, enough = tmp_path / "began", tmp_path / "enough"
    first = beside()
    infer = start("sh", "-c", f"touch {mark}; until test -e {enough}; do sleep 0.05; done")
    eventually(mark.exists, "the command has begun")
    first.kill()
    first.communicate()

    second = beside()

    eventually(lambda: "renewTime" in server.only()["spec"], "the lease is renewed", 25.0)
    assert (infer.poll(), node.exists()) == (None, True)
    enough.touch()
    assert infer.wait(30) == 0
    eventually(lambda: released(server, 1), "it is given back")
    end(second)


@pytest.mark.usefixtures("agent")
def test_what_a_run_left_that_ended_meanwhile_is_given_back(
    server: FakeApiServer, beside: Callable[[], subprocess.Popen[str]], start: Start, tmp_path: Path
) -> None:
    mark = tmp_path / "began"
    first = beside()
    infer = start("sh", "-c", f"touch {mark}; exec sleep 60")
    eventually(mark.exists, "the command has begun")
    first.kill()
    first.communicate()
    infer.terminate()
    assert infer.wait(30) == 128 + signal.SIGTERM

    second = beside()

    eventually(lambda: released(server, 1), "it is given back")
    end(second)


@pytest.mark.usefixtures("agent")
def test_one_that_begins_before_the_container_beside_waits_for_it(
    program: Path, folder: Path, beside: Callable[[], subprocess.Popen[str]], start: Start
) -> None:
    subprocess.run([program, "put", folder, "true"], check=True)
    infer = start("true")
    time.sleep(0.3)
    assert infer.poll() is None
    sidecar = beside()
    assert infer.wait(30) == 0
    end(sidecar)


def test_the_container_beside_gives_back_what_it_has_lent_when_it_is_stopped(
    server: FakeApiServer, agent: StandInAgent, sidecar: subprocess.Popen[str], start: Start, tmp_path: Path
) -> None:
    mark = tmp_path / "began"
    start("sh", "-c", f"touch {mark}; exec sleep 60")
    eventually(mark.exists, "the command has begun")
    end(sidecar)
    assert released(server, 1)


@pytest.mark.usefixtures("agent")
def test_it_idles_while_there_is_nothing_to_do(sidecar: subprocess.Popen[str], start: Start) -> None:
    """A pipe that nobody writes to any more is not read again and again."""
    assert start("true").wait(30) == 0
    before = _cpu_ticks(sidecar.pid)
    time.sleep(1.0)
    assert _cpu_ticks(sidecar.pid) - before < 0.3 * os.sysconf("SC_CLK_TCK")


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_the_program_answers_a_probe_and_tells_what_it_is_for(program: Path, tmp_path: Path) -> None:
    assert subprocess.run([program, "there"], check=False).returncode == 0
    wrong = subprocess.run([program], stderr=subprocess.PIPE, text=True, check=False)
    assert (wrong.returncode, wrong.stderr.startswith("usage: podsla-phase put FOLDER")) == (2, True)
    nowhere = subprocess.run([program, "put", tmp_path / "none", "true"], capture_output=True, check=False)
    assert nowhere.returncode == NO_GPU

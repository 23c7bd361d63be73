"""`podsla gpu run` in a pod, against a fake API server and with stand-ins for the agent and for CUDA."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cluster.install import PODSLA
from tests.podsla.lending.agent import UUID, StandInAgent
from tests.podsla.lending.apiserver import FakeApiServer
from tests.podsla.lending.test_borrow import revoke, settled
from tests.podsla.lending.work import program
from tests.waiting import eventually

pytestmark = pytest.mark.wire


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PODSLA, "gpu", "run", *command], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(program("sys.exit(7)"), 7, id="its own"),
        pytest.param(program("os.kill(os.getpid(), 11)"), 128 + signal.SIGSEGV, id="a crash"),
        pytest.param(["no-such-program"], 127, id="not found"),
        pytest.param(["/etc/passwd"], 126, id="not executable"),
    ],
)
def test_the_exit_code_is_passed_on_and_the_gpu_goes(
    server: FakeApiServer, agent: StandInAgent, node: Path, command: list[str], code: int
) -> None:
    assert run("--", *command).returncode == code
    settled(server)
    assert not node.exists()


def test_the_command_has_the_device(server: FakeApiServer, agent: StandInAgent) -> None:
    says = "print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['NVIDIA_VISIBLE_DEVICES'])"
    done = run("--count", "2", "--", *program(says))
    assert (done.returncode, done.stdout) == (0, f"{UUID} {UUID}\n")
    assert server.only()["spec"]["count"] == 2


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_goes_to_the_command_and_the_gpu_goes(
    server: FakeApiServer, agent: StandInAgent, tmp_path: Path, stop: signal.Signals
) -> None:
    mark = tmp_path / "began"
    script = f"""import signal
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, lambda *_: sys.exit(9))
open({str(mark)!r}, "w").close()
time.sleep(60)"""
    child = subprocess.Popen([PODSLA, "gpu", "run", "--", *program(script)], stdin=subprocess.DEVNULL)
    eventually(mark.exists, "the command has begun")
    child.send_signal(stop)
    assert child.wait(30) == 9
    settled(server)


def test_a_signal_ends_the_wait(server: FakeApiServer, agent: StandInAgent) -> None:
    agent.paused.set()
    child = subprocess.Popen([PODSLA, "gpu", "run", "--", "true"], stdin=subprocess.DEVNULL)
    eventually(lambda: len(server.objects) == 1, "it waits")
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 128 + signal.SIGTERM
    settled(server)


def test_one_that_is_taken_back_ends_the_command(server: FakeApiServer, agent: StandInAgent, tmp_path: Path) -> None:
    mark = tmp_path / "began"
    child = subprocess.Popen(
        [PODSLA, "gpu", "run", "--grace", "0", "--", *program(f"open({str(mark)!r}, 'w'); time.sleep(60)")],
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(mark.exists, "the command has begun")
    revoke(server)
    assert child.communicate(timeout=30)[1].splitlines()[-1].startswith("LeaseExpired: the GPU of eval-x-")
    assert child.returncode == 1


def test_what_is_refused_has_a_code_of_its_own(server: FakeApiServer) -> None:
    server.fail["POST"] = [(403, "Forbidden")]
    done = run("--", "true")
    assert (done.returncode, "bind the role podsla-gpu-borrower" in done.stderr) == (3, True)


def test_outside_a_pod_the_pod_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", os.devnull)
    done = run("--", "true")
    assert (done.returncode, done.stderr) == (3, "this is no pod; say with --pod which pod it runs in\n")

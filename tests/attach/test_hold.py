"""`podsla gpu hold`, a placeholder's process: it ends on the agent's word alone."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

GRACE_S = 1.0  # in which a process that obeyed would have ended


@pytest.fixture
def holding() -> Iterator[subprocess.Popen[str]]:
    """One that has begun to hold."""
    argv = [sys.executable, "-u", "-m", "podsla", "gpu", "hold"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "holds" in process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_kubelet_cannot_end_it_in_peace(holding: subprocess.Popen[str], number: int) -> None:
    """A deleted, drained or preempted placeholder keeps its device until the agent has taken access back."""
    holding.send_signal(number)

    with pytest.raises(subprocess.TimeoutExpired):
        holding.wait(GRACE_S)


def test_it_ends_on_the_word_of_the_agent(holding: subprocess.Popen[str]) -> None:
    """With 0, so its pod has Succeeded; also after it was told to end by others."""
    holding.send_signal(signal.SIGTERM)
    holding.send_signal(signal.SIGUSR1)

    assert holding.wait(30) == 0

"""What is printed on a terminal and in a pipe: the same words, and colour on a terminal alone."""

import fcntl
import os
import re
import struct
import subprocess
import termios
from collections.abc import Mapping
from typing import Final

import pytest

from tests.cluster.install import PODSLA, ROOT

FIGURES: Final = ("--catalog", "manifests/examples/figures-2025.yaml")
COMMANDS: Final = {  # each with a colour that it has on a terminal
    "a table": (("classes", *FIGURES), "\x1b[1m"),
    "a refusal": (("explain", "-f", "manifests/examples/relays.yaml", *FIGURES), "\x1b[31m"),
    "a file that is wrong, on standard error": (("catalog", "lint", "README.md"), "\x1b[31m"),
}
ESCAPE: Final = re.compile(r"\x1b\[[0-9;]*m")
COLUMNS: Final = 1000


@pytest.fixture
def env(no_cluster: None) -> dict[str, str]:
    """An environment that says nothing of colours and names no cluster."""
    without = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**without, "TERM": "xterm-256color"}


def in_pipe(command: tuple[str, ...], env: Mapping[str, str]) -> str:
    """What a command prints in a pipe, what goes to standard error after it."""
    done = subprocess.run([PODSLA, *command], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def on_terminal(command: tuple[str, ...], env: Mapping[str, str]) -> str:
    """What a command prints on a terminal that is wide enough for every table."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    process = subprocess.Popen([PODSLA, *command], cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(ours)
        process.wait(30)
    return b"".join(parts).decode().replace("\r\n", "\n")


@pytest.mark.parametrize(("command", "colour"), COMMANDS.values(), ids=COMMANDS)
def test_the_words_are_the_same_and_an_escape_is_on_a_terminal_alone(
    env: dict[str, str], command: tuple[str, ...], colour: str
) -> None:
    piped, shown = in_pipe(command, env), on_terminal(command, env)

    assert "\x1b" not in piped
    assert colour in shown
    assert words(ESCAPE.sub("", shown)) == words(piped)
    assert words(on_terminal(command, {**env, "NO_COLOR": "1"})) == words(piped)


def words(text: str) -> list[str]:
    """Lines without what nobody sees at their ends."""
    return [line.rstrip() for line in text.splitlines()]

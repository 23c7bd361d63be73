"""The document docs/day.md, typed in from its top to its end. REGENERATE=1 writes what its commands print now."""

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.install import ROOT
from tests.cluster.lifecycle import clusters
from tests.system.typed import processes, run, typist
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

NAME: Final = "podsla-day"
DAY: Final = ROOT / "docs" / "day.md"
BLOCK: Final = re.compile(r"(?<=^```)(sh|console)\n(.*?)(?=^```$)", re.DOTALL | re.MULTILINE)
COMMAND: Final = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
# What no two days have in common: names that the API server makes up, times, and where the scheduler has put things.
VOLATILE: Final = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z"), "TIME"),
    (re.compile(r"relay-[0-9a-f]{8,10}-[a-z0-9]{5}"), "POD"),
    (re.compile(r"^\d+ nodes? would publish", re.MULTILINE), "N nodes would publish"),
)
LAGS: Final = ("podsla catalog status", "podsla doctor")  # what they read of a status is up to ten seconds old
LAG_S: Final = 30.0
STEP_S: Final = 120


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody who begins; temporary folders are the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with typist(monkeypatch, tmp_path, NAME) as env:
        yield env


def begin(block: str, env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Type the first block in, in the folder of the repository; the environment that it leaves, PWD with it."""
    left = folder / "environment"
    run(f"{block}env -0 > {left}\n", env, ROOT)
    return dict(line.split("=", 1) for line in left.read_text().split("\0") if line)


def said(script: str, shell: Mapping[str, str]) -> str:
    """Type something in; its errors are seen between its output, as on a terminal."""
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1\n{script}"],
        cwd=shell["PWD"],
        env=shell,
        capture_output=True,
        text=True,
        timeout=STEP_S,
    )
    return done.stdout


def printed(console: str, shell: Mapping[str, str]) -> str:
    """Type a block's commands in; one that reads what may lag is typed again until it says what is written."""
    parts = []
    for command, expected in COMMAND.findall(console):
        end_s = time.monotonic() + (LAG_S if command.startswith(LAGS) else 0.0)
        while stable(found := said(command, shell)) != stable(expected) and time.monotonic() < end_s:
            time.sleep(1.0)
        parts.append(f"$ {command}\n{found}")
    return "".join(parts)


def stable(text: str) -> str:
    for pattern, word in VOLATILE:
        text = pattern.sub(word, text)
    return text


def test_the_day_goes_as_it_is_written_and_leaves_nothing(begun: dict[str, str], tmp_path: Path) -> None:
    text = DAY.read_text()
    first, *blocks, last = BLOCK.finditer(text)
    shell = begin(first[2], begun, tmp_path)
    assert (len(list(Path(shell["PWD"]).iterdir())), shell["repo"]) == (0, str(ROOT)), (
        "the day begins in an empty folder"
    )
    typed = [f"sh\n{first[2]}"]
    for block in blocks:
        if block[1] == "sh":
            assert said(block[2], shell) == "", block[2]
            typed.append(f"sh\n{block[2]}")
        else:
            typed.append(f"console\n{printed(block[2], shell)}")
    each = iter([*typed, f"sh\n{last[2]}"])
    written = BLOCK.sub(lambda _: next(each), text)
    if os.environ.get("REGENERATE"):
        DAY.write_text(written)
    assert stable(DAY.read_text()) == stable(written)
    assert processes()

    run(last[2], shell, Path(shell["PWD"]))

    eventually(lambda: not processes(), "every process of the cluster is gone")
    assert list(clusters()) == []

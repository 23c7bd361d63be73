"""The document docs/day.md, typed in from its top to its end. REGENERATE=1 writes what its commands print now."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.install import PODSLA, ROOT, install
from tests.cluster.own import own_cluster
from tests.cluster.state import load_cluster

pytestmark = pytest.mark.cluster

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


@pytest.fixture(scope="module")
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the first block of the document sets: a cluster of 40 nodes with podsla in it, and an empty folder."""
    with own_cluster(request, "podsla-day", "control-plane+kwok=40") as cluster:
        found = load_cluster(cluster.name)
        if found is None:
            pytest.skip("the day is spent in a cluster of the project's own launcher, and kind is in its place")
        install(found)
        path = f"{PODSLA.parent}:{ROOT / 'tests' / 'cluster'}:{os.environ['PATH']}"
        kubeconfig, folder = Path(cluster.kubeconfig_path).absolute(), tmp_path_factory.mktemp("day")
        yield {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": path, "repo": str(ROOT), "PWD": str(folder)}


def run(script: str, shell: dict[str, str]) -> str:
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


def printed(console: str, shell: dict[str, str]) -> str:
    """Type a block's commands in; one that reads what may lag is typed again until it says what is written."""
    parts = []
    for command, expected in COMMAND.findall(console):
        end_s = time.monotonic() + (LAG_S if command.startswith(LAGS) else 0.0)
        while stable(found := run(command, shell)) != stable(expected) and time.monotonic() < end_s:
            time.sleep(1.0)
        parts.append(f"$ {command}\n{found}")
    return "".join(parts)


def stable(text: str) -> str:
    for pattern, word in VOLATILE:
        text = pattern.sub(word, text)
    return text


def test_the_day_goes_as_it_is_written(shell: dict[str, str]) -> None:
    text = DAY.read_text()
    blocks = list(BLOCK.finditer(text))
    assert "make -s cluster" in blocks[0][2], "the first block brings the cluster up, which the fixture does here"
    said = ["sh\n" + blocks[0][2]]
    for block in blocks[1:]:
        if block[1] == "sh":
            assert run(block[2], shell) == "", block[2]
            said.append(f"sh\n{block[2]}")
        else:
            said.append(f"console\n{printed(block[2], shell)}")
    each = iter(said)
    written = BLOCK.sub(lambda _: next(each), text)
    if os.environ.get("REGENERATE"):
        DAY.write_text(written)

    assert stable(DAY.read_text()) == stable(written)

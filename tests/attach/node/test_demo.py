"""`make demo-attach` tells what the README says that it tells, on both cgroup versions."""

import subprocess
import sys
from pathlib import Path

from tests.attach.node.world import RealWorld

README = Path(__file__).parents[3] / "README.md"
STORY = ("# ", "$ ", "in the container:", "  ")  # the tables between have pids and times in them


def story(text: str) -> list[str]:
    """Keep what is the same every time."""
    lines = [line for line in text.splitlines() if line.startswith(STORY)]
    return [line for line in lines if "→" in line or not line.startswith("  ")]


def test_the_demo_is_as_the_readme_shows_it(engine: RealWorld) -> None:
    shown = README.read_text().partition("`make demo-attach` shows ")[2].partition("```text\n")[2].partition("```")[0]
    command = [sys.executable, "-m", "tests.attach.node.demo", str(engine.version)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert story(told) == story(shown.replace("cgroup v2", f"cgroup {engine.version}"))

"""The README's commands print what the README says. REGENERATE=1 writes what they print now."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from podsla.cli import main

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)


def printed(block: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run every `$ podsla …` line of a block and lay command and output one after the other."""
    lines = []
    for command in (line for line in block.splitlines() if line.startswith("$ podsla ")):
        with pytest.raises(SystemExit):
            main(shlex.split(command)[2:])
        captured = capsys.readouterr()
        lines += [command, captured.err + captured.out]
    return "\n".join(lines).rstrip() + "\n"


@pytest.mark.usefixtures("no_cluster")
def test_every_command_prints_what_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    text = README.read_text()
    expected = BLOCK.sub(lambda found: printed(found.group(), capsys), text)
    if os.environ.get("REGENERATE"):
        README.write_text(expected)

    assert BLOCK.search(text), "the README shows no command"
    assert README.read_text() == expected


def test_every_bench_of_a_cluster_that_the_readme_names_is_run_by_make() -> None:
    """What the README names by its module is a part of one target."""
    named = set(re.findall(r"-m bench\.(\w+)", README.read_text()))
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    made = subprocess.run(
        ["make", "-n", "bench-cluster"], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )

    (parts,) = re.findall(r"for part in (.*?);", made.stdout)
    assert named == set(parts.split())


@pytest.mark.parametrize("name", ["steady.yaml", "target.yaml"])
def test_what_the_readme_writes_is_the_example(name: str) -> None:
    example = (ROOT / "manifests/examples" / name).read_text().split("\n", 1)[1]

    assert example in README.read_text()

"""Commands are found by their names, and imported one by one."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import podsla.commands
from podsla.cli import cli
from podsla.commands.groups import Lazy


def commands(group: Lazy = cli) -> Iterator[tuple[str, click.Command]]:
    """Every command of a group and of the groups in it, by the name that it is called by."""
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        assert found is not None, name
        yield name, found
        if isinstance(found, Lazy):
            yield from commands(found)


def test_every_command_that_is_written_can_be_called_by_its_name() -> None:
    folder = Path(podsla.commands.__file__).parent
    written = {
        name
        for file in folder.glob("*.py")
        for name in re.findall(r"^def (\w+)_command\(", file.read_text(), re.MULTILINE)
    }

    assert sorted(name for name, _ in commands()) == sorted(written)
    assert all(found.name == name for name, found in commands())


def test_a_command_imports_nothing_that_another_one_needs() -> None:
    script = "import sys; from podsla.cli import main\ntry: main(['why', '--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())

    assert "podsla.commands.why" in loaded
    assert not loaded & {"podsla.commands.lend", "catalog.importers", "podsla.reports", "asyncio", "kubernetes"}

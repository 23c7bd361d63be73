"""Commands are found by their names, and imported one by one."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

import podsla.commands
from podsla.cli import cli
from podsla.commands.groups import Lazy
from tests.podsla.shell import Shell


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


# Commands without -o, each with what it prints instead.
WITHOUT_FORMS: Final = {
    "completion": "a script for a shell",
    "import": "a catalogue, which is YAML",
    "controller": "a process, and its log",
    "webhook": "a process, and its log",
    "hold": "a process, and that it waits",
    "run": "what the program prints that is run",
    "wait": "how it stands, on standard error, and an exit code",
    "detach": "a line for a person of what was done",
    "release": "a line for a person of what was done",
    "uninstall": "a line for a person of each step",
}


def forms_of(command: click.Command) -> frozenset[str]:
    """What `-o` takes; nothing where there is none."""
    types = [option.type for option in command.params if "-o" in option.opts]
    return frozenset(choice for one in types if isinstance(one, click.Choice) for choice in one.choices)


def test_every_command_that_prints_a_form_prints_json_and_yaml_and_where_it_prints_a_table_a_wide_one() -> None:
    found = {name: forms_of(command) for name, command in commands() if not isinstance(command, click.Group)}
    without = {name for name, forms in found.items() if not forms}

    assert without == WITHOUT_FORMS.keys()
    found = {name: forms for name, forms in found.items() if forms}
    assert {name for name, forms in found.items() if not {"json", "yaml"} <= forms} == set()
    assert {name for name, forms in found.items() if ("table" in forms) != ("wide" in forms)} == set()


def test_wide_is_the_table_where_that_has_no_further_columns(shell: Shell) -> None:
    table, wide = (
        shell.run("catalog", "show", "ecs.c7.large", "--catalog", "ecs", "-o", form) for form in ("table", "wide")
    )

    assert (table.code, table.out) == (0, wide.out)
    assert "ecs.c7.large" in table.out
    assert shell.run("classes", "-o", "table").out != shell.run("classes", "-o", "wide").out

"""What the commands are timed on is what it says."""

from pathlib import Path

import click

from bench.commands import EDIT, TENTHS, the_commands
from catalog.diff import diff_catalogs
from catalog.load import SHIPPED_CATALOG, load_catalog
from podsla.cli import cli


def test_pods_are_shared_out_among_shipped_classes() -> None:
    classes = load_catalog([SHIPPED_CATALOG]).classes

    assert sum(TENTHS.values()) == 10
    assert TENTHS.keys() <= classes.keys()


def test_the_edit_changes_sizes(tmp_path: Path) -> None:
    shipped = SHIPPED_CATALOG / "ecs.yaml"
    (edited := tmp_path / "ecs.yaml").write_text(shipped.read_text().replace(*EDIT))

    assert diff_catalogs(load_catalog([shipped]), load_catalog([edited])).sizes_changed


def test_the_commands_that_are_timed_are_there() -> None:
    names = {command[0] for command in the_commands("waits", "runs", Path("ecs.yaml"))}

    assert {"why", "explain", "top", "doctor", "catalog"} <= names <= set(cli.list_commands(click.Context(cli)))

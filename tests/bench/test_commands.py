"""What the commands are timed on is what it says."""

import json
from pathlib import Path

import click
import pytest

from bench.commands import EDIT, EDITS, TENTHS, the_commands, wrong
from catalog.diff import diff_catalogs
from catalog.load import SHIPPED_CATALOG, load_catalog
from catalog.problems import InvalidError
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


def test_the_edits_are_wrong_each_in_its_own_way(tmp_path: Path) -> None:
    for number in range(EDITS):
        (edited := tmp_path / "edited.yaml").write_text(json.dumps(wrong(number)))

        with pytest.raises(InvalidError) as refused:
            load_catalog([edited])

        (problem,) = refused.value.problems
        assert problem.message.startswith(f"'nobody-{number}' is no class")

"""Every failure mode in README.md, and every promise in the README of the product, names tests that exist."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parents[1]
TABLE: Final = (Path(__file__).parent / "README.md").read_text()
ROWS: Final = [line for line in TABLE.splitlines() if re.match(r"\| \d+ \|", line)]
PROMISED: Final = (TESTS.parent / "README.md").read_text().partition("\n## What we promise and how it was tested\n")[2]
PROMISES: Final = [line for line in PROMISED.splitlines() if line.startswith("| ")][1:]
NAMED: Final = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE + PROMISED)))


def test_every_failure_mode_has_a_row() -> None:
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, 33))


def test_every_promise_has_a_figure_and_a_test() -> None:
    assert PROMISES
    for _, under, _, figure, shown, _ in (row.split("|") for row in PROMISES):
        assert re.search(r"\d", figure), under
        assert re.search(r"`[\w/]+\.py::test_\w+`", shown), under


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_every_row_names_a_test(row: str) -> None:
    assert re.search(r"`[\w/]+\.py::test_\w+`", row), row


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda text: text)
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    found = {node.name for node in ast.walk(ast.parse((TESTS / path).read_text())) if isinstance(node, ast.FunctionDef)}
    assert name in found

"""The table in README.md names every failure mode once, and tests that exist."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parents[1]
TABLE: Final = (Path(__file__).parent / "README.md").read_text()
ROWS: Final = [line for line in TABLE.splitlines() if re.match(r"\| \d+ \|", line)]
NAMED: Final = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE)))


def test_every_failure_mode_has_a_row() -> None:
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, 33))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_every_row_names_a_test(row: str) -> None:
    assert re.search(r"`[\w/]+\.py::test_\w+`", row), row


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda text: text)
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    found = {node.name for node in ast.walk(ast.parse((TESTS / path).read_text())) if isinstance(node, ast.FunctionDef)}
    assert name in found

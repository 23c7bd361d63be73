"""The table of failure cases and that of invariants name every number once, and functions that exist."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent
INVARIANTS: Final = [f"I{number}" for number in range(1, 13)]
NAME: Final = re.compile(r"`([\w./]+\.py)::(\w+)`")


def rows(file: Path, key: str) -> dict[str, str]:
    """Read the rows of a table by their first column; a key that stands twice is an error."""
    found: dict[str, str] = {}
    for line in file.read_text().splitlines():
        if match := re.match(rf"\| ({key}) \| ", line):
            assert match[1] not in found, f"{match[1]} stands twice"
            found[match[1]] = line
    return found


CASES: Final = rows(HERE / "README.md", r"\d+")
HELD: Final = rows(HERE.parents[1] / "docs/gpu-attach.md", r"I\d+")
ROWS: Final = {**CASES, **HELD}
NAMED: Final = sorted({name for row in ROWS.values() for name in NAME.findall(row)})


def test_every_failure_case_has_a_row() -> None:
    assert list(map(int, CASES)) == list(range(1, 63))


def test_every_invariant_has_a_row() -> None:
    assert list(HELD) == INVARIANTS


@pytest.mark.parametrize("number", ROWS)
def test_every_row_names_what_shows_it_or_says_why_nothing_can(number: str) -> None:
    row = ROWS[number]
    assert not re.search(r"`test_\w+`", row), "name the file too: `test_plan.py::test_it_ends`"
    assert NAME.search(row) or row.split("|")[4].strip(), row


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda text: text)
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    found = {node.name for node in ast.walk(ast.parse((HERE / path).read_text())) if isinstance(node, ast.FunctionDef)}
    assert name in found

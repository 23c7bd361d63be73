"""EDGE: what the command line prints: tables for people, YAML and JSON for scripts."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar

import click
import orjson

from catalog.problems import InvalidError
from catalog.yamltext import Numeral, render_documents
from podsla.summary import counted

T = TypeVar("T")

REFUSED: Final = 1
USAGE: Final = 2
INVALID: Final = 3


class ClusterError(Exception):
    """A cluster cannot be read or written as asked; the message says which call, why, and what to do."""


_PROGRESS_FROM: Final = 200  # items; fewer are done before a bar could be read


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, indent: str = "") -> None:
    """Print rows under upper-case headings, as kubectl does: no lines, no folds, colour on a terminal alone."""
    heading = [styled(column.upper(), "bold") for column in columns]
    for line in _aligned([heading, *rows]):
        click.echo(f"{indent}{line}")


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write rows with their columns below one another; a cell's colour takes no place."""
    lengths = [[len(click.unstyle(cell)) for cell in row] for row in rows]
    widths = [max(column) for column in zip(*lengths, strict=True)]
    for row, taken in zip(rows, lengths, strict=True):
        padded = zip(row, taken, widths, strict=True)
        yield "  ".join(cell + " " * (width - length) for cell, length, width in padded).rstrip()


def styled(text: str, style: str) -> str:
    """Give a text the look of a style: on a terminal alone, and there unless NO_COLOR asks for none."""
    return text if os.environ.get("NO_COLOR") else click.style(text, **_STYLES[style])


def say(text: str = "", *, style: str = "") -> None:
    """Print a line for a person."""
    click.echo(styled(text, style) if style else text)


def note(text: str, *, style: str = "") -> None:
    """Print a line beside the output, on standard error."""
    click.echo(styled(text, style) if style else text, err=True)


_STYLES: Final[dict[str, Any]] = {
    "good": {"fg": "green"},
    "warn": {"fg": "yellow"},
    "bad": {"fg": "red"},
    "dim": {"dim": True},
    "bold": {"bold": True},
}


def print_json(value: Any) -> None:
    """Print a value as indented JSON, keys in their order; numbers keep the text they were written with."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_PASSTHROUGH_SUBCLASS
    click.echo(orjson.dumps(value, default=_json, option=options).decode())


_JSON_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)


def _plain(numeral: Numeral) -> Any:
    """Write a number that YAML allows and JSON does not, as .5; infinity and the like stay text."""
    try:
        number = Decimal(numeral.replace("_", ""))
    except InvalidOperation:
        return str(numeral)
    return orjson.Fragment(format(number, "f").encode()) if number.is_finite() else str(numeral)


def _json(value: Any) -> Any:
    if isinstance(value, Numeral):
        return orjson.Fragment(value.encode()) if _JSON_NUMBER.fullmatch(value) else _plain(value)
    return str(value)


def print_yaml(documents: Sequence[Any]) -> None:
    """Print documents as YAML."""
    click.echo(render_documents(list(documents)), nl=False)


def print_value(value: Any, form: str) -> None:
    """Print one value as `json` or `yaml`."""
    if form == "json":
        print_json(value)
    else:
        print_yaml([value])


def with_progress(items: Sequence[T], what: str) -> Iterator[T]:
    """Go through items, with a bar on a terminal where there are many."""
    hidden = len(items) < _PROGRESS_FROM or not sys.stderr.isatty()
    with click.progressbar(items, label=what, file=sys.stderr, hidden=hidden) as bar:
        yield from bar


def print_problems(error: InvalidError) -> None:
    """Print every problem, one a line, as compilers do."""
    for problem in error.problems:
        note(str(problem), style="bad")
    note(f"{counted(len(error.problems), 'problem')}; nothing was taken over", style="bold")

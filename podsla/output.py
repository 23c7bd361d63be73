"""EDGE: what the command line prints: tables for people, YAML and JSON for scripts."""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar

import click
import orjson
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from catalog.problems import InvalidError
from catalog.yamltext import Numeral, render_documents
from podsla.summary import counted

T = TypeVar("T")

REFUSED: Final = 1
USAGE: Final = 2
INVALID: Final = 3


class ClusterError(Exception):
    """A cluster cannot be read or written as asked; the message says which call, why, and what to do."""


_PIPE_COLUMNS: Final = 100_000  # a table in a pipe is never folded: scripts and grep read whole lines
_PROGRESS_FROM: Final = 200  # items; fewer are done before a bar could be read


def console(*, stderr: bool = False) -> Console:
    """Open the console: as wide as the terminal, or without limit in a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_COLUMNS
    return Console(file=stream, width=width, highlight=False, markup=False, soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, indent: str = "") -> None:
    """Print rows under upper-case headings, as kubectl does: no lines, no colour but on a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column.upper(), no_wrap=True)
    for row in rows:
        table.add_row(*row)
    out = console()
    with out.capture() as capture:
        out.print(table, crop=False)
    for line in capture.get().splitlines():
        _echo(f"{indent}{line.rstrip()}")


def say(text: str = "", *, style: str = "") -> None:
    """Print a line for a person."""
    _echo(text, style)


def note(text: str, *, style: str = "") -> None:
    """Print a line beside the output, on standard error."""
    _echo(text, style, err=True)


def _echo(text: str, style: str = "", *, err: bool = False) -> None:
    """Print a line, with colour on a terminal alone, and not there either where NO_COLOR says so."""
    colour = False if os.environ.get("NO_COLOR") else None  # None: as the stream is a terminal or none
    click.echo(click.style(text, **_STYLES[style]) if style else text, err=err, color=colour)


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


def with_progress(items: Sequence[T], what: str) -> Iterable[T]:
    """Go through items, with a bar on a terminal where there are many."""
    if len(items) < _PROGRESS_FROM or not sys.stderr.isatty():
        return items
    return track(items, description=what, console=console(stderr=True), transient=True)


def print_problems(error: InvalidError) -> None:
    """Print every problem, one a line, as compilers do."""
    for problem in error.problems:
        note(str(problem), style="bad")
    note(f"{counted(len(error.problems), 'problem')}; nothing was taken over", style="bold")

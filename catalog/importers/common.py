"""What importers share: rows read exactly, faults named by line and column, sizes and sources put in order. Pure.

Figures are integers and fractions throughout; what is no whole number of base units is rounded down, since a promise
is never rounded up.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Any, Final, TypeAlias

from catalog.problems import InvalidError, Path, Problem
from catalog.quantity import render_cpu_m
from catalog.reader import read_part
from catalog.schema import API_VERSION
from catalog.yamltext import Document

Fields: TypeAlias = dict[str, Any]

GHZ_IN_MHZ: Final = 1000
GBIT: Final = 10**9
GBIT_IN_BYTES: Final = 10**9 // 8
MBIT_IN_BYTES: Final = 10**6 // 8
GIB: Final = 1 << 30

NEEDED: Final = ("family", "size", "vcpu", "memory_gib")
"""The columns without which there is no size; whatever the provider, every other may be blank or missing."""

GPU_RANK: Final = 32
"""
How many vCPUs a whole GPU counts for in `cost`.

A rank, not a price: it keeps pods that ask for no GPU off sizes that have one, unless nothing else holds them.
"""

_NUMBER: Final = re.compile(r"\d{1,15}(\.\d{1,15})?", re.ASCII)
_GENERATION: Final = re.compile(r"[a-z]+([1-9]\d{0,2})", re.ASCII)
_ARM: Final = re.compile(r"\barm|yitian|ampere|graviton|kunpeng", re.IGNORECASE)
_VENDORS: Final = ("NVIDIA ", "AMD ")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file; what is wrong with it is added to *problems*, so that one run names every fault."""

    fields: Mapping[str, str]
    file: str
    line: int
    problems: list[Problem]

    def fault(self, column: str, message: str) -> None:
        """Note what is wrong with a column of this line."""
        self.problems.append(Problem(self.file, self.line, column, message))

    def text(self, column: str) -> str:
        """Read a column as one line of text; "" where it is blank, or no column of the file."""
        return " ".join(self.fields.get(column, "").split())

    def needed(self, column: str) -> str:
        """Read a column that may not be blank."""
        text = self.text(column)
        if not text:
            self.fault(column, "is blank; write it, or remove the line")
        return text

    def figure(self, column: str, scale: int, *, needed: bool = False) -> int | None:
        """Read a number times *scale* as whole base units, rounded down; None where it is blank, or not usable."""
        text = self.needed(column) if needed else self.text(column)
        if not text:
            return None
        blank = "" if needed else ", or leave it blank where none is published"
        if not _NUMBER.fullmatch(text):
            self.fault(column, f"{text[:40]!r} is not a number; write it as 4 or 2.5{blank}")
            return None
        value = floor(Fraction(text) * scale)
        if value < 1:
            self.fault(column, f"is {text}, which is less than one whole unit; write more{blank}")
            return None
        return value

    def local_disk(self, column: str) -> bool | None:
        """Read how many disks of the host there are as True; None, which is not written, where there is none."""
        return True if self.text(column) not in ("", "0") else None


@dataclass(frozen=True, slots=True)
class Column:
    """
    A column that holds a figure.

    Attributes:
        path: The field of a size that it becomes.
        name: Its name in the file.
        scale: How many base units one of its units is.
        render: Base units to what is written.
        above: For a burst, the path of the figure that it must exceed; otherwise it says nothing and is left out.
        needed: There is no size without it, so it may not be blank.
    """

    path: str
    name: str
    scale: int
    render: Callable[[int], str | int]
    above: str = ""
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where the figures of a family were published ("": not said); *notes* are sentences about them."""

    family: str
    snapshot: str
    source: str
    notes: tuple[str, ...] = ()


Reader: TypeAlias = Callable[[Row], tuple[Fields, Source]]


def plain(value: int) -> int:
    """Write a figure as the integer it is."""
    return value


def read_figures(row: Row, columns: Iterable[Column]) -> dict[str, int]:
    """Read every figure of a line by its path, in the order of *columns*; blanks stay absent."""
    found: dict[str, int] = {}
    for column in columns:
        value = row.figure(column.name, column.scale, needed=column.needed)
        if value is not None and value > found.get(column.above, 0):
            found[column.path] = value
    return found


def render_figures(found: Mapping[str, int], columns: Iterable[Column]) -> Fields:
    """Write figures as a catalogue does."""
    return {column.path: column.render(found[column.path]) for column in columns if column.path in found}


def nest(values: Mapping[str, Any]) -> Fields:
    """Turn {"cpu.baseMHz": 2700, "generation": None} into {"cpu": {"baseMHz": 2700}}: None and "" stay absent."""
    fields: Fields = {}
    for path, value in values.items():
        if value is None or value == "":
            continue
        group, _, leaf = path.rpartition(".")
        (fields.setdefault(group, {}) if group else fields)[leaf] = value
    return fields


def generation(family: str) -> int | None:
    """Read the generation in a family's name: c7 is 7, hfc8i is 8; None where no letters-then-digits open the name."""
    match = _GENERATION.match(family)
    return int(match[1]) if match else None


def arch_of(text: str) -> str | None:
    """Tell "arm64" from the name of a processor; None where it is amd64, the default of a size."""
    return "arm64" if _ARM.search(text) else None


def model_of(text: str) -> str:
    """Strip the vendor: "NVIDIA A10" is "A10"."""
    for vendor in _VENDORS:
        text = text.removeprefix(vendor)
    return text


def rank(vcpu_m: int, gpus: Fraction) -> str | int | None:
    """Rank a size with GPUs, or a share of one, in vCPUs; None without: a size ranks by its vCPU by itself."""
    cost_m = vcpu_m + floor(gpus * GPU_RANK * 1000)
    if not gpus:
        return None
    return render_cpu_m(cost_m) if cost_m % 1000 else cost_m // 1000


def make_document(rows: Iterable[Mapping[str, str]], read: Reader, name: str, file: str) -> Fields:
    """
    Read rows as a `SpecCatalog` document that the schema accepts.

    Args:
        rows: With the columns of `NEEDED`; any other that *read* looks at and the file lacks counts as blank.
        name: Of the catalogue.
        file: How messages call the file.

    Raises:
        InvalidError: Rows or columns are missing, or hold what cannot be read; every fault is named.
    """
    problems: list[Problem] = []
    found = list(_read(rows, read, file, problems))
    if not found and not problems:
        problems.append(Problem(file, 0, "", "holds no rows; write a header line, and one line for each size"))
    problems += _duplicates(found, file)
    if problems:
        raise InvalidError(problems)
    found.sort(key=lambda item: item[0])
    document = {
        "apiVersion": API_VERSION,
        "kind": "SpecCatalog",
        "metadata": {"name": name},
        "spec": {"sizes": [size for _, size, _, _ in found], "sources": _sources(source for *_, source, _ in found)},
    }
    lines: dict[Path, int] = {("spec", "sizes", index): line for index, (*_, line) in enumerate(found)}
    if faulty := read_part(Document(document, file, lines)).problems:
        raise InvalidError(faulty)
    return document


_Order: TypeAlias = tuple[str, int, int, str]
_Found: TypeAlias = tuple[_Order, Fields, Source, int]


def _read(rows: Iterable[Mapping[str, str]], read: Reader, file: str, problems: list[Problem]) -> Iterator[_Found]:
    for line, fields in _numbered(rows, file, problems):
        missing = [column for column in NEEDED if column not in fields]
        if missing:
            problems += [
                Problem(file, 1, column, "is no column of this file, and there is no size without it; add it")
                for column in missing
            ]
            return
        row = Row(fields, file, line, problems)
        if _misshapen(row):
            continue
        before = len(problems)
        size, source = read(row)
        if len(problems) == before:
            order = (size["family"], row.figure("vcpu", 1000) or 0, row.figure("memory_gib", GIB) or 0, size["name"])
            yield order, size, source, line


def _numbered(
    rows: Iterable[Mapping[str, str]], file: str, problems: list[Problem]
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Say on which line each row stands: as a `csv.DictReader` counts, else one line each after the header."""
    line = 1
    try:
        for fields in rows:
            line = getattr(rows, "line_num", line + 1)
            yield line, fields
    except csv.Error as error:
        problems.append(Problem(file, line + 1, "", f"this is not CSV: {error}"))


def _misshapen(row: Row) -> bool:
    """Find a line with another number of fields than the header; `csv.DictReader` marks both by None."""
    marked: Mapping[Any, Any] = row.fields
    short = [column for column, text in marked.items() if text is None]
    if short:
        row.fault(short[0], "is beyond the end of the line; write as many fields as the header has")
    elif None in marked:
        row.fault("", "the line has more fields than the header; put text that contains a comma in quotes")
    return bool(short) or None in marked


def _duplicates(found: Iterable[_Found], file: str) -> list[Problem]:
    first: dict[str, int] = {}
    problems = []
    for _, size, _, line in found:
        seen = first.setdefault(size["name"], line)
        if seen != line:
            problems.append(Problem(file, line, "size", f"{size['name']!r} is on line {seen} already; keep one"))
    return problems


def _sources(sources: Iterable[Source]) -> list[Fields]:
    """One entry per family and publication, none where no source is given; each note once."""
    notes: dict[tuple[str, str, str], dict[str, None]] = {}
    for source in filter(lambda source: source.source, sources):
        known = notes.setdefault((source.family, source.snapshot, source.source), {})
        known.update(dict.fromkeys(source.notes))
    return [
        nest({"family": family, "snapshot": snapshot, "source": source, "notes": "; ".join(found)})
        for (family, snapshot, source), found in sorted(notes.items())
    ]

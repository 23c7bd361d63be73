"""YAML text ↔ plain data, with the line of every field. Pure: it opens no file.

Built on the parser's events, since composing nodes in C overflows the stack on deep nesting, and since constructed data
has forgotten its lines. Numbers with a point stay text (`Numeral`), so that no float is ever made of a quantity.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from catalog.problems import InvalidError, Path, Problem, render_path

MAX_DEPTH: Final = 100
MAX_NODES: Final = 1_000_000  # after aliases are expanded; a catalogue of 4,000 sizes has some 150,000

_CONSTRUCTOR: Final = yaml.constructor.SafeConstructor()
_TAG: Final = "tag:yaml.org,2002:"
_TEXT_KINDS: Final = {"str", "timestamp", "value", "merge"}  # a date stays text: the schema knows where one belongs


class Numeral(str):
    """A plain number with a point or an exponent, kept as it was written."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its data, the file it is from, and on which line each field stands."""

    data: Any
    file: str
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """Find the line of *path*, or of the nearest field around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 0

    def problem(self, path: Path, message: str) -> Problem:
        """Make a problem of the field at *path*."""
        return Problem(self.file, self.line(path), render_path(path), message)


def parse_documents(text: str, file: str) -> tuple[Document, ...]:
    """
    Read every document of a YAML (or JSON) text.

    Raises:
        InvalidError: The text is no YAML, names a key twice, nests too deep, or expands too far.
    """
    builder = _Builder(text, file)
    try:
        documents = tuple(builder.documents())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise InvalidError([Problem(file, line, "", f"this is not YAML: {error.problem or error.context}")]) from None
    except yaml.YAMLError as error:
        raise InvalidError([Problem(file, 0, "", f"this is not YAML: {str(error).splitlines()[0]}")]) from None
    if builder.problems:
        raise InvalidError(builder.problems)
    return documents


class _Builder:
    def __init__(self, text: str, file: str) -> None:
        self.loader: Any = yaml.CSafeLoader(text)
        self.file = file
        self.problems: list[Problem] = []
        self.lines: dict[Path, int] = {}
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.nodes = 0

    def documents(self) -> Iterator[Document]:
        event = self.loader.get_event()
        while not isinstance(event, yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                self.lines, self.anchors = {}, {}
                data = self.build(self.loader.get_event(), ())
                yield Document(data, self.file, self.lines)
            event = self.loader.get_event()

    def build(self, event: Any, path: Path) -> Any:
        line = event.start_mark.line + 1
        self.lines.setdefault(path, line)
        self.count(1, line)
        if len(path) > MAX_DEPTH:
            self.stop(line, f"nests deeper than {MAX_DEPTH} levels; write it flatter")
        if isinstance(event, yaml.AliasEvent):
            return self.expand(event, line)
        before = self.nodes
        if isinstance(event, yaml.ScalarEvent):
            value = self.scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self.sequence(path)
        else:
            value = self.mapping(path)
        if event.anchor:
            self.anchors[event.anchor] = value, self.nodes - before + 1
        return value

    def count(self, nodes: int, line: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            self.stop(line, f"expands to more than {MAX_NODES} values; use fewer aliases, or split the file")

    def stop(self, line: int, message: str) -> None:
        raise InvalidError([*self.problems, Problem(self.file, line, "", message)])

    def expand(self, event: Any, line: int) -> Any:
        if event.anchor not in self.anchors:
            self.stop(line, f"alias *{event.anchor} has no anchor before it; write &{event.anchor} at its source")
        value, nodes = self.anchors[event.anchor]
        self.count(nodes, line)
        return value

    def sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self.loader.get_event(), yaml.SequenceEndEvent):
            items.append(self.build(event, (*path, len(items))))
        return items

    def mapping(self, path: Path) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        merged: list[Any] = []
        while not isinstance(event := self.loader.get_event(), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            plain = isinstance(event, yaml.ScalarEvent) and not event.style
            key = event.value if isinstance(event, yaml.ScalarEvent) else None
            if key is None:
                self.stop(line, "a key must be text; write `name: value`")
            inner = (*path, str(key))
            if key in fields:
                first = self.lines.get(inner, 0)
                self.problems.append(
                    Problem(self.file, line, render_path(inner), f"is written twice (first on line {first}); keep one")
                )
            self.lines[inner] = line
            value = self.build(self.loader.get_event(), inner)
            if key == "<<" and plain:
                merged += value if isinstance(value, list) else [value]
            else:
                fields[str(key)] = value
        for source in merged:
            fields = {**source, **fields} if isinstance(source, dict) else fields
        return fields

    def scalar(self, event: Any, path: Path) -> Any:
        tag = event.tag or self.loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        kind = tag.removeprefix(_TAG)
        if kind == "null":
            return None
        if kind == "bool":
            return _CONSTRUCTOR.bool_values.get(event.value.lower(), event.value)
        if kind == "int":
            try:
                return _CONSTRUCTOR.construct_yaml_int(yaml.ScalarNode(tag, event.value))
            except ValueError:
                return event.value
        if kind == "float":
            return Numeral(event.value)
        if not tag.startswith(_TAG) or kind not in _TEXT_KINDS:
            self.problems.append(
                Problem(self.file, event.start_mark.line + 1, render_path(path), f"has the tag {tag}; leave it out")
            )
        return event.value


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


# Text that a YAML 1.1 or 1.2 reader other than ours, kubectl's above all, would take for a number or a boolean.
_AMBIGUOUS: Final = re.compile(
    r"[-+]?(\.?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|0[xob][0-9a-fA-F_]+)|[yYnN]", re.ASCII
)


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else "'" if _AMBIGUOUS.fullmatch(text) else None
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(Numeral, lambda dumper, text: dumper.represent_scalar(f"{_TAG}float", str(text)))


def render_documents(documents: list[Any]) -> str:
    """Write documents as YAML: keys in their order, no aliases, long text as blocks."""
    text: str = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text

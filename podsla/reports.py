"""What continuous integration is shown of catalogue files: JUnit XML, and SARIF 2.1.0. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from catalog.lint import Finding, Severity
from catalog.problems import Problem
from catalog.yamltext import Document

UNUSABLE: Final = "UnusableFile"  # the reason of problems: nothing was taken over, so nothing was judged
_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One thing that is wrong, and where it stands.

    Attributes:
        reason: Of lint, or UNUSABLE.
        subject: "class net-intensive"; of a problem, its file.
        path: The field, as "floor.network.pps" or "spec.sizes[3].memory"; "" for the whole.
        line: From 1; 0 where the file as a whole is meant.
    """

    severity: Severity
    reason: str
    subject: str
    path: str
    message: str
    file: str
    line: int


def of_problems(problems: Iterable[Problem]) -> list[Entry]:
    """Enter the problems of files that cannot be used."""
    return [Entry(Severity.ERROR, UNUSABLE, p.file, p.path, p.message, p.file, p.line) for p in problems]


def of_findings(findings: Iterable[Finding], documents: Sequence[Document]) -> list[Entry]:
    """Enter findings, each where the documents say what it is about."""
    places = dict(_places(documents))
    entries = []
    for finding in findings:
        document, path = places[finding.subject]
        line = max(document.line((*path, *inner)) for inner in _inner(finding.path))
        said = (finding.severity, finding.reason.value, finding.subject, finding.path, finding.message)
        entries.append(Entry(*said, document.file, line))
    return entries


def _places(documents: Sequence[Document]) -> Iterator[tuple[str, tuple[Document, tuple[str | int, ...]]]]:
    """Find where each subject of a finding is defined."""
    for document in documents:
        if document.data["kind"] == "Target":
            yield f"target {document.data['metadata']['name']}", (document, ("spec",))
        for number, fields in enumerate(document.data["spec"].get("classes") or ()):
            yield f"class {fields['name']}", (document, ("spec", "classes", number))


def _inner(path: str) -> Iterator[tuple[str, ...]]:
    """Read "floor.network.pps", and "tunable.network.pps" whose key has a dot of its own."""
    steps = path.split(".")
    yield tuple(steps)
    yield steps[0], ".".join(steps[1:])


def junit(suite: str, entries: Sequence[Entry]) -> str:
    """Write a JUnit test suite: an error is a failure, a warning a skipped test with its message."""
    errors = sum(entry.severity is Severity.ERROR for entry in entries)
    cases = "\n".join(map(_case, entries)) or '  <testcase name="no findings" classname="podsla.lint"/>'
    head = f'<testsuite name={quoteattr(suite)} tests="{max(1, len(entries))}" failures="{errors}" errors="0"'
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{head} skipped="{len(entries) - errors}">\n{cases}\n</testsuite>'
    return _NO_XML.sub("\ufffd", text)


def _case(entry: Entry) -> str:
    kind = "failure" if entry.severity is Severity.ERROR else "skipped"
    name = quoteattr(f"{entry.path or entry.subject.partition(' ')[0]}: {entry.reason}")
    told = Problem(entry.file, entry.line, entry.path, entry.message)
    message = f"<{kind} message={quoteattr(entry.message)}>{escape(str(told))}</{kind}>"
    return f"  <testcase classname={quoteattr(entry.subject)} name={name}>{message}</testcase>"


def sarif(version: str, target: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """
    Make a SARIF log of one run.

    Args:
        version: Of podsla.
        target: What was linted against: runs on several targets are kept apart by it.
    """
    rules = sorted({entry.reason for entry in entries})
    driver = {"name": "podsla", "version": version, "rules": [{"id": rule} for rule in rules]}
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"podsla catalog lint/{target}/"},
        "results": [_result(entry, rules.index(entry.reason)) for entry in entries],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(entry: Entry, rule: int) -> Mapping[str, Any]:
    region = {"region": {"startLine": entry.line}} if entry.line else {}
    location = {"physicalLocation": {"artifactLocation": {"uri": _uri(entry.file)}, **region}}
    where = f"{entry.subject}: {entry.path}" if entry.path else entry.subject
    return {
        "ruleId": entry.reason,
        "ruleIndex": rule,
        "level": entry.severity.value,
        "message": {"text": f"{where}: {entry.message}"},
        "locations": [location],
    }


def _uri(file: str) -> str:
    """Write a file's name as a URI, relative as it was named."""
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())

"""What is wrong with a file, where, and what to write instead."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """
    One fault of one field.

    Attributes:
        line: From 1; 0 where the file as a whole is meant.
        path: As "spec.sizes[3].memory"; "" for the whole document.
        message: What is wrong and what to write instead.
    """

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class InvalidError(Exception):
    """Files that cannot be used, with every problem that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


def render_path(path: Path) -> str:
    """Write ("spec", "sizes", 3, "memory") as "spec.sizes[3].memory"; a key with dots is quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif "." in step or "/" in step:
            text += f"[{step!r}]"
        else:
            text += f".{step}" if text else step
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """Say what *name* may have been meant to be, as the end of a sentence."""
    names = sorted(known)
    by_lower = {known_name.lower(): known_name for known_name in names}
    close = [by_lower[match] for match in get_close_matches(name.lower(), by_lower, n=2, cutoff=0.6)]
    close = close or [known_name for known_name in names if len(name) > 2 and name.lower() in known_name.lower()][:2]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known are {', '.join(names[:12])}{', …' if len(names) > 12 else ''}" if names else "there is none"

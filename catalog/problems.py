"""What is wrong with a file, where, and what to write instead."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
_MEANT: Final = 2  # names that one message suggests


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
    meant = close(name, names) or [one for one in names if len(name) > 2 and name.lower() in one.lower()][:_MEANT]
    if meant:
        return f"did you mean {' or '.join(meant)}?"
    return f"known are {', '.join(names[:12])}{', …' if len(names) > 12 else ''}" if names else "there is none"


def close(name: str, known: Iterable[str], *, alike: float = 0.6) -> list[str]:
    """
    Find what *name* may have been meant to be, in whatever case, the likeliest first.

    Two letters in the wrong order are the slip itself, so such a name stands alone; of the rest, difflib's ratio is at
    least *alike*, which counts a swap in a short name as much as a letter that was never meant.
    """
    lower, by_lower = name.lower(), {one.lower(): one for one in sorted(known)}
    found = [one for one in by_lower if _is_swapped(lower, one)][:_MEANT]
    return [by_lower[one] for one in found or get_close_matches(lower, by_lower, n=_MEANT, cutoff=alike)]


def _is_swapped(name: str, other: str) -> bool:
    """Tell whether two neighbouring letters changed places, and nothing else is different."""
    at = next((i for i, (mine, yours) in enumerate(zip(name, other, strict=False)) if mine != yours), 0)
    return name != other and name[:at] + name[at : at + 2][::-1] + name[at + 2 :] == other

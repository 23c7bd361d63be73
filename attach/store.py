"""EDGE: the journal's file, replaced as a whole and on disk before anything else happens; one agent at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from attach.points import Hook, nowhere, point

JOURNAL: Final = "journal.json"
LOCK: Final = "lock"


class TakenError(Exception):
    """Another agent works with this folder, or on this node."""


def _take(path: Path, flags: int, taken: str) -> int:
    """Hold a file, or a folder, against everybody else who asks; the hold goes with this process, however it ends."""
    lock = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise TakenError(taken) from None
    return lock


@contextmanager
def held_node(mount: Path) -> Iterator[None]:
    """
    Hold a node, by the root of its tree of cgroups: agents in containers have that one folder in common.

    Raises:
        TakenError: Another agent does.
    """
    taken = "another agent works on this node, with another --state folder; one node has one agent: end that one first"
    lock = _take(mount, os.O_RDONLY | os.O_DIRECTORY, taken)
    try:
        yield
    finally:
        os.close(lock)


class FileStore:
    """A folder with the journal. As a context it is held against every other agent."""

    def __init__(self, folder: Path, at: Hook = nowhere) -> None:
        self.folder, self.at = folder, at
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """
        Hold the folder.

        Raises:
            TakenError: Another process holds it.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = f"another agent works with {self.folder}; one node has one agent"
        self._lock = _take(self.folder / LOCK, os.O_RDWR | os.O_CREAT, taken)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let the folder go."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def load(self) -> bytes | None:
        """Read the journal; None: there has never been one."""
        try:
            return (self.folder / JOURNAL).read_bytes()
        except FileNotFoundError:
            return None

    def save(self, data: bytes) -> None:
        """Replace the journal; after a crash at any moment the old one or the new one is there, whole."""
        new = self.folder / f"{JOURNAL}.new"
        self._write(new, data)
        self._rename(new)

    @point("write the new journal")
    def _write(self, new: Path, data: bytes) -> None:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
        finally:
            os.close(file)

    @point("put the new journal in place")
    def _rename(self, new: Path) -> None:
        new.replace(self.folder / JOURNAL)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

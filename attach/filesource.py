"""EDGE: the desired state from a file, which is read anew when it is another."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attach.desired import parse_desired, unreadable
from attach.entry import Entry
from attach.reconcile import Desired, Status
from catalog.problems import Problem

LOOK_AT_FILE_EVERY_S: Final = 0.5


class FileSource:
    """A file that says which attachments this node shall have."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: object = None

    def __str__(self) -> str:
        return str(self._file)

    def read(self, entries: Mapping[str, Entry]) -> tuple[Desired, tuple[Problem, ...]]:
        """See the port."""
        self._seen = self._stamp()
        file = str(self._file)
        try:
            return parse_desired(self._file.read_text(encoding="utf-8"), file)
        except OSError as error:
            return unreadable([Problem(file, 0, "", f"can't be read: {error.strerror}")])
        except UnicodeDecodeError as error:
            return unreadable([Problem(file, 0, "", f"is not UTF-8 text (byte {error.start})")])

    def tell(self, statuses: Sequence[Status], entries: Mapping[str, Entry]) -> float | None:
        """See the port: nobody asks."""
        return None

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """See the port."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and self._stamp() == self._seen:
            if stopped.wait(min(LOOK_AT_FILE_EVERY_S, left_s)):
                return

    def wake(self) -> None:
        """See the port: `wait` looks at the event."""

    def close(self) -> None:
        """See the port."""

    def _stamp(self) -> object:
        try:
            stat = self._file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

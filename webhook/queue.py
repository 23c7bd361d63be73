"""How many calls may wait at once, with how many bytes, and until when each of them is worth answering."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

MAX_CALLS: Final = 128  # a rollout's burst fits; at a millisecond each, the last one waits no eighth of a second
MAX_BYTES: Final = 32 << 20  # four of the largest reviews; what Python makes of one of them at a time comes on top
_TIMEOUT: Final = re.compile(r"(?:^|&)timeout=(\d{1,3})s(?:&|$)")


class FullError(Exception):
    """There is no room; the caller shall come again."""


@dataclass(slots=True)
class Queue:
    """
    The calls that are being read or wait for their answer.

    Past either bound a call is refused at once: the API server repeats it after a second, and what was let in is
    answered in time.
    """

    max_calls: int = MAX_CALLS
    max_bytes: int = MAX_BYTES
    calls: int = 0
    bytes: int = 0

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """
        Take a place, and give it back at the end.

        Raises:
            FullError: All are taken.
        """
        if self.calls >= self.max_calls:
            raise FullError
        self.calls += 1
        place = Place(self)
        try:
            yield place
        finally:
            self.calls -= 1
            self.bytes -= place.bytes


@dataclass(slots=True)
class Place:
    """What one call takes up."""

    queue: Queue
    bytes: int = 0

    def grow(self, size: int) -> None:
        """
        Take up *size* more bytes.

        Raises:
            FullError: That is more than there is room for.
        """
        if self.queue.bytes + size > self.queue.max_bytes:
            raise FullError
        self.bytes += size
        self.queue.bytes += size


def patience_s(query: str, most_s: float) -> float:
    """Say for how long the caller waits, as the API server writes it (`timeout=5s`); no longer than *most_s*."""
    found = _TIMEOUT.search(query)
    return min(float(found[1]), most_s) if found else most_s

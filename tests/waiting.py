"""Waiting for the state of the world, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], what: str = "", timeout_s: float = 30.0, every_s: float = 0.05) -> T:
    """
    Ask *condition* until it is true.

    Raises:
        AssertionError: It is not true in time; its last exception is the cause.
    """
    end_s = time.monotonic() + timeout_s
    last: Exception | None = None
    while time.monotonic() < end_s:
        try:
            if found := condition():
                return found
        except (AssertionError, LookupError, OSError, TypeError) as error:
            last = error
        time.sleep(every_s)
    raise AssertionError(f"{what or 'the condition'} did not hold within {timeout_s:g} s") from last

"""Crash points: the moments before and after everything that outlives the process, by name; tests die at each."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

Hook = Callable[[str], None]

POINTS: Final[dict[str, str]] = {}
"""Every point that the code declares, "before …" and "after …", and the module that does."""


class _Hooked(Protocol):
    @property
    def at(self) -> Hook: ...


H = TypeVar("H", bound=_Hooked)


def nowhere(_name: str) -> None:
    """Go on: what `at` is outside of tests."""


def point(name: str) -> Callable[[Callable[Concatenate[H, P], R]], Callable[Concatenate[H, P], R]]:
    """Declare that a method has an effect that outlives the process."""

    def declare(effect: Callable[Concatenate[H, P], R]) -> Callable[Concatenate[H, P], R]:
        POINTS.update(dict.fromkeys((f"before {name}", f"after {name}"), effect.__module__))

        @wraps(effect)
        def run(self: H, /, *args: P.args, **kwargs: P.kwargs) -> R:
            self.at(f"before {name}")
            result = effect(self, *args, **kwargs)
            self.at(f"after {name}")
            return result

        return run

    return declare

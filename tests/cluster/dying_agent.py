"""
EDGE: lets the agent in its pod die where a test says, and its clocks go ahead: mounted there as sitecustomize.py.

The agent is the one that is shipped, and knows nothing of it. Orders are files in a folder that pod and node share.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

from attach import clock, points
from attach.entry import Now
from attach.points import Hook

FOLDER: Final = Path("/var/lib/podsla/metrics")  # in the pod; on the node it is where the agent's metrics are
DIES_AT, AHEAD_S = "tests-dies-at", "tests-ahead-s"


def dying_at_orders() -> Hook:
    """Make what counts moments from when there is an order, and dies at the n-th."""
    order, passed = FOLDER / DIES_AT, list[str]()

    def pass_by(name: str) -> None:
        try:
            number = int(order.read_text())
        except OSError:
            passed.clear()
            return
        last = passed[-1] if passed else ""
        if is_moment(last, name):
            number -= 1
            put(order, number)
        passed.append(name)
        if number == 0:
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    return pass_by


def is_moment(last: str, name: str) -> bool:
    """
    Tell whether a crash point is another moment to all others than the point before it, "" for none.

    The first is before anything, each other one right after an effect: what lies between is one moment to them.
    """
    return not last or name == last.replace("before", "after", 1)


def put(order: Path, number: float) -> None:
    """Write an order that nobody sees half of."""
    new = order.with_suffix(".new")
    new.write_text(str(number))
    new.rename(order)


class AheadClock(clock.SystemClock):
    """Both clocks, as many seconds ahead as is ordered."""

    def now(self) -> Now:
        read, ahead_s = super().now(), 0.0
        with suppress(OSError):
            ahead_s = float((FOLDER / AHEAD_S).read_text())
        return Now(read.wall_s + ahead_s, read.boot_s + ahead_s)


if __name__ == "sitecustomize":  # before anything that dies has been imported
    points.nowhere = dying_at_orders()  # type: ignore[assignment]
    clock.SystemClock = AheadClock  # type: ignore[misc]

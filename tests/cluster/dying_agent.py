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

FOLDER: Final = Path("/var/lib/podsla/metrics")  # in the pod; on the node it is where the agent's metrics are
DIES_AT, AHEAD_S = "tests-dies-at", "tests-ahead-s"

_clocks_now: Final = clock.SystemClock.now
_passed: list[str] = []


def pass_by(_name: str) -> None:
    """
    Count moments as `tests/attach/node/agents.py` does, from when there is an order; die at the n-th, and only once.

    The first is before anything, each other one right after an effect: what lies between is one moment to all others.
    """
    order = FOLDER / DIES_AT
    try:
        number = int(order.read_text())
    except OSError:
        _passed.clear()
        return
    last = _passed[-1] if _passed else ""
    if not last or _name == last.replace("before", "after", 1):
        number -= 1
        order.write_text(str(number))
    _passed.append(_name)
    if number == 0:
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def now(self: clock.SystemClock) -> Now:
    """Read both clocks, so many seconds ahead."""
    read, ahead_s = _clocks_now(self), 0.0
    with suppress(OSError):
        ahead_s = float((FOLDER / AHEAD_S).read_text())
    return Now(read.wall_s + ahead_s, read.boot_s + ahead_s)


points.nowhere = pass_by  # before anything that dies has been imported
clock.SystemClock.now = now  # type: ignore[method-assign]

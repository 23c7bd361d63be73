"""
A stand-in for controller and agent: gives each attachment the one device there is, and takes it away when told.

Its device node is a link to /dev/zero, which is in a folder while the device is attached.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

UUID = "GPU-00000000-aaaa"


def condition(kind: str, reason: str = "", *, true: bool = True, message: str = "") -> dict[str, Any]:
    """Write a condition."""
    return {
        "type": kind, "status": "True" if true else "False", "reason": reason or kind, "message": message,
        "lastTransitionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }  # fmt: skip


class StandInAgent:
    """
    Looks at every attachment again and again, as the real ones do.

    Args:
        read: Lists the attachments.
        write: Merges a status into one of them.
        node: The device node to come and go.
        paused: Nothing is attached while it is set.
    """

    def __init__(
        self, read: Callable[[], Sequence[Any]], write: Callable[[Any, dict[str, Any]], None], node: Path
    ) -> None:
        self.read, self.write, self.node = read, write, node
        self.paused = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "StandInAgent":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.02):
            for thing in self.read():
                self._look(thing)

    def _look(self, thing: Any) -> None:
        true = {each["type"] for each in thing.get("status", {}).get("conditions", ()) if each["status"] == "True"}
        if true & {"Released", "Failed"}:
            return
        if thing["spec"].get("release") or "Draining" in true:
            self.take(thing, "ReleaseRequested")
            kept = [each for each in thing.get("status", {}).get("conditions", ()) if each["type"] != "Attached"]
            self.write(thing, {"conditions": [*kept, condition("Released")], "heldSeconds": 1})
        elif not true and not self.paused.is_set():
            self.node.symlink_to("/dev/zero")
            said = [condition("Reserved"), condition("Attached")]
            container = thing["spec"].get("container", "usual")
            self.write(thing, {"conditions": said, "devices": [{"uuid": UUID}], "container": container})

    def take(self, thing: Any, reason: str) -> None:
        """Hide the node."""
        self.node.unlink(missing_ok=True)

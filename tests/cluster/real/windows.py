"""EDGE: how long a device can be opened: tried a hundred times a second in pods, beside what the kubelet says of it."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final

from attach.errors import AttachError
from attach.podresources import KubeletReservations
from kube.api import Object
from tests.cluster.nodeconfig import KUBELET_ROOT
from tests.cluster.real.borrow import opens
from tests.cluster.real.pods import run_in
from tests.system.user import User

EVERY_S: Final = 0.01
GRACE_S: Final = 30  # of an attachment: of no use where the kubelet gives the device away
SOCKET: Final = KUBELET_ROOT / "pod-resources" / "kubelet.sock"
OPENER: Final = f"""
import os, sys, time
while True:
    try:
        os.close(os.open(sys.argv[1], os.O_RDWR | os.O_NONBLOCK))
        print(time.time(), flush=True)
    except OSError:
        pass
    time.sleep({EVERY_S})
"""


@dataclass
class Seen:
    """
    What was seen of a device of this machine, in seconds since 1970.

    Attributes:
        opened: When each pod has opened it.
        placeholder: The pod for which the kubelet holds it; "": that is not known yet.
        freed_s: When the kubelet was asked that answered first without it for that pod; 0: it has it still.
    """

    placeholder: str = ""
    opened: Mapping[str, list[float]] = field(default_factory=dict)
    freed_s: float = 0.0

    def turns(self) -> list[str]:
        """Name who has opened it, in turn: two that have it at once alternate without end."""
        all_of_them = sorted((at_s, pod) for pod, times in self.opened.items() for at_s in times)
        return [pod for pod, _ in groupby(all_of_them, key=lambda one: one[1])]

    def window_s(self, pod: str) -> float:
        """For how long a pod has opened it after the kubelet had freed it; 0: never."""
        return max(0.0, max(self.opened[pod]) - self.freed_s)


def tell(how: str, seen: Seen, pod: str) -> None:
    """Print the figure."""
    print(f"\n{how}: opened for {seen.window_s(pod):.2f} s after the kubelet had freed it")


@contextmanager
def watching(user: User, gpu: Object, pods: Mapping[str, str], placeholder: str = "") -> Iterator[Seen]:
    """
    Look meanwhile; what was seen is complete at the end.

    Args:
        pods: Who opens it: pod → namespace.
        placeholder: As in what is seen.
    """
    seen, ended = Seen(placeholder), threading.Event()
    for pod, where in pods.items():
        opens(user, pod, gpu, where)  # it makes a node of its own for it
        script = 'python3 -c "$1" "/tmp/$2" > /tmp/opened 2>&1 & echo $! > /tmp/opener'
        run_in(user, pod, "sh", "-c", script, "sh", OPENER, gpu["uuid"], namespace=where)
    kubelet = threading.Thread(target=_follow, args=(seen, ended))
    kubelet.start()
    try:
        yield seen
        script = "kill $(cat /tmp/opener) 2> /dev/null; cat /tmp/opened"
        texts = {pod: run_in(user, pod, "sh", "-c", script, namespace=where) for pod, where in pods.items()}
        seen.opened = {pod: list(map(float, text.split())) for pod, text in texts.items()}
    finally:
        ended.set()
        kubelet.join()


def _follow(seen: Seen, ended: threading.Event, socket: Path = SOCKET) -> None:
    """Ask the kubelet again and again; one that is silent has not freed anything."""
    kubelet, listed = KubeletReservations(socket), False
    while not ended.wait(EVERY_S):
        asked_s = time.time()
        try:
            found = any(pod.name == seen.placeholder and pod.devices for pod in kubelet.pods())
        except AttachError:
            continue
        if listed and not found:
            seen.freed_s = asked_s
        listed = found

"""EDGE: finds pods that were created while no replica of the webhook could be reached, and tells of each."""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from catalog.keys import SIZE
from controller.metrics import Metrics
from controller.world import World
from kube.events import post
from kube.kinds import PODS, RUNNING
from nodes.unsized import Unsized, read_unsized

OPEN_S: Final = 30.0  # while the webhook fails open; every pod without a size is listed then, in pages
CLOSED_S: Final = 600.0  # else there should be none, but for those of before
TOLD_AT_ONCE: Final = 50  # events in one round


class Reason(StrEnum):
    """What an event of a pod says: the closed set."""

    POD_NOT_SIZED = "PodNotSized"


class UnsizedPods:
    """
    Reconciles what is told of them; they run on, since ending them is not ours to decide.

    They are listed now and then, metadata alone, and not watched: all the pods of others are without a size too.

    Attributes:
        found: Those that were there a moment ago, sorted.
    """

    def __init__(self, world: World, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self.world, self.metrics, self.clock = world, metrics, clock
        self.found: tuple[Unsized, ...] = ()
        self._told: frozenset[str] = frozenset()  # UIDs
        self._listed_s: float | None = None

    def reconcile(self) -> bool:
        """List them, and tell of those that are new; False where more are left to tell of."""
        now_s, every_s = self.clock(), OPEN_S if self._fails_open() else CLOSED_S
        if self._listed_s is None or now_s - self._listed_s >= every_s:
            pods = self.world.api.list_metadata(PODS, labelSelector=f"!{SIZE}", fieldSelector=RUNNING)
            self.found, self._listed_s = tuple(sorted(read_unsized(pods))), now_s
            self._told &= {one.uid for one in self.found}
            self.metrics.unsized(len(self.found))
        new = [one for one in self.found if one.uid not in self._told]
        for one in new[:TOLD_AT_ONCE]:
            self._tell(one)
        return len(new) <= TOLD_AT_ONCE

    def _fails_open(self) -> bool:
        hooks = [hook for watched in self.world.webhooks for thing in watched.items() for hook in thing["webhooks"]]
        return any(hook["failurePolicy"] == "Ignore" and hook["name"].endswith("pods.podsla.io") for hook in hooks)

    def _tell(self, one: Unsized) -> None:
        namespace, _, name = one.pod.partition("/")
        metadata = {"namespace": namespace, "name": name, "uid": one.uid}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        note = f"podsla could not be reached when this pod was created, and did not size it (class {one.sla_class!r}); "
        advice = "delete it to have it created anew"
        post(self.world.api, pod, kind="Warning", reason=Reason.POD_NOT_SIZED, action="Size", note=note + advice)
        self._told |= {one.uid}

"""EDGE: tells in the status of each catalogue how its classes are used, and what nodes hold for running pods."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from catalog.stored import Kept, read_kept
from catalog.verdict import condition_of, counted, is_said, with_condition
from controller.capacity import Capacity
from controller.catalogs import Catalogs
from controller.metrics import Metrics
from controller.unsized import UnsizedPods
from controller.world import Failures, World, patch_version
from kube.api import Object
from kube.kinds import SPEC_CATALOGS
from nodes.capacity import Held
from nodes.standing import ClassUse, class_uses
from nodes.unsized import Unsized

AT_MOST_EVERY_S: Final = 10.0
SHOWN: Final = 5
FOLLOWED: Final = "Followed"
SIZED: Final = "PodsSized"


class Reason(StrEnum):
    """Whether nodes publish what catalogues say: the closed set that is also the condition's reason."""

    FOLLOWED = "Followed"
    HELD_FOR_PODS = "HeldForPods"


class SizedReason(StrEnum):
    """Whether every pod that names a class of a catalogue has its size: the closed set that is also the reason."""

    ALL_SIZED = "AllSized"
    PODS_NOT_SIZED = "PodsNotSized"


class Usage:
    """Reconciles what the status says of pods, and how many of them the word on an edit counts."""

    def __init__(
        self,
        world: World,
        metrics: Metrics,
        catalogs: Catalogs,
        capacity: Capacity,
        unsized: UnsizedPods,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.world, self.metrics, self.catalogs, self.serving = world, metrics, catalogs, catalogs.serving
        self.capacity, self.unsized = capacity, unsized
        self.clock, self._not_before_s = clock, 0.0

    def reconcile(self) -> bool:
        """Count pods by class and what is held for them, and write what changed."""
        served, now_s = self.serving.current(), self.clock()
        if served is None or now_s < self._not_before_s:
            return True
        self._not_before_s = now_s + AT_MOST_EVERY_S
        offers = {size.name: served.target.offer(size) for size in served.catalog.sizes}
        uses = class_uses(self.world.bound(), offers.get)
        self.metrics.pods({use.name: use.pods for use in uses}, {use.name: use.misfits for use in uses})
        owner = {name: sla_class.catalog for name, sla_class in served.catalog.classes.items()}
        held = self._held_by_catalog()
        failures = Failures()
        for thing in self.world.catalogs.items():
            name = thing["metadata"]["name"]
            own = [use for use in uses if owner.get(use.name) == name]
            unsized = [one for one in self.unsized.found if owner.get(one.sla_class) == name]
            said = [followed(held.get(name, [])), sized(unsized), *self._retold(thing)]
            body = usage_status(thing, own, said, datetime.now(UTC))
            with failures.noted():
                if body:
                    version = thing["metadata"]["resourceVersion"]
                    patch_version(self.world.api, SPEC_CATALOGS, name, version, body, "status")
        failures.end()
        return True

    def _retold(self, thing: Object) -> Iterator[dict[str, Any]]:
        """Say anew what became of an edit, where nothing but the sentence has changed: it may count pods."""
        verdict = self.catalogs.verdicts.get(thing["metadata"]["name"])
        if verdict is not None and is_said(now := condition_of(verdict, thing), conditions_of(thing)):
            yield now

    def _held_by_catalog(self) -> dict[str, list[Held]]:
        """Group what nodes hold by the catalogue that has their size, or had it last."""
        accepted = self.serving.accepted
        catalog = owners(self.world.revisions.items(), accepted.kept if accepted is not None else ())
        found: dict[str, list[Held]] = {}
        for held in self.capacity.held:
            if held.size in catalog:
                found.setdefault(catalog[held.size], []).append(held)
        return found


def owners(revisions: Iterable[Object], serving: Iterable[Kept]) -> dict[str, str]:
    """
    Say of each size which catalogue it is of: the one that serves it, else the one that had it last.

    Args:
        revisions: ControllerRevisions; each catalogue numbers its own, so their age is what tells.
        serving: What serves, the oldest catalogue, which keeps a name, first.
    """
    by_age = sorted(revisions, key=lambda one: (one["metadata"].get("creationTimestamp") or "", one.get("revision", 0)))
    kept = (*read_kept(by_age), *reversed(tuple(serving)))
    return {str(size.get("name")): one.catalog for one in kept for size in one.spec.get("sizes") or ()}


def usage_status(
    thing: Object, uses: Iterable[ClassUse], said: Iterable[Mapping[str, Any]], now: datetime
) -> dict[str, Any]:
    """
    Write how a catalogue is used as a JSON merge patch of its status; empty where the status says so already.

    Args:
        thing: The SpecCatalog.
        said: Conditions.
        now: In UTC; when a condition changed, if it did.
    """
    old, uses, conditions = thing.get("status") or {}, list(uses), conditions_of(thing)
    for condition in said:
        conditions = with_condition(conditions, condition, now)
    new = {
        "pods": sum(use.pods for use in uses),
        "usage": [{"class": use.name, "pods": use.pods, "misfits": use.misfits} for use in uses],
        "conditions": conditions,
    }
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    return {"status": changed} if changed else {}


def conditions_of(thing: Object) -> list[Any]:
    """List the conditions that an object has."""
    found: list[Any] = (thing.get("status") or {}).get("conditions") or []
    return found


def followed(held: Sequence[Held]) -> dict[str, Any]:
    """Say whether nodes publish what a catalogue says, or hold more of it for pods."""
    if not held:
        message = "every node publishes what its size offers"
        return {"type": FOLLOWED, "status": "True", "reason": Reason.FOLLOWED.value, "message": message}
    nodes = len({one.node for one in held})
    each = [f"{one.node} has {one.key} {one.published}, {one.offered or 'none'} is offered" for one in held]
    which = f"{nodes} node{'s' if nodes > 1 else ''} publish{'' if nodes > 1 else 'es'} more than offered"
    message = f"{which}, for pods that are bound there and need it: {_first(each)}"
    return {"type": FOLLOWED, "status": "False", "reason": Reason.HELD_FOR_PODS.value, "message": message}


def sized(unsized: Sequence[Unsized]) -> dict[str, Any]:
    """Say whether pods that name a class of a catalogue have their size."""
    if not unsized:
        message = "every running pod that names a class has its size"
        return {"type": SIZED, "status": "True", "reason": SizedReason.ALL_SIZED.value, "message": message}
    pods = f"{counted(len(unsized), 'pod')} {'name' if len(unsized) > 1 else 'names'} a class and"
    message = f"{pods} run{'' if len(unsized) > 1 else 's'} without a size: {_first([one.pod for one in unsized])}; "
    advice = "podsla could not be reached when they were created: delete them to have them created anew"
    return {"type": SIZED, "status": "False", "reason": SizedReason.PODS_NOT_SIZED.value, "message": message + advice}


def _first(texts: list[str]) -> str:
    """List the first few, and how many more there are."""
    more = [f"and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return "; ".join([*texts[:SHOWN], *more])

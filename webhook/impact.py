"""What an edit of catalogue or target does to pods that run: which keep what they have, and which no longer can. Pure.

Nothing here touches a pod: sizes of running pods never change. It says what a roll-out would meet.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Any

from catalog.dimension import DIMENSIONS, MEMORY, RESERVABLE, VCPU, Ask, Dimension, lacking
from catalog.fit import Index
from catalog.keys import RECORD
from catalog.model import Reserve
from catalog.pod import PodError, Subject, mapping_at, read_pod
from webhook.admit import Serving, believe
from webhook.decide import Labels, decide
from webhook.decision import Decision, Deny, Ignore, Place
from webhook.undo import take_back


class Outcome(StrEnum):
    """
    What an edit does to one pod; every pod has exactly one.

    UNCHANGED: a new pod like it gets the same size as before.
    CHANGES: a new pod like it gets another size, or none; the size of the running pod still exists here and still
        offers all that the pod was promised.
    BREAKS: the size of the running pod is gone, or offers less than the pod was promised, or a new pod like it would be
        refused: the next restart of that pod fails or gets less.
    NEWLY_SERVED: it was refused before, and gets a size now.
    NOT_SERVED: it was refused before, and still is.
    NOT_OURS: it names no class, before and after.
    """

    UNCHANGED = "Unchanged"
    CHANGES = "Changes"
    BREAKS = "Breaks"
    NEWLY_SERVED = "NewlyServed"
    NOT_SERVED = "NotServed"
    NOT_OURS = "NotOurs"


@dataclass(frozen=True, slots=True)
class NamedPod:
    """A pod as it stands in the cluster or in a file, a name for it, and the labels of its namespace."""

    name: str
    pod: Mapping[str, Any]
    namespace_labels: Labels


@dataclass(frozen=True, slots=True)
class Impact:
    """
    What an edit does to one pod.

    Attributes:
        size: The size that the pod has (or would get before the edit); None where it has none.
        new_size: The size that a new pod like it gets after the edit; None where it gets none.
        message: A sentence for a person, with both figures; "" where there is nothing to say.
    """

    name: str
    outcome: Outcome
    size: str | None
    new_size: str | None
    message: str


def impact(pods: Iterable[NamedPod], old: Serving, new: Serving, today: date) -> tuple[Impact, ...]:
    """
    Judge every pod, in the order given.

    Args:
        pods: Running pods with their records, or pods that were never admitted.
        old: Serving now; its earlier revisions tell what running pods were promised.
        new: What would serve after the edit.
        today: For classes that are refused from some day on.
    """
    return tuple(_impact(pod, old, new, today) for pod in pods)


def count(impacts: Iterable[Impact]) -> dict[Outcome, int]:
    """Count pods by outcome; every outcome is there."""
    counts = dict.fromkeys(Outcome, 0)
    for found in impacts:
        counts[found.outcome] += 1
    return counts


def _impact(named: NamedPod, old: Serving, new: Serving, today: date) -> Impact:
    try:
        subject, held = _read(named, old)
    except PodError as error:
        return Impact(named.name, Outcome.NOT_SERVED, None, None, f"{error}; the API server would refuse it too")
    before = decide(subject, named.namespace_labels, old.index, today)
    after = decide(subject, named.namespace_labels, new.index, today)
    if held is None and isinstance(before, Place):
        held = before
    new_size = after.choice.size.name if isinstance(after, Place) else None
    if held is None:
        outcome, message = _without_size(before, after)
        return Impact(named.name, outcome, None, new_size, message)
    outcome, message = _with_size(held, before, after, old.index, new.index)
    return Impact(named.name, outcome, held.choice.size.name, new_size, message)


def _read(named: NamedPod, old: Serving) -> tuple[Subject, Place | None]:
    """
    Read a pod as it was before anything was written into it, and what it was promised then.

    A pod that runs is bound to a node; a new one like it is not.
    """
    now = read_pod(named.pod)
    annotations = mapping_at(mapping_at(named.pod.get("metadata"), "metadata").get("annotations"), "annotations")
    believed = believe(annotations.get(RECORD), old)
    if believed is None:
        return now, None
    subject = take_back(now, believed.before, believed.written)
    return replace(subject, bound=believed.before.bound), believed.place


def _without_size(before: Decision, after: Decision) -> tuple[Outcome, str]:
    if isinstance(after, Place):
        was = f"{before.reason} before" if isinstance(before, Deny) else "not sized before"
        return Outcome.NEWLY_SERVED, f"{was}; a new pod like it gets {after.choice.size.name}"
    if isinstance(after, Deny):
        return Outcome.NOT_SERVED, f"{after.reason}: {after.message}"
    return Outcome.NOT_OURS, ""


def _with_size(held: Place, before: Decision, after: Decision, old: Index, new: Index) -> tuple[Outcome, str]:
    """Compare by what the edit itself does: what was short before, and is as short after, is no news."""
    faults = _faults(held, after, new)
    if faults and faults != _faults(held, before, old):
        return Outcome.BREAKS, "; ".join(faults)
    size = held.choice.size.name
    expected = before.choice.size.name if isinstance(before, Place) else size
    if isinstance(after, Ignore):
        outcome = Outcome.UNCHANGED if isinstance(before, Ignore) else Outcome.CHANGES
        return outcome, f"a new pod like it names no class and gets no size; the running pod keeps {size}"
    if isinstance(after, Place) and after.choice.size.name != expected:
        message = f"a new pod like it gets {after.choice.size.name} instead of {expected}"
        return Outcome.CHANGES, f"{message}{_why(held, after)}; {size} still holds what the running pod was promised"
    if faults or not isinstance(after, Place):
        return Outcome.UNCHANGED, "; ".join(faults)
    return Outcome.UNCHANGED, f"a new pod like it gets {size} too{why}" if (why := _why(held, after)) else ""


def _faults(held: Place, decision: Decision, index: Index) -> list[str]:
    """Say why the pod could not be had again as it is: its size, what that offers, what a new pod would be told."""
    size = held.choice.size
    position = next((p for p, s in enumerate(index.catalog.sizes) if s.name == size.name), None)
    faults = []
    if position is None:
        faults.append(f"size {size.name} is gone from the catalogue")
    elif not index.target.has(index.catalog.sizes[position]):
        faults.append(f"target {index.target.name!r} has no {size.name} any more")
    else:
        promised, offer = _promised(held), index.offers[position]
        faults += [_short(size.name, d, promised, offer[d.index]) for d in lacking(offer, promised)]
    if isinstance(decision, Deny):
        faults.append(f"a new pod like it is refused: {decision.reason}: {decision.message}")
    return faults


def _short(size: str, dimension: Dimension, promised: Ask, figure: int | None) -> str:
    promise = dimension.render(promised[dimension.index])
    now = "now publishes no figure" if figure is None else f"now offers {dimension.render(figure)}"
    return f"{dimension}: the pod was promised {promise}, and {size} {now}"


def _promised(held: Place) -> Ask:
    """What the pod was given: what it asked, and of a whole size all of its CPU, memory and asked divisible figures."""
    promised = list(held.ask)
    if held.reserve is Reserve.SIZE:
        asked = [d for d in RESERVABLE if held.ask[d.index]]
        for d in (VCPU, MEMORY, *asked):
            promised[d.index] = max(promised[d.index], held.choice.offer[d.index] or 0)
    return tuple(promised)


def _why(held: Place, after: Place) -> str:
    """Name the figures that differ between what was asked before and what is asked now; none where only sizes moved."""
    pairs = zip(DIMENSIONS, held.ask, after.ask, strict=True)
    changed = [f"{d} {d.render(was)} → {d.render(now)}" for d, was, now in pairs if was != now]
    return f" (asks {', '.join(changed)})" if changed else ""

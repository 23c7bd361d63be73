"""One pod in, one answer out: the decision, the pod as it shall be, and the patch between. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, TypeAlias

from catalog.fit import Index
from catalog.keys import RECORD
from catalog.pod import PodError, Subject, mapping_at, read_pod
from webhook.apply import NO_EFFECTS, apply, clear
from webhook.decide import Labels, replay
from webhook.decision import Deny, Effects, Ignore, Place, Reason, clip
from webhook.memo import Memo
from webhook.patch import Operation, diff
from webhook.record import read_record, render_record
from webhook.undo import already_there, take_back, without


@dataclass(frozen=True, slots=True)
class Serving:
    """
    What a replica serves.

    Attributes:
        index: The serving catalogue and target.
        earlier: Earlier revisions that are still known, by revision; a record of any other counts as absent.
        memo: What `index` decided before.
    """

    index: Index
    earlier: Mapping[str, Index] = field(default_factory=dict)
    memo: Memo = field(default_factory=Memo, compare=False, repr=False)

    def at(self, revision: str) -> Index | None:
        """Find the index of a revision."""
        return self.index if revision == self.index.catalog.revision else self.earlier.get(revision)


@dataclass(frozen=True, slots=True)
class Sized:
    """
    The pod gets a size: the decision, the pod as it shall be, and the operations that make it so.

    Attributes:
        again: It came with a record that is believed.
    """

    place: Place
    pod: Mapping[str, Any]
    patch: tuple[Operation, ...]
    warnings: tuple[str, ...]
    again: bool = False


@dataclass(frozen=True, slots=True)
class Released(Ignore):
    """The pod names no class any more: what was written into it, by its record, is taken out again."""

    pod: Mapping[str, Any]
    patch: tuple[Operation, ...]


Answer: TypeAlias = Sized | Released | Ignore | Deny


def admit(
    pod: Mapping[str, Any],
    namespace_labels: Labels,
    serving: Serving,
    today: date,
    *,
    of_daemonset: bool = False,
    claims: tuple[str, ...] = (),
) -> Answer:
    """
    Admit one pod.

    Args:
        pod: As sent; no field that is not ours is looked at or lost.
        namespace_labels: Of the pod's namespace.
        serving: Catalogue and target.
        today: For classes that are refused from some day on.
        of_daemonset: *pod* is the template of a DaemonSet, whose pods will name it as their owner.
        claims: *pod* is the template of a StatefulSet, whose pods will have these claims as volumes.
    """
    try:
        now = read_pod(pod)
        now = replace(now, daemonset=True) if of_daemonset else now
        now = replace(now, claims=(*claims, *(c for c in now.claims if c not in claims))) if claims else now
        annotations = mapping_at(mapping_at(pod.get("metadata"), "metadata").get("annotations"), "metadata.annotations")
    except PodError as error:
        return Deny(Reason.INVALID_POD, f"{error}; the API server would refuse it too")
    subject, old, found = now, NO_EFFECTS, list[str]()
    text = annotations.get(RECORD)
    believed = believe(text, serving) if text is not None else None
    if believed is not None:
        subject, old = take_back(now, believed.before, believed.written), believed.written
    elif text is not None:
        found.append("podsla.io/record does not follow from its own input; every field counts as the pod's own")
    decision, record = serving.memo.decide(subject, namespace_labels, serving.index, today)
    if isinstance(decision, Ignore) and believed is not None:
        after = clear(pod, old=old, restored=subject)
        return Released(decision.why, after, diff(pod, after))
    if not isinstance(decision, Place):
        return decision
    if believed is not None:
        found += _news(believed.place, decision)
    kept = already_there(pod, decision.effects, old)
    if kept:
        record = render_record(decision, subject, serving.index.catalog.revision, kept)
    after = apply(pod, decision.effects, record, decision.choice.size.name, old=old, restored=subject)
    warnings = tuple(map(clip, [*found, *decision.warnings]))
    return Sized(decision, after, diff(pod, after), warnings, again=believed is not None)


def _news(before: Place, now: Place) -> list[str]:
    """Say where a pod that was sized before gets something else now."""
    was, is_now = (f"{p.choice.size.name} for class {p.sla_class.name}" for p in (before, now))
    return [] if was == is_now else [f"was {was}, is {is_now} now"]


@dataclass(frozen=True, slots=True)
class Believed:
    """A record that was replayed: the pod as it was before, what it was given then, and what was written of that."""

    before: Subject
    place: Place
    written: Effects


def believe(text: object, serving: Serving) -> Believed | None:
    """
    Replay a record: decide again on its input, with its revision.

    Returns:
        None unless the same record comes out, byte for byte.
    """
    noted = read_record(text)
    index = serving.at(noted.revision) if noted else None
    if noted is None or index is None:
        return None
    try:
        place = replay(noted.before, noted.asked_class, noted.served_class, index)
    except (ValueError, TypeError, AttributeError, LookupError):
        return None  # a forged input may hold what no pod can
    if place is None or render_record(place, noted.before, noted.revision, noted.kept) != text:
        return None
    return Believed(noted.before, place, without(place.effects, noted.kept))

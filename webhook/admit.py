"""One pod in, one answer out: the decision, the pod as it shall be, and the patch between. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeAlias

from catalog.fit import Index
from catalog.keys import RECORD
from catalog.pod import PodError, Subject, mapping_at, read_pod
from webhook.apply import NO_EFFECTS, apply, take_back
from webhook.decide import Labels, decide
from webhook.decision import Deny, Effects, Ignore, Place, Reason, clip
from webhook.patch import Operation, diff
from webhook.record import read_record, render_record


@dataclass(frozen=True, slots=True)
class Serving:
    """
    What a replica serves.

    Attributes:
        index: The serving catalogue and target.
        earlier: Earlier revisions that are still known, by revision; a record of any other counts as absent.
    """

    index: Index
    earlier: Mapping[str, Index] = field(default_factory=dict)

    def at(self, revision: str) -> Index | None:
        """Find the index of a revision."""
        return self.index if revision == self.index.catalog.revision else self.earlier.get(revision)


@dataclass(frozen=True, slots=True)
class Sized:
    """The pod gets a size: the decision, the pod as it shall be, and the operations that make it so."""

    place: Place
    pod: Mapping[str, Any]
    patch: tuple[Operation, ...]
    warnings: tuple[str, ...]


Answer: TypeAlias = Sized | Ignore | Deny


def admit(pod: Mapping[str, Any], namespace_labels: Labels, serving: Serving, today: date) -> Answer:
    """
    Admit one pod.

    Args:
        pod: As sent; no field that is not ours is looked at or lost.
        namespace_labels: Of the pod's namespace.
        serving: Catalogue and target.
        today: For classes that are refused from some day on.
    """
    try:
        now = read_pod(pod)
        annotations = mapping_at(mapping_at(pod.get("metadata"), "metadata").get("annotations"), "metadata.annotations")
    except PodError as error:
        return Deny(Reason.INVALID_POD, f"{error}; the API server would refuse it too")
    subject, old, found = now, NO_EFFECTS, list[str]()
    text = annotations.get(RECORD)
    if text is not None:
        believed = believe(text, namespace_labels, serving, today)
        if believed is None:
            found.append(
                "podsla.io/record does not follow from its own input here; every field counts as the pod's own"
            )
        else:
            before, old = believed
            subject = take_back(now, before, old)
    decision = decide(subject, namespace_labels, serving.index, today)
    if not isinstance(decision, Place):
        return decision
    size = decision.choice.size.name
    record = render_record(decision, subject, serving.index.catalog.revision)
    after = apply(pod, decision.effects, record, size, old=old, restored=subject)
    return Sized(decision, after, tuple(diff(pod, after)), tuple(map(clip, [*found, *decision.warnings])))


def believe(text: object, namespace_labels: Labels, serving: Serving, today: date) -> tuple[Subject, Effects] | None:
    """
    Replay a record: decide again on its input, with its revision.

    Returns:
        The pod as it was and what was written into it; None unless the same record comes out, byte for byte.
    """
    read = read_record(text)
    index = serving.at(read[0]) if read else None
    if read is None or index is None:
        return None
    revision, before = read
    try:
        decision = decide(before, namespace_labels, index, today)
    except (ValueError, TypeError, AttributeError):
        return None  # a forged input may hold what no pod can
    if not isinstance(decision, Place) or render_record(decision, before, revision) != text:
        return None
    return before, decision.effects

"""What a running pod was given by its record, and what a new one like it would get today. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

import orjson

from catalog.fit import Index
from catalog.keys import RECORD
from catalog.pod import Subject, read_pod
from webhook.admit import Answer, Sized
from webhook.decide import Labels, decide
from webhook.decision import Deny, Ignore, Place, clip
from webhook.record import read_record


class Today(StrEnum):
    """How today's answer compares with what was recorded: the closed set."""

    SAME = "Same"
    DIFFERS = "Differs"  # another size, or other figures
    REFUSED = "RefusedToday"
    LEFT_ALONE = "LeftAloneToday"  # it names no class any more that reaches it
    NO_RECORD = "NoRecord"  # it was never sized
    UNREADABLE = "UnreadableRecord"


@dataclass(frozen=True, slots=True)
class Recalled:
    """
    A running pod beside today's answer.

    Attributes:
        record: What the pod's record says, but for the input; empty where there is none that can be read.
        answer: What a new pod like it, as it was before anything was written into it, gets today.
        differences: A line each, both figures.
    """

    today: Today
    record: Mapping[str, Any]
    answer: Answer
    differences: tuple[str, ...]


def recall(pod: Mapping[str, Any], namespace_labels: Labels, index: Index, day: date) -> Recalled:
    """
    Compare what a pod was given with what it would get on *day*.

    Raises:
        PodError: It has not the form of a pod.
    """
    text = (pod["metadata"].get("annotations") or {}).get(RECORD)
    noted = read_record(text)
    subject = noted.before if noted else _unbound(read_pod(pod))
    decision = decide(subject, namespace_labels, index, day)
    answer: Answer = decision if not isinstance(decision, Place) else _sized(decision, pod)
    if noted is None:
        return Recalled(Today.NO_RECORD if text is None else Today.UNREADABLE, {}, answer, ())
    record = {key: value for key, value in orjson.loads(str(text)).items() if key != "input"}
    if isinstance(decision, Deny):
        return Recalled(Today.REFUSED, record, answer, ())
    if isinstance(decision, Ignore):
        return Recalled(Today.LEFT_ALONE, record, answer, ())
    differences = tuple(_differences(record, decision))
    return Recalled(Today.DIFFERS if differences else Today.SAME, record, answer, differences)


def _unbound(subject: Subject) -> Subject:
    """Read a pod as it was before the scheduler bound it."""
    return Subject(**{name: getattr(subject, name) for name in Subject.__slots__ if name != "bound"})


def _sized(place: Place, pod: Mapping[str, Any]) -> Sized:
    return Sized(place, pod, (), tuple(map(clip, place.warnings)))


def _differences(record: Mapping[str, Any], place: Place) -> Iterator[str]:
    for what, now in (("class", place.sla_class.name), ("size", place.choice.size.name)):
        if record.get(what) != now:
            yield f"{what} {record.get(what)} → {now}"
    was = record.get("dimensions") or {}
    told = {h.dimension.path: (h.dimension.render(h.ask), h.dimension.render(h.offer)) for h in place.holdings}
    for path in (*told, *(path for path in was if path not in told)):
        before = was.get(path) or {}
        for key, figure in zip(("ask", "offer"), told.get(path, ("nothing", "nothing")), strict=True):
            if (old := before.get(key, "nothing")) != figure:
                yield f"{path} {key} {old} → {figure}"

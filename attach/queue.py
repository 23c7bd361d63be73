"""Whose turn it is: one placeholder at a time per node and resource, in turn between namespaces, else by age. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from attach.api import Attachment

Lane: TypeAlias = tuple[str, str]  # node and resource


@dataclass(frozen=True, slots=True)
class Waiting:
    """An attachment that waits for its placeholder."""

    uid: str
    namespace: str
    created_s: float

    @property
    def age(self) -> tuple[float, str]:
        """The order within a namespace; the UID, so that it is total."""
        return self.created_s, self.uid


def order(waiting: Iterable[Waiting], served_s: Mapping[str, float]) -> tuple[str, ...]:
    """
    Put those that wait in one lane in order; the first one is next.

    The namespace that was served longest ago comes first, then the next, and so on in turn; a namespace that floods the
    queue waits behind its own.

    Args:
        served_s: When each namespace was served last; one that never was comes first.

    Returns:
        Their UIDs.
    """
    lines: dict[str, list[Waiting]] = {}
    for one in sorted(waiting, key=lambda one: one.age, reverse=True):
        lines.setdefault(one.namespace, []).append(one)
    last = {namespace: (0, served_s.get(namespace, float("-inf"))) for namespace in lines}
    found: list[str] = []
    while lines:
        namespace = min(lines, key=lambda name: (last[name], lines[name][-1].age))
        found.append(lines[namespace].pop().uid)
        last[namespace] = (len(found), 0.0)
        if not lines[namespace]:
            del lines[namespace]
    return tuple(found)


def next_of(ordered: Iterable[str], blocked: Collection[str]) -> str | None:
    """Find who may reserve now; who was refused a moment ago holds up nobody."""
    return next((uid for uid in ordered if uid not in blocked), None)


def waited_s(before: Mapping[str, Attachment], now: Mapping[str, Attachment]) -> Iterator[float]:
    """
    Tell how long those waited that got their GPU between two looks, from their creation on, in seconds.

    Args:
        before: By UID, as *now*; one that it lacks is told of by whoever looked before, or not at all.
    """
    for uid, one in now.items():
        if uid in before and before[uid].status.attached_s is None and one.status.attached_s is not None:
            yield max(one.status.attached_s - one.created_s, 0.0)

"""
Warm reservations: GPUs that a namespace keeps ready for its next attachment, by placeholders of none yet. Pure.

Such a placeholder is one GPU on a node where a pod of the namespace may borrow. It is handed over, or given back, by
one write on the version that was seen, so it is handed to one attachment alone. Until then no agent looks at it: nobody
has access to what it reserves.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from attach.api import Attachment, Object, Type, parse_time
from attach.budget import KeptReady
from attach.placeholder import Pod, mutation, read_pod
from attach.reserve import is_pending, waits
from catalog.keys import WARM

AUTO: Final = "auto"
MOST: Final = 99
LOOK_BACK_S: Final = 4 * 3600.0
AT_ONCE_S: Final = 60.0
_SCARCE: Final = ("QuotaExceeded", "BudgetSpent")  # no free GPU would help these


@dataclass(frozen=True, slots=True)
class Ready:
    """
    A warm placeholder.

    Attributes:
        node: The one that it is for; bound it is once `pod.node` says so.
    """

    namespace: str
    node: str
    pod: Pod


@dataclass(frozen=True, slots=True)
class Lot:
    """
    What one namespace has, and wants.

    Attributes:
        wanted: How many are to be kept ready.
        borrowers: By node, pods that may borrow there and hold nothing.
        ready: Its warm placeholders; those that were chosen for an attachment are left out.
        waited_for: Nodes where somebody, of whatever namespace, waits for a GPU.
        starved: Nodes where an attachment of its own is next and finds no GPU free.
        over_quota: An attachment of its own finds no quota left.
    """

    wanted: int
    borrowers: Mapping[str, int]
    ready: Sequence[Ready]
    waited_for: frozenset[str] = frozenset()
    starved: frozenset[str] = frozenset()
    over_quota: bool = False


@dataclass(frozen=True, slots=True)
class Keep:
    """Make one on a node."""

    node: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Delete one, if it is still as it was seen."""

    pod: Pod


def read_ready(things: Iterable[Object]) -> tuple[Ready, ...]:
    """Read the warm ones among placeholders, those that are about to go with them."""
    found = []
    for thing in things:
        pod = read_pod(thing)
        if pod.attachment == WARM:
            found.append(Ready(thing["metadata"].get("namespace", ""), pod.node or _aim(thing), pod))
    return tuple(sorted(found, key=lambda one: (one.namespace, one.pod.name)))


def _aim(thing: Object) -> str:
    """Read which node a placeholder asks for."""
    try:
        value: Any = thing["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        return str(value["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])
    except (KeyError, IndexError, TypeError):  # another webhook changed it: it is of no use
        return ""


def kept_ready(things: Iterable[Object]) -> tuple[KeptReady, ...]:
    """Say since when warm placeholders hold their GPU: what is kept ready is held."""
    found = []
    for thing in things:
        pod, conditions = read_pod(thing), (thing.get("status") or {}).get("conditions") or ()
        bound = [c for c in conditions if c["type"] == "PodScheduled" and c["status"] == "True"]
        if pod.attachment == WARM and not pod.ended and bound:
            since_s = parse_time(bound[0]["lastTransitionTime"]).timestamp()
            found.append(KeptReady(thing["metadata"]["namespace"], pod.uid, since_s))
    return tuple(found)


def choose(
    attachment: Attachment, line: Iterable[Attachment], others: Iterable[Attachment], ready: Iterable[Ready]
) -> Pod | None:
    """
    Find the warm placeholder that an attachment may have: its namespace's, on its node, of just what it asks.

    Args:
        line: All that wait in its lane, itself among them; the oldest of a namespace is served first.
        others: Every attachment; what was chosen for one is chosen for no other.
    """
    taken = {(one.namespace, one.status.placeholder.name) for one in others if one.status.placeholder is not None}
    where = attachment.namespace, attachment.status.node
    free = [
        one.pod
        for one in ready
        if (one.namespace, one.pod.node) == where
        and one.pod.is_free
        and (one.namespace, one.pod.name) not in taken
        and not mutation(one.pod, attachment.spec.resource, attachment.spec.count)
    ]
    alike = [one for one in line if one.namespace == attachment.namespace and one.spec.count == attachment.spec.count]
    before = [one for one in alike if (one.created_s, one.uid) < (attachment.created_s, attachment.uid)]
    if attachment.uid not in {one.uid for one in alike} or len(before) >= len(free):
        return None
    return sorted(free, key=lambda pod: (pod.phase != "Running", pod.name))[len(before)]


def parse_wanted(text: str) -> int | None:
    """
    Read what a namespace's label says; None: `auto`.

    Raises:
        ValueError: It is neither a number from 0 to 99 nor `auto`.
    """
    if text == AUTO:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > MOST:
        raise ValueError(f"{text!r} is no number of GPUs to keep ready; write one from 0 to {MOST}, or {AUTO}")
    return int(text)


def busiest(asked_s: Iterable[float], now_s: float) -> int:
    """
    Size `auto`: the most that were asked for within a minute, in the last four hours.

    What is handed over is made anew in seconds, so what has to be ready is what is asked for at once; and nothing once
    nobody has asked for hours.
    """
    recent = sorted(s for s in asked_s if now_s - s < LOOK_BACK_S)
    return max((sum(first <= s < first + AT_ONCE_S for s in recent) for first in recent), default=0)


def take_stock(
    namespace: str,
    wanted: int,
    borrowers: Mapping[str, int],
    standing: Iterable[tuple[Attachment, Pod | None]],
    ready: Iterable[Ready],
) -> Lot:
    """
    Say how a namespace stands.

    Args:
        borrowers: As in `Lot`.
        standing: Every attachment, with the pod that reserves for it.
        ready: Warm placeholders of every namespace.
    """
    live = [(one, pod) for one, pod in standing if not one.is_finished]
    own = [(one, pod) for one, pod in live if one.namespace == namespace]
    chosen = {one.status.placeholder.name for one, _ in own if one.status.placeholder is not None}
    return Lot(
        wanted=wanted,
        borrowers=borrowers,
        ready=[one for one in ready if one.namespace == namespace and one.pod.name not in chosen],
        waited_for=frozenset(
            one.status.node for one, pod in live if is_pending(one, pod) or (waits(one) and _says(one) not in _SCARCE)
        ),
        starved=frozenset(one.status.node for one, pod in own if pod is not None and pod.why and is_pending(one, pod)),
        over_quota=any(waits(one) and _says(one) == "QuotaExceeded" for one, _ in own),
    )


def _says(attachment: Attachment) -> str:
    return str(attachment.status.condition(Type.RESERVED).get("reason", ""))


def plan(lot: Lot) -> tuple[Keep | GiveBack, ...]:
    """
    Say what to make and what to give back, until what stands is what is wanted.

    An attachment comes before what is kept for the next one: of its own namespace in quota and on its node, of any
    namespace before a placeholder that is not bound yet.
    """
    goal = dict(_spread(0 if lot.over_quota else lot.wanted, lot.borrowers))
    made, given_back = list[Keep](), list[GiveBack]()
    for node in sorted({*goal, *(one.node for one in lot.ready)}):
        here = [one.pod for one in lot.ready if one.node == node and not one.pod.deleting]
        spent = [pod for pod in here if pod.ended or (not pod.node and node in lot.waited_for)]
        kept = sorted((pod for pod in here if pod not in spent), key=lambda pod: (not pod.node, pod.name))
        want = 0 if node in lot.starved else goal.get(node, 0)
        given_back += [GiveBack(pod) for pod in (*spent, *kept[want:])]
        if node not in lot.waited_for:
            made += [Keep(node)] * (want - len(kept))
    return (*given_back, *made)


def _spread(wanted: int, borrowers: Mapping[str, int]) -> Mapping[str, int]:
    """Give each node in turn one, that with most borrowers left first, and none more than it has borrowers."""
    goal = dict.fromkeys(borrowers, 0)
    for _ in range(wanted):
        node = max(sorted(borrowers), key=lambda name: borrowers[name] - goal[name], default="")
        if not node or borrowers[node] <= goal[node]:
            break
        goal[node] += 1
    return goal

"""What a decision about an attachment is taken from, and what several of them ask of it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from attach.entry import Entry, Now, Observed, Trouble, Wait, Wish, Write, needed, needed_by_others
from attach.model import Container, DeviceNode, Gpu, Holder, NodeState
from attach.reasons import Reason
from attach.transitions import Event

ATTACH_WITHIN_S: Final = 60.0  # the driver may need a while for its first open
REVOKE_WITHIN_S: Final = 10.0
VERIFY_WITHIN_S: Final = 10.0  # closing a large context takes seconds
TERM_WITHIN_S: Final = 5.0
KILL_WITHIN_S: Final = 5.0
BOUND_S: Final = REVOKE_WITHIN_S + VERIFY_WITHIN_S + TERM_WITHIN_S + KILL_WITHIN_S  # after the grace period, at most
LOOK_EVERY_S: Final = 1.0
CHECK_EVERY_S: Final = 10.0
CLEAN_CHECKS: Final = 3


@dataclass(frozen=True, slots=True)
class Case:
    """
    All that a decision is taken from.

    Attributes:
        wish: None: nobody wants the attachment any more.
        others: The journal's other entries.
    """

    wish: Wish | None
    entry: Entry
    others: Sequence[Entry]
    seen: Observed
    now: Now

    @property
    def is_past(self) -> bool:
        """The state has lasted long enough."""
        return self.now.boot_s >= self.entry.until_s

    @property
    def container(self) -> Container | None:
        """The recorded container, unless it is known to have ended."""
        found = self.seen.container
        return self.entry.container if found == self.entry.container or isinstance(found, Trouble) else None

    def own(self, nodes: Sequence[DeviceNode]) -> tuple[DeviceNode, ...]:
        """Leave out what other attachments of the container still use."""
        shared = needed_by_others(self.entry, self.others)
        return tuple(node for node in nodes if node not in shared)

    def write(self, event: Event, reason: Reason, message: str, within_s: float = 0.0) -> Write:
        """Follow a transition."""
        return Write(self.entry.after(event, reason, message, self.now, self.now.boot_s + within_s))

    def fail(self, reason: Reason, message: str) -> Write:
        """Take everything back, at once, and end as Failed."""
        return Write(replace(self.write(Event.REFUSED, reason, message).entry, failed=True))

    def wait(self, trouble: Trouble | None = None, within_s: float = LOOK_EVERY_S) -> Wait:
        """Look again later."""
        return Wait(self.now.boot_s + within_s, trouble)


def announce(entry: Entry, seen: Observed, others: Iterable[Entry]) -> Entry:
    """
    Say of every node whether we are about to make it and its rule, and so will take them away again.

    What another attachment of the container has made is both's, so that the last one to go takes it away.
    """
    beside = [other for other in others if other.container == entry.container and not other.is_final]
    allowed = frozenset[int]() if isinstance(seen.allowed, Trouble) else seen.allowed
    made = {node for node in entry.nodes if seen.nodes.get(node) is NodeState.ABSENT}
    granted = {node for node in entry.nodes if node.rdev not in allowed}
    made |= {node for other in beside for node in other.made} & set(entry.nodes)
    granted |= {node for other in beside for node in other.granted} & set(entry.nodes)
    return replace(
        entry, made=tuple(sorted(made | set(entry.made))), granted=tuple(sorted(granted | set(entry.granted)))
    )


def renumbered(case: Case) -> Trouble | None:
    """A driver that was loaded anew gives numbers away: what is allowed may be another's GPU by now."""
    if isinstance(case.seen.gpus, Trouble):
        return None
    for gpu in case.entry.gpus:
        found = case.seen.gpus.get(gpu.uuid)
        if found is not None and needed([found]) != needed([gpu]):
            return Trouble("DeviceRenumbered", f"{gpu.uuid} has other device numbers than when it was attached")
    return None


def unhealthy(wanted: Sequence[Gpu], gpus: Mapping[str, Gpu] | Trouble) -> Trouble | None:
    """Say why a GPU must not be used, if it is known."""
    if isinstance(gpus, Trouble):
        return None
    for gpu in wanted:
        found = gpus.get(gpu.uuid)
        if found is None:
            return Trouble("DeviceLost", f"{gpu.uuid} is no longer among the node's devices")
        if found.unhealthy:
            return Trouble("DeviceUnhealthy", f"{gpu.uuid} is unhealthy: {found.unhealthy}")
    return None


def strangers_among(entry: Entry, holders: Sequence[Holder]) -> list[Holder]:
    """Find holders that are not the target pod's."""
    return [holder for holder in holders if holder.pod_uid != entry.wish.target.uid]


def describe(holders: Sequence[Holder]) -> str:
    """Name processes for a message."""
    names = sorted({(holder.process.pid, holder.command) for holder in holders})
    return ", ".join(f"process {pid} ({command})" for pid, command in names[:8]) + (", …" if names[8:] else "")


def is_same(old: Wish, wish: Wish) -> bool:
    """Say whether a wish still speaks of the pod and the devices that it spoke of."""
    return (wish.target.uid, wish.devices) == (old.target.uid, old.devices)

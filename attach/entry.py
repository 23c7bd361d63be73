"""What is wanted of an attachment, what the journal keeps, what was seen, what to do next. Frozen values; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from attach.model import Access, Container, DeviceNode, Gpu, Holder, NodeState, Process, Target
from attach.reasons import Over, Reason
from attach.transitions import FINAL, HAS_ACCESS, Event, State, follow


class Policy(StrEnum):
    """What becomes of processes that have the device open when the grace period is over."""

    WAIT = "Wait"
    TERMINATE = "Terminate"


@dataclass(frozen=True, slots=True)
class Now:
    """
    Both clocks, read together.

    Attributes:
        wall_s: Since 1970; it may jump.
        boot_s: Since this boot, suspended time included; it never jumps, and means nothing after a boot.
    """

    wall_s: float
    boot_s: float


@dataclass(frozen=True, slots=True)
class Wish:
    """
    What the desired state says of one attachment.

    Attributes:
        uid: Of the attachment.
        devices: UUIDs, all or none of which are attached; ordered.
        renew_time_s: When the client last renewed its lease, in seconds since 1970, by its own clock.
        release: Why the device is to be taken back; None: it is not.
        reservation_lost: The device is no longer reserved for the pod: take it back at once.
        force: End a quarantine without a check; an administrator's word.
    """

    uid: str
    target: Target
    devices: tuple[str, ...]
    renew_time_s: float
    lease_s: int
    grace_s: int
    policy: Policy
    release: Over | None
    reservation_lost: bool
    force: bool

    @property
    def expires_s(self) -> float:
        """When the lease ends by the wall clock."""
        return self.renew_time_s + self.lease_s


@dataclass(frozen=True, slots=True)
class Entry:
    """
    What the journal keeps of one attachment.

    Attributes:
        wish: As last taken over; a desired state that can't be read changes nothing of it.
        gpus: As of this boot, in the order of `wish.devices`.
        container: Where rules and nodes are made; None: it has ended, and another one is waited for.
        made: Nodes that were not in the container before us, and go with us.
        residents: Processes in no container that had a GPU open before us, as nvidia-persistenced has; never busy.
        granted: Nodes that no rule allowed before us, and whose rules go with us.
        since_s: When this state began, by the wall clock.
        until_s: When this state has lasted long enough, by the boot clock.
        lease_until_s: When the lease ends by the boot clock.
        failed: It ends as Failed, not as Released.
        signalled: The last signal that was sent to holders; 0: none.
        clean_checks: How often in a row a quarantined device was found free.
    """

    wish: Wish
    gpus: tuple[Gpu, ...]
    container: Container | None
    made: tuple[DeviceNode, ...]
    granted: tuple[DeviceNode, ...]
    residents: frozenset[Process]
    state: State
    reason: Reason
    message: str
    since_s: float
    until_s: float
    lease_until_s: float
    failed: bool
    signalled: int
    clean_checks: int

    @property
    def uid(self) -> str:
        """Of the attachment."""
        return self.wish.uid

    @property
    def nodes(self) -> tuple[DeviceNode, ...]:
        """Every node that the container needs, the GPUs' own last: who sees those finds everything in place."""
        return needed(self.gpus)

    @property
    def device_rdevs(self) -> frozenset[int]:
        """The numbers of the GPUs themselves: what must be closed before anybody else may have them."""
        return frozenset(gpu.node.rdev for gpu in self.gpus)

    @property
    def is_final(self) -> bool:
        """Nothing is held, and nothing will be."""
        return self.state in FINAL

    def after(self, event: Event, reason: Reason, message: str, now: Now, until_s: float = 0.0) -> "Entry":
        """Follow a transition."""
        return replace(
            self,
            state=follow(self.state, event),
            reason=reason,
            message=message,
            since_s=now.wall_s,
            until_s=until_s,
            signalled=0,
            clean_checks=0,
        )


def needed(gpus: Iterable[Gpu]) -> tuple[DeviceNode, ...]:
    """List the nodes of GPUs and what they need, companions first, each once."""
    listed = tuple(gpus)
    own = {gpu.node for gpu in listed}
    return (*sorted({node for gpu in listed for node in gpu.companions} - own), *sorted(own))


def needed_by_others(entry: Entry, others: Iterable[Entry]) -> frozenset[DeviceNode]:
    """Find nodes that other attachments of the same container still use."""
    return frozenset(
        node
        for other in others
        if other.uid != entry.uid and other.state in HAS_ACCESS and other.container == entry.container
        for node in other.nodes
    )


def residents_among(holders: Iterable[Holder]) -> frozenset[Process]:
    """Find the processes of the node itself."""
    return frozenset(holder.process for holder in holders if not holder.container_id and not holder.pod_uid)


def lease_until(wish: Wish, now: Now) -> float:
    """
    Say when a lease that is seen for the first time ends by the boot clock.

    Never more than its length from now on, so that a wall clock that was set back prolongs nothing.
    """
    return now.boot_s + min(max(0.0, wish.expires_s - now.wall_s), float(wish.lease_s))


@dataclass(frozen=True, slots=True)
class Trouble:
    """
    What could not be found out, or done; never read as "no".

    Attributes:
        refused: It can't be done later either.
    """

    reason: Reason
    message: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """
    What was seen for one attachment, as far as its state asks for it.

    Attributes:
        container: The running container of the target.
        allowed: What rules of ours allow in the recorded container; of a new attachment, in the one found.
        permitted: Which of the devices of a new attachment rules that are not ours let it open.
        nodes: What stands at the paths of the nodes needed.
        access: What opening them gives; only looked at where rule and node are there.
        holders: Who has one of the GPUs open, of those whom it concerns.
        gpus: The node's inventory by UUID.
        trouble: Why the last step failed a moment ago.
    """

    gpus: Mapping[str, Gpu] | Trouble
    container: Container | Trouble | None
    allowed: frozenset[int] | Trouble
    permitted: frozenset[int] | Trouble = frozenset()
    nodes: Mapping[DeviceNode, NodeState | Trouble] = field(default_factory=dict)
    access: Mapping[DeviceNode, Access | Trouble] = field(default_factory=dict)
    holders: tuple[Holder, ...] | Trouble = Trouble("NotLooked", "nobody looked who has it open")
    trouble: Trouble | None = None


class Verb(StrEnum):
    """What is done to a container."""

    ALLOW = "Allow"
    SHOW = "Show"
    HIDE = "Hide"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class Do:
    """
    Change rules or nodes of a container.

    Attributes:
        then: What the journal says once it is done; None: as before.
    """

    verb: Verb
    container: Container
    nodes: tuple[DeviceNode, ...]
    then: Entry | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to holders that are the target pod's own."""

    processes: tuple[Process, ...]
    pod_uid: str
    number: int
    then: Entry


@dataclass(frozen=True, slots=True)
class Write:
    """Say so in the journal."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget an attachment that has ended and that nobody names any more."""

    uid: str


@dataclass(frozen=True, slots=True)
class Wait:
    """
    Nothing is to be done now.

    Attributes:
        until_s: When to look again, by the boot clock; None: when something changes.
        trouble: What it waits for; None: all is as it should be.
    """

    until_s: float | None = None
    trouble: Trouble | None = None


Step = Do | Signal | Write | Drop | Wait

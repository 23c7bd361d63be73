"""Whether a new attachment may begin: every check before the first line in the journal. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from attach.case import ATTACH_WITHIN_S, announce, describe, unhealthy
from attach.entry import Entry, Now, Observed, Trouble, Wish, Write, lease_until, needed, residents_among
from attach.model import Access, Container, Gpu, NodeState
from attach.transitions import State


def find_gpus(wish: Wish, gpus: Mapping[str, Gpu] | Trouble) -> tuple[Gpu, ...] | Trouble:
    """Find the devices of a wish: all, or why not."""
    if isinstance(gpus, Trouble):
        return gpus
    unknown = [uuid for uuid in wish.devices if uuid not in gpus]
    if unknown:
        return Trouble("UnknownDevice", f"{', '.join(unknown)}: this node has {', '.join(sorted(gpus)) or 'no device'}")
    found = tuple(gpus[uuid] for uuid in wish.devices)
    numbers = {node.rdev for node in needed(found)}  # those of companions too: by one of them another GPU could be had
    doubles = [gpu.uuid for gpu in gpus.values() if gpu not in found and gpu.node.rdev in numbers]
    if doubles:
        return Trouble("AmbiguousDevice", f"{', '.join(doubles)} has the same device number; correct the inventory")
    return unhealthy(found, gpus) or found


def refusal(wish: Wish, wishes: Iterable[Wish], entries: Iterable[Entry], now: Now) -> Trouble | None:
    """Say why a wish that the journal does not know can't begin yet, as far as the node need not be asked."""
    if wish.release or wish.reservation_lost:
        return Trouble("ReleaseRequested", "its release was asked for before it was attached")
    if now.wall_s >= wish.expires_s:
        return Trouble("LeaseExpired", f"its lease of {wish.lease_s} s ended before it was attached; renew it")
    rivals = [other for other in wishes if other.uid != wish.uid and not _has_ended(other, now)]
    for uuid in wish.devices:
        if (held := _holder(uuid, entries)) is not None:
            if held.state is State.QUARANTINED:
                return Trouble("DeviceQuarantined", f"{uuid} is quarantined since {held.wish.target}: {held.message}")
            return Trouble("DeviceHeld", f"{uuid} is held by attachment {held.uid} of {held.wish.target}")
        twice = [other.uid for other in rivals if uuid in other.devices]
        if twice:
            return Trouble("DuplicateDevice", f"{uuid} is also wanted by attachment {', '.join(twice)}; none gets it")
    return None


def _has_ended(wish: Wish, now: Now) -> bool:
    return bool(wish.release) or wish.reservation_lost or now.wall_s >= wish.expires_s


def _holder(uuid: str, entries: Iterable[Entry]) -> Entry | None:
    return next((entry for entry in entries if not entry.is_final and uuid in entry.wish.devices), None)


def begin(wish: Wish, gpus: Sequence[Gpu], entries: Iterable[Entry], seen: Observed, now: Now) -> Write | Trouble:
    """Judge what was seen of the node: the first journal line where everything is as it should be, or why not yet."""
    ready = _numbers_taken(gpus, entries) or _ready(gpus, seen)
    if isinstance(ready, Trouble):
        return ready
    entry = Entry(
        wish=wish,
        gpus=tuple(gpus),
        container=ready,
        residents=residents_among(() if isinstance(seen.holders, Trouble) else seen.holders),
        made=(),
        granted=(),
        state=State.ATTACHING,
        reason="Attaching",
        message="every check passed",
        since_s=now.wall_s,
        until_s=now.boot_s + ATTACH_WITHIN_S,
        lease_until_s=lease_until(wish, now),
        failed=False,
        signalled=0,
        clean_checks=0,
    )
    return Write(announce(entry, seen, entries))


def _numbers_taken(gpus: Sequence[Gpu], entries: Iterable[Entry]) -> Trouble | None:
    """A driver that was loaded anew may have given a GPU the numbers that another one had when it was attached."""
    for entry in entries:
        if entry.container is not None and not entry.is_final:
            taken = [gpu.uuid for gpu in gpus if gpu.node.rdev in entry.device_rdevs]
            if taken:
                return Trouble("DeviceHeld", f"the device number of {taken[0]} is held by attachment {entry.uid}")
    return None


def _ready(gpus: Sequence[Gpu], seen: Observed) -> Container | Trouble:
    if seen.container is None:
        return Trouble("ContainerNotFound", "the container does not run on this node")
    if isinstance(seen.container, Trouble):
        return seen.container
    if isinstance(seen.allowed, Trouble):
        return seen.allowed
    if isinstance(seen.permitted, Trouble):
        return seen.permitted
    if isinstance(seen.holders, Trouble):
        return seen.holders
    for gpu in gpus:
        if gpu.node.rdev in seen.allowed | seen.permitted or seen.access.get(gpu.node) is Access.OPENS:
            return Trouble("AlreadyAllowed", f"the container may open {gpu.uuid} already; it could not be taken back")
    for node, state in seen.nodes.items():
        if isinstance(state, Trouble):
            return state
        if state is NodeState.FOREIGN:
            return Trouble("NodeForeign", f"something else stands at {node.path} in the container; remove it")
    residents = residents_among(seen.holders)
    if tenants := [holder for holder in seen.holders if holder.process not in residents]:
        return Trouble("DeviceBusy", f"{describe(tenants)} has the device open")
    return seen.container

"""What is looked at for an attachment: what its state asks for, through the ports. Whatever fails is `Trouble`."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from attach.entry import Entry, Observed, Trouble, Wish, needed
from attach.errors import AttachError, Gone, Refused
from attach.model import Access, Cgroup, Container, DeviceNode, Gpu, Holder, NodeState, Process
from attach.ports import Inventory, Nodes, Processes, Rules
from attach.transitions import State

T = TypeVar("T")

_LOOKS_FOR_HOLDERS: Final = frozenset({State.DRAINING, State.VERIFYING, State.OVERDUE, State.QUARANTINED})


@dataclass(frozen=True, slots=True)
class Node:
    """A node, by its four ports."""

    rules: Rules
    nodes: Nodes
    processes: Processes
    inventory: Inventory


def trouble_of(error: AttachError) -> Trouble:
    """Make a value of what failed."""
    return Trouble(error.reason, str(error), refused=isinstance(error, Refused))


def _attempt(look: Callable[[], T]) -> T | Trouble:
    try:
        return look()
    except AttachError as error:
        return trouble_of(error)


def observe_gpus(node: Node) -> Mapping[str, Gpu] | Trouble:
    """Ask the inventory."""
    return _attempt(lambda: {gpu.uuid: gpu for gpu in node.inventory.gpus()})


def observe_new(node: Node, wish: Wish, gpus: tuple[Gpu, ...], system_pods: Collection[str]) -> Observed:
    """Look at a container that is to be given *gpus*."""
    found = _attempt(lambda: node.processes.find(wish.target))
    listed, devices = {gpu.uuid: gpu for gpu in gpus}, {gpu.node.rdev for gpu in gpus}
    if found is None or isinstance(found, Trouble):
        return Observed(gpus=listed, container=found, allowed=frozenset())
    nodes = _nodes(node, found, needed(gpus))
    standing = [at for at, state in nodes.items() if state in (NodeState.RIGHT, NodeState.HOST)]
    return Observed(
        gpus=listed,
        container=found,
        allowed=_asked(node.rules.allowed, found),
        permitted=_asked(lambda cgroup: node.rules.permitted(cgroup, devices), found),
        nodes=nodes,
        access=_access(node, found, standing),
        holders=_holders(node, wish, devices, frozenset(), system_pods),
    )


def observe_held(
    node: Node, entry: Entry, gpus: Mapping[str, Gpu] | Trouble, system_pods: Collection[str], trouble: Trouble | None
) -> Observed:
    """Look at what an entry of the journal has come to."""
    if entry.is_final:
        return Observed(gpus, None, frozenset())
    found = _attempt(lambda: node.processes.find(entry.wish.target))
    here = entry.container if found == entry.container or isinstance(found, Trouble) else None
    ask = node.rules.settled if entry.state is State.ATTACHING else node.rules.allowed
    allowed = _asked(ask, entry.container) if entry.container else frozenset[int]()
    nodes = _nodes(node, here, entry.nodes) if here else {}
    is_made = isinstance(allowed, frozenset) and all(
        at.rdev in allowed and nodes.get(at) in (NodeState.RIGHT, NodeState.HOST) for at in entry.nodes
    )
    is_new = entry.state is State.ATTACHING and entry.container is None
    return Observed(
        gpus=gpus,
        container=found,
        allowed=allowed,
        nodes=nodes,
        access=_access(node, here, entry.nodes) if here and is_made and entry.state is State.ATTACHING else {},
        holders=_holders(node, entry.wish, _rdevs(entry, gpus), entry.residents, system_pods)
        if is_new or entry.state in _LOOKS_FOR_HOLDERS
        else Trouble("NotLooked", "nobody looked who has it open"),
        trouble=trouble,
    )


def _rdevs(entry: Entry, gpus: Mapping[str, Gpu] | Trouble) -> set[int]:
    """List the numbers that the devices had when they were attached, and those that they have now."""
    now = {} if isinstance(gpus, Trouble) else gpus
    return {*entry.device_rdevs, *(now[uuid].node.rdev for uuid in entry.wish.devices if uuid in now)}


def _asked(ask: Callable[[Cgroup], frozenset[int]], container: Container) -> frozenset[int] | Trouble:
    try:
        return ask(container.cgroup)
    except Gone:
        return frozenset()
    except AttachError as error:
        return trouble_of(error)


def _nodes(node: Node, container: Container, at: Iterable[DeviceNode]) -> dict[DeviceNode, NodeState | Trouble]:
    return {one: _attempt(partial(node.nodes.state, container, one)) for one in at}


def _access(node: Node, container: Container, at: Iterable[DeviceNode]) -> dict[DeviceNode, Access | Trouble]:
    return {one: _attempt(partial(node.nodes.access, container, one)) for one in at}


def _holders(
    node: Node, wish: Wish, rdevs: Collection[int], residents: frozenset[Process], system_pods: Collection[str]
) -> tuple[Holder, ...] | Trouble:
    """List holders, but those who have every device open for the node's sake; of the target's none is for that."""
    return _attempt(
        lambda: tuple(
            holder
            for holder in node.processes.holders(rdevs)
            if holder.process not in residents
            and (holder.pod_uid not in system_pods or holder.pod_uid == wish.target.uid)
        )
    )

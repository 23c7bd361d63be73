"""What is missing, told by node type; who holds it; and the smallest changes that would place a pod. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from catalog.demand import CPU, RAM
from catalog.dimension import GPU_COUNT, MEMORY, VCPU
from catalog.keys import INSTANCE_TYPE, NODE_SIZE
from catalog.model import Catalog, SandboxSize
from catalog.target import Target
from nodes.offer import node_offer
from nodes.placement import Expression, Lack, Missing, Needs, Place, Verdict, short, unmet
from nodes.usage import PODS, Held, NodeUsage, render_amount, total

MOST_PODS: Final = 110  # a kubelet's default
UNTYPED: Final = "no instance type"
_OF_RESOURCES: Final = frozenset({Lack.HELD, Lack.TOO_LARGE})
_BEST_NODES: Final = 3  # whose holders are named
_UNSIZED: Final = ("ephemeral-storage",)  # no size speaks of it, so a new node is taken to have enough


@dataclass(frozen=True, slots=True)
class TypeLack:
    """
    One thing that nodes of one type lack.

    Attributes:
        nodes: How many nodes of the type there are.
        count: How many of them lack it.
        best: What the one of them lacks that comes nearest.
    """

    node_type: str
    nodes: int
    count: int
    best: Missing


def by_type(verdicts: Iterable[Verdict]) -> tuple[TypeLack, ...]:
    """Say what nodes lack, a row for each type and thing; the type that lacks least first, then by name."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.place.usage.node_type or UNTYPED, []).append(verdict)
    ranked = sorted(groups, key=lambda name: (min(map(_distance, groups[name])), name))
    return tuple(row for node_type in ranked for row in _rows(node_type, groups[node_type]))


def _distance(verdict: Verdict) -> tuple[int, int]:
    """Tell how far a node is from taking the pod: what only another node could cure counts before everything else."""
    return sum(missing.lack is not Lack.HELD for missing in verdict.missing), len(verdict.missing)


def _rows(node_type: str, group: Sequence[Verdict]) -> list[TypeLack]:
    found: dict[tuple[Lack, str, str], list[Missing]] = {}
    for missing in (missing for verdict in group for missing in verdict.missing):
        found.setdefault((missing.lack, missing.what, missing.wanted), []).append(missing)
    rows = [
        TypeLack(node_type, len(group), len(each), max(each, key=lambda one: (one.free, one.found)))
        for each in found.values()
    ]
    return sorted(rows, key=lambda row: (-row.count, row.best.what, row.best.wanted))


def nearest(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Order the nodes whose only fault is that others hold what they have: the one that lacks least of it first."""
    full = [verdict for verdict in verdicts if verdict.missing and verdict.lacks == {Lack.HELD}]
    return sorted(full, key=lambda verdict: (_excess(verdict), verdict.node))


def _excess(verdict: Verdict) -> float:
    """The largest share of one ask by which a node falls short."""
    return max((missing.asked - max(missing.free, 0)) / missing.asked for missing in verdict.missing)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds some of a resource that the pod lacks on a node."""

    node: str
    resource: str
    held: Held
    amount: int
    allocatable: int


def holders(verdicts: Iterable[Verdict], most: int = 5) -> tuple[Holder, ...]:
    """Name who holds most of what is missing on the nodes that come nearest: up to *most* for each resource there."""
    return tuple(
        holder
        for verdict in nearest(verdicts)[:_BEST_NODES]
        for missing in verdict.missing
        for holder in _holders(verdict, missing)[:most]
    )


def _holders(verdict: Verdict, missing: Missing) -> list[Holder]:
    found = [
        Holder(verdict.node, missing.what, held, held.amounts[missing.what], missing.allocatable)
        for held in verdict.place.usage.pods
        if held.amounts.get(missing.what)
    ]
    return sorted(found, key=lambda holder: (-holder.amount, holder.held.title))


class Change(StrEnum):
    """What would place the pod: the closed set, in the order in which it is proposed."""

    ASK_LESS = "AskLess"
    UNCORDON = "Uncordon"
    PUBLISH = "Publish"
    TOLERATE = "Tolerate"
    RELABEL = "Relabel"
    MAKE_ROOM = "MakeRoom"
    ADD_NODE = "AddNode"


@dataclass(frozen=True, slots=True)
class Proposal:
    """One change that by itself places the pod on *node* (of AddNode: a node of that size)."""

    change: Change
    node: str
    message: str


@dataclass(frozen=True, slots=True)
class Context:
    """
    What proposals may lean on.

    Attributes:
        catalog: What serves; None where it is not known: then no node is proposed.
        least: What the pod's class keeps for it whatever it asks, by resource: no smaller ask helps.
        ours: Label keys that say what hardware is: no label of that kind is ever to be changed by hand.
    """

    catalog: Catalog | None = None
    target: Target | None = None
    least: Mapping[str, int] = field(default_factory=dict)
    ours: frozenset[str] = frozenset()


def propose(needs: Needs, verdicts: Sequence[Verdict], context: Context) -> tuple[Proposal, ...]:
    """Name the smallest change of each kind that would place the pod; none of them is ever carried out."""
    found = (
        _ask_less(verdicts, context),
        _single(verdicts, Lack.CORDONED, Change.UNCORDON),
        _single([v for v in verdicts if _should_publish(v, context)], Lack.NOT_PUBLISHED, Change.PUBLISH),
        _single(verdicts, Lack.TAINT, Change.TOLERATE),
        _relabel(verdicts, context),
        _make_room(verdicts),
        _add_node(needs, context),
    )
    return tuple(proposal for proposal in found if proposal is not None)


def _ask_less(verdicts: Iterable[Verdict], context: Context) -> Proposal | None:
    """The node that takes the largest part of the ask, where the class leaves the pod as little as is free there."""
    able = [
        verdict
        for verdict in verdicts
        if verdict.missing
        and verdict.lacks <= _OF_RESOURCES
        and all(m.what != PODS and m.free > 0 and m.free >= context.least.get(m.what, 0) for m in verdict.missing)
    ]
    best = min(able, key=lambda verdict: (_excess(verdict), verdict.node), default=None)
    if best is None:
        return None
    parts = [
        f"{render_amount(m.what, m.asked - m.free)} {m.what} less "
        f"({render_amount(m.what, m.free)} instead of {render_amount(m.what, m.asked)})"
        for m in best.missing
    ]
    return Proposal(Change.ASK_LESS, best.node, f"ask {' and '.join(parts)}: node {best.node} has that free")


def _single(verdicts: Iterable[Verdict], lack: Lack, change: Change) -> Proposal | None:
    """A node that has this one kind of fault and no other."""
    able = [verdict for verdict in verdicts if verdict.lacks == {lack}]
    best = min(able, key=lambda verdict: (len(verdict.missing), verdict.node), default=None)
    if best is None:
        return None
    what, node = ", ".join(missing.what for missing in best.missing), best.node
    messages = {
        Change.UNCORDON: f"kubectl uncordon {node}: it would take the pod",
        Change.PUBLISH: f"node {node} ({best.place.usage.node_type or UNTYPED}) publishes no {what}: "
        "`podsla doctor` says why",
        Change.TOLERATE: f"tolerate {what}: node {node} would take the pod, if it is meant for pods like it",
    }
    return Proposal(change, node, messages[change])


def _should_publish(verdict: Verdict, context: Context) -> bool:
    """Tell whether a node of that size should publish all that is missing on it, by the catalogue."""
    sizes = context.catalog.sizes if context.catalog else ()
    size = next((size for size in sizes if size.name == verdict.place.usage.node_type), None)
    if size is None or context.target is None:
        return False
    return {missing.what for missing in verdict.missing} <= node_offer(size, context.target).capacity.keys()


def _relabel(verdicts: Iterable[Verdict], context: Context) -> Proposal | None:
    """A node that has other labels than the pod selects, and nothing else against it."""
    able = [v for v in verdicts if v.lacks == {Lack.LABEL} and not any(m.what in context.ours for m in v.missing)]
    best = min(able, key=lambda verdict: (len(verdict.missing), verdict.node), default=None)
    if best is None:
        return None
    parts = [f"{m.what} {m.wanted}, and it has {m.found or 'none'}" for m in best.missing]
    message = f"node {best.node} has room; the pod requires {'; '.join(parts)}: require less, or label a node so"
    return Proposal(Change.RELABEL, best.node, message)


def _make_room(verdicts: Iterable[Verdict]) -> Proposal | None:
    """The fewest pods that hold what is missing on one node; DaemonSets' pods would come back at once."""
    able = [(_leaving(verdict), verdict) for verdict in nearest(verdicts)]
    ranked = [(len(pods), _excess(verdict), verdict.node, pods) for pods, verdict in able if pods]
    if not ranked:
        return None
    _, _, node, pods = min(ranked, key=lambda item: item[:3])
    names = ", ".join(held.title for held in pods[:3]) + (f" and {len(pods) - 3} more" if len(pods) > 3 else "")
    return Proposal(Change.MAKE_ROOM, node, f"if {names} left node {node}, it would take the pod")


def _leaving(verdict: Verdict) -> list[Held]:
    """Choose pods that free enough: one that does by itself, the smallest such, else the largest one after another."""
    due = {missing.what: missing.asked - missing.free for missing in verdict.missing}
    pods = [held for held in verdict.place.usage.pods if not held.fixed]

    def share(held: Held) -> float:
        return sum(min(held.amounts.get(what, 0) / much, 1.0) for what, much in due.items())

    alone = [held for held in pods if all(held.amounts.get(what, 0) >= much for what, much in due.items())]
    if alone:
        return [min(alone, key=lambda held: (sum(held.amounts.get(what, 0) for what in due), held.title))]
    chosen: list[Held] = []
    for held in sorted(pods, key=lambda held: (-share(held), held.title)):
        chosen.append(held)
        freed = total(chosen)
        if all(freed.get(what, 0) >= much for what, much in due.items()):
            return chosen
    return []


def _add_node(needs: Needs, context: Context) -> Proposal | None:
    """The cheapest size of the catalogue whose node would take the pod while it is empty."""
    if context.catalog is None or context.target is None:
        return None
    for size in context.catalog.sizes:
        place = empty_node(size, context.target)
        if not context.target.has(size) or any(True for _ in short(_sized(needs), place.usage)):
            continue
        known = frozenset(place.labels) | context.ours
        lacking = unmet(needs, place)
        if any(expression.key in known for expression in lacking):
            continue
        with_labels = _with_labels(lacking)
        return Proposal(Change.ADD_NODE, size.name, f"a further node of {size.name}{with_labels} would take the pod")
    return None


def _sized(needs: Needs) -> Needs:
    return Needs({key: asked for key, asked in needs.requests.items() if key not in _UNSIZED})


def _with_labels(lacking: Sequence[Expression]) -> str:
    return f" with {', '.join(f'{e.key} {e}' for e in lacking)}" if lacking else ""


def empty_node(size: SandboxSize, target: Target) -> Place:
    """Make a node of *size* as it will be once it stands: what the target says that pods may have, and no pods yet."""
    offer, figures = node_offer(size, target), target.offer(size)
    allocatable = {CPU: figures[VCPU.index] or 0, RAM: figures[MEMORY.index] or 0, PODS: MOST_PODS, **offer.capacity}
    labels = {key: value for key, value in offer.labels.items() if key != NODE_SIZE}
    labels |= {INSTANCE_TYPE: size.name, "kubernetes.io/arch": size.arch, "kubernetes.io/os": "linux"}
    if target.gpu and figures[GPU_COUNT.index]:
        allocatable[target.gpu.resource] = figures[GPU_COUNT.index] or 0
        spellings = target.gpu.spellings([size.gpu.model]) if size.gpu and size.gpu.model else ()
        if spellings:
            labels[target.gpu.model_label] = spellings[0]
    return Place(NodeUsage(size.name, size.name, allocatable, {}, ()), labels)


def reasons_it_fits(needs: Needs, place: Place) -> Iterator[tuple[str, str, str]]:
    """Say of a node that holds a pod what that needs, and what the node has: thing, needed, has."""
    expressions = [*needs.selector, *(_holding_term(needs, place))]
    for expression in expressions:
        found = place.usage.node if expression.field else place.labels.get(expression.key, "none")
        yield expression.key, str(expression), found
    for resource, asked in sorted(needs.requests.items()):
        used = place.usage
        promised, whole = used.promised.get(resource, 0), used.allocatable.get(resource, 0)
        have = f"{render_amount(resource, promised)} promised of {render_amount(resource, whole)}"
        yield resource, render_amount(resource, asked), have


def _holding_term(needs: Needs, place: Place) -> tuple[Expression, ...]:
    fields = {"metadata.name": place.usage.node}
    terms = [t for t in needs.terms or () if t and all(e.matches(fields if e.field else place.labels) for e in t)]
    return terms[0] if terms else ()

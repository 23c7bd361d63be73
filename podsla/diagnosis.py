"""Why a pod is where it is, or nowhere: one answer over pod, nodes, other pods and what serves. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from catalog.demand import CPU, RAM
from catalog.dimension import MEMORY, RESERVABLE, VCPU
from catalog.keys import INSTANCE_TYPE, SIZE
from catalog.served import Served
from nodes.capacity import LABELS
from nodes.placement import Needs, Verdict, judge, not_judged, read_needs, read_places
from nodes.proposals import Context, Holder, Proposal, TypeLack, by_type, holders, propose, reasons_it_fits
from nodes.usage import class_of, is_over, usage

_UNSEEN: Final = ("what other pods hold (you may not list those of all namespaces)",)


class State(StrEnum):
    """Where a pod stands: the closed set."""

    PLACED = "Placed"
    OVER = "Over"
    GATED = "SchedulingGated"
    FITS = "WouldFit"  # some node would take it, as far as is judged
    NOWHERE = "FitsNoNode"
    UNKNOWN = "NodesNotVisible"  # whoever asks may not list nodes


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """
    Why a pod is where it is.

    Attributes:
        said: What the scheduler, or of a pod that is over the kubelet, said last.
        fitting: Nodes that would take it.
        kept: Of a placed pod: thing, what the pod needs, what its node has.
        not_judged: What the scheduler judges too, and nobody here does.
    """

    name: str
    namespace: str
    state: State
    node: str
    sla_class: str
    size: str
    said: str
    needs: Needs
    nodes: int
    fitting: tuple[str, ...] = ()
    lacks: tuple[TypeLack, ...] = ()
    holders: tuple[Holder, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    kept: tuple[tuple[str, str, str], ...] = ()
    not_judged: tuple[str, ...] = ()


def diagnose(
    pod: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]] | None,
    pods: Sequence[Mapping[str, Any]] | None,
    served: Served | None,
) -> Diagnosis:
    """
    Say why a pod is where it is.

    Args:
        nodes: All of them; None: whoever asks may not see them.
        pods: All that are not over; None: whoever asks may not see them.
        served: To know what its class keeps for it, and which nodes there could be; None: neither is known.

    Raises:
        PodError: It has not the form of a pod.
    """
    needs, name = read_needs(pod), pod["metadata"]["name"]
    places = read_places(nodes or (), usage(nodes or (), pods or ()))
    node = str(pod["spec"].get("nodeName") or "")
    here = next((place for place in places if place.usage.node == node), None)
    verdicts = () if node else judge(needs, places)
    state = _state(pod, verdicts, known=nodes is not None)
    waits = state in (State.NOWHERE, State.FITS)
    return Diagnosis(
        name=name,
        namespace=pod["metadata"].get("namespace", ""),
        state=state,
        node=node,
        sla_class=class_of(pod),
        size=(pod["metadata"].get("labels") or {}).get(SIZE, ""),
        said=_said(pod),
        needs=needs,
        nodes=len(places),
        fitting=tuple(verdict.node for verdict in verdicts if verdict.fits),
        lacks=by_type(verdicts) if waits else (),
        holders=holders(verdicts) if state is State.NOWHERE else (),
        proposals=propose(needs, verdicts, _context(class_of(pod), served)) if state is State.NOWHERE else (),
        kept=tuple(reasons_it_fits(needs, here)) if here and state is State.PLACED else (),
        not_judged=(*not_judged(pod), *(_UNSEEN if pods is None else ())) if waits else (),
    )


def _state(pod: Mapping[str, Any], verdicts: Sequence[Verdict], *, known: bool) -> State:
    if is_over(pod):
        return State.OVER
    if pod["spec"].get("nodeName"):
        return State.PLACED
    if pod["spec"].get("schedulingGates"):
        return State.GATED
    if not known:
        return State.UNKNOWN
    return State.FITS if any(verdict.fits for verdict in verdicts) else State.NOWHERE


def _said(pod: Mapping[str, Any]) -> str:
    status = pod.get("status") or {}
    if is_over(pod):
        return ": ".join(filter(None, (status.get("reason"), status.get("message"))))
    conditions = status.get("conditions") or ()
    return next((c.get("message") or "" for c in conditions if c["type"] == "PodScheduled"), "")


def _context(sla_class: str, served: Served | None) -> Context:
    if served is None:
        return Context(ours=LABELS | {INSTANCE_TYPE})
    found = served.catalog.classes.get(sla_class)
    least = {d.resource: found.floor[d.index] for d in RESERVABLE if d.resource} if found else {}
    if found:
        least |= {CPU: found.floor[VCPU.index], RAM: found.floor[MEMORY.index]}
    gpu = {served.target.gpu.model_label} if served.target.gpu else set()
    return Context(served.catalog, served.target, least, ours=LABELS | {INSTANCE_TYPE} | gpu)


def dump(found: Diagnosis) -> dict[str, Any]:
    """Write a diagnosis as plain values: amounts as integers, CPU in millicores, everything else in base units."""
    return {
        "pod": found.name,
        "namespace": found.namespace,
        "state": found.state.value,
        "node": found.node,
        "class": found.sla_class,
        "size": found.size,
        "scheduler": found.said,
        "asks": dict(sorted(found.needs.requests.items())),
        "nodes": found.nodes,
        "fitting": list(found.fitting),
        "missing": [_lack(row) for row in found.lacks],
        "holders": [
            {"node": h.node, "resource": h.resource, "pod": h.held.title, "holds": h.amount, "of": h.allocatable}
            for h in found.holders
        ],
        "changes": [{"change": p.change.value, "node": p.node, "message": p.message} for p in found.proposals],
        "kept": [{"what": what, "needs": needs, "nodeHas": has} for what, needs, has in found.kept],
        "notJudged": list(found.not_judged),
    }


def _lack(row: TypeLack) -> dict[str, Any]:
    best = row.best
    fields: dict[str, Any] = {
        "nodeType": row.node_type,
        "nodes": row.nodes,
        "lacking": row.count,
        "reason": best.lack.value,
        "what": best.what,
    }
    if best.asked:
        return fields | {"asked": best.asked, "free": best.free, "allocatable": best.allocatable}
    return fields | {"wanted": best.wanted, "found": best.found}

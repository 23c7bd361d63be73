"""Why a pod fits no node: what each node lacks, who holds it, and what would change that. Pure.

Judged as the scheduler judges: cordons, taints, node selector and required node affinity, and every resource that the
pod asks. What is not judged is named in `not_judged`, and never guessed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from nodes.affinity import expression_matches, required_terms
from nodes.usage import NodeUsage, requests_of

_BLOCKING: Final = ("NoSchedule", "NoExecute")
_CORDON: Final = "node.kubernetes.io/unschedulable"


class Lack(StrEnum):
    """What keeps a pod off a node: the closed set."""

    CORDONED = "Cordoned"  # the node takes no new pods
    TAINT = "UntoleratedTaint"  # the pod does not tolerate a taint of the node
    LABEL = "NodeAffinity"  # the node's labels are not what the pod requires: a floor, a family, a selector
    NOT_PUBLISHED = "NotPublished"  # the node publishes none of a resource
    TOO_LARGE = "TooLarge"  # the pod asks more than the whole node has
    HELD = "Insufficient"  # the node has it, and other pods hold it


@dataclass(frozen=True, slots=True)
class Missing:
    """
    One thing that a node lacks for a pod.

    Attributes:
        what: A resource, a label key, or a taint.
        wanted: Of a label, what is required, as "Gt 2999"; "" for a resource.
        found: Of a label, what the node has; "" where it has none.
        asked: Of a resource, with free and allocatable, in the units of `nodes.usage`.
    """

    lack: Lack
    what: str
    wanted: str = ""
    found: str = ""
    asked: int = 0
    free: int = 0
    allocatable: int = 0


@dataclass(frozen=True, slots=True)
class Expression:
    """One condition on a node's labels, as node affinity has it."""

    key: str
    operator: str
    values: tuple[str, ...]
    field: bool = False

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Judge labels as the scheduler does."""
        return expression_matches({"key": self.key, "operator": self.operator, "values": self.values}, labels)

    def __str__(self) -> str:
        return f"{self.operator} {'|'.join(self.values)}".strip()


@dataclass(frozen=True, slots=True)
class Needs:
    """
    What a pod needs of a node.

    Attributes:
        selector: Conditions that must all hold.
        terms: Of these, one must hold whole; None: there are none, so any node will do.
        tolerations: As Kubernetes writes them.
    """

    requests: Mapping[str, int]
    selector: tuple[Expression, ...] = ()
    terms: tuple[tuple[Expression, ...], ...] | None = None
    tolerations: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A node as the scheduler sees it."""

    usage: NodeUsage
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, Any], ...] = ()
    cordoned: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one node lacks for the pod; nothing: it would take it."""

    place: Place
    missing: tuple[Missing, ...]

    @property
    def node(self) -> str:
        return self.place.usage.node

    @property
    def fits(self) -> bool:
        return not self.missing

    @property
    def lacks(self) -> frozenset[Lack]:
        """The kinds of what is missing."""
        return frozenset(missing.lack for missing in self.missing)


def read_needs(pod: Mapping[str, Any]) -> Needs:
    """
    Read what a pod needs of a node.

    Raises:
        PodError: It has not the form of a pod.
    """
    spec = pod["spec"]
    terms = required_terms(spec)
    return Needs(
        requests=requests_of(pod),
        selector=tuple(Expression(k, "In", (str(v),)) for k, v in sorted((spec.get("nodeSelector") or {}).items())),
        terms=None if terms is None else tuple(map(_term, terms)),
        tolerations=tuple(spec.get("tolerations") or ()),
    )


def _term(term: Mapping[str, Any]) -> tuple[Expression, ...]:
    return tuple(
        Expression(one["key"], one["operator"], tuple(map(str, one.get("values") or ())), field=group == "matchFields")
        for group in ("matchExpressions", "matchFields")
        for one in term.get(group) or ()
    )


def read_places(nodes: Iterable[Mapping[str, Any]], usages: Sequence[NodeUsage]) -> tuple[Place, ...]:
    """Read nodes, each with its usage from `nodes.usage.usage` of the same nodes."""
    return tuple(
        Place(
            usage=used,
            labels=node["metadata"].get("labels") or {},
            taints=tuple((node.get("spec") or {}).get("taints") or ()),
            cordoned=bool((node.get("spec") or {}).get("unschedulable")),
        )
        for node, used in zip(nodes, usages, strict=True)
    )


def judge(needs: Needs, places: Iterable[Place]) -> tuple[Verdict, ...]:
    """Say of every node what it lacks, in the order given."""
    return tuple(Verdict(place, tuple(_missing(needs, place))) for place in places)


def _missing(needs: Needs, place: Place) -> Iterator[Missing]:
    if place.cordoned and not _tolerated({"key": _CORDON, "effect": "NoSchedule"}, needs.tolerations):
        yield Missing(Lack.CORDONED, "takes no new pods")
    for taint in place.taints:
        blocks = taint.get("effect") in _BLOCKING and taint.get("key") != _CORDON  # a cordon is told once
        if blocks and not _tolerated(taint, needs.tolerations):
            yield Missing(Lack.TAINT, render_taint(taint))
    for expression in unmet(needs, place):
        found = place.usage.node if expression.field else place.labels.get(expression.key, "")
        yield Missing(Lack.LABEL, expression.key, str(expression), found)
    yield from short(needs, place.usage)


def short(needs: Needs, used: NodeUsage) -> Iterator[Missing]:
    """Name the resources of which a node has too little left."""
    for resource, asked in sorted(needs.requests.items()):
        free, whole = used.free(resource), used.allocatable.get(resource, 0)
        if asked > free:
            lack = Lack.HELD if asked <= whole else Lack.TOO_LARGE if whole else Lack.NOT_PUBLISHED
            yield Missing(lack, resource, asked=asked, free=free, allocatable=whole)


def unmet(needs: Needs, place: Place) -> tuple[Expression, ...]:
    """Name the conditions that the node's labels do not meet; of alternatives, those of the one that lacks least."""
    fields = {"metadata.name": place.usage.node}

    def failing(expressions: Iterable[Expression]) -> tuple[Expression, ...]:
        return tuple(e for e in expressions if not e.matches(fields if e.field else place.labels))

    selector = failing(needs.selector)
    if needs.terms is None:
        return selector
    terms = [failing(term) for term in needs.terms if term]  # an empty term matches no node
    nothing = (Expression("nodeSelectorTerms", "Exists", ()),)
    return (*selector, *min(terms, key=len, default=nothing))


def _tolerated(taint: Mapping[str, Any], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """
    Tell whether a toleration covers a taint: no key covers every one, no effect every effect.

    Source:
        component-helpers, v1.Toleration.ToleratesTaint.
    """
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    return operator == "Exists" or (
        operator == "Equal" and (toleration.get("value") or "") == (taint.get("value") or "")
    )


def render_taint(taint: Mapping[str, Any]) -> str:
    """Write a taint as kubectl does: key=value:effect."""
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key', '')}{value}:{taint.get('effect', '')}"


def not_judged(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """Name what of a pod the scheduler judges too, and this module does not."""
    spec = pod["spec"]
    affinity, volumes = spec.get("affinity") or {}, spec.get("volumes") or ()
    ports = (p for c in spec.get("containers") or () for p in c.get("ports") or ())
    found = {
        "volumes": any("persistentVolumeClaim" in volume or "ephemeral" in volume for volume in volumes),
        "pod affinity": bool(affinity.get("podAffinity") or affinity.get("podAntiAffinity")),
        "topology spread": any(
            c.get("whenUnsatisfiable") == "DoNotSchedule" for c in spec.get("topologySpreadConstraints") or ()
        ),
        "host ports": any(port.get("hostPort") for port in ports),
        "resource claims": bool(spec.get("resourceClaims")),
    }
    return tuple(name for name, there in found.items() if there)

"""What pods that are bound to a node were promised there: what a kubelet that restarts asks of its node again. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from catalog.demand import effective
from catalog.dimension import RESERVABLE
from catalog.keys import GPU_SEATS, RECORD, SIZE
from catalog.pod import Kind
from catalog.quantity import parse_integer
from nodes.affinity import Labels, Term, matches, required_terms

OVER: Final = ("Succeeded", "Failed")
RESOURCES: Final = frozenset({GPU_SEATS, *(d.resource for d in RESERVABLE if d.resource)})
"""Extended resources that are ours on nodes."""


@dataclass(frozen=True, slots=True)
class Bound:
    """
    What one pod needs of the node that it is bound to.

    Attributes:
        pod: "namespace/name".
        node: "" while it is bound to none.
        figures: Extended resources of ours, by name, summed as the scheduler does.
        selector: Its `nodeSelector`.
        terms: Its required node affinity.
        asked_class: The class that it asked for; "" where it has no record.
        sla_class: The class that it got: that one, or a fallback.
        size: The size that it got.
        revision: The one that its record names.
        kept: What was promised, by the path of the dimension, as quantities.
    """

    pod: str
    node: str
    figures: Mapping[str, int]
    selector: Labels
    terms: Sequence[Term] | None
    asked_class: str
    sla_class: str
    size: str
    revision: str
    kept: Mapping[str, str]

    @property
    def keys(self) -> frozenset[str]:
        """The labels that the pod requires something of."""
        terms = self.terms or ()
        return frozenset(self.selector).union(e["key"] for term in terms for e in term.get("matchExpressions") or ())

    def needs(self, node: str, old: Labels, new: Labels) -> bool:
        """Tell whether the pod may be on a node with its old labels, and may not with its new ones."""
        needed = (self.selector, self.terms)
        return needed != ({}, None) and matches(*needed, old, node) and not matches(*needed, new, node)


def keep_promises(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep of a pod what `read_bound` reads, as JSON: a whole one is some 10 KiB."""
    metadata, spec = pod["metadata"], pod["spec"]
    over = (pod.get("status") or {}).get("phase") in OVER
    identity = {key: metadata[key] for key in ("namespace", "name", "uid", "resourceVersion") if key in metadata}
    if over:
        return {"metadata": identity}
    note = _note((metadata.get("annotations") or {}).get(RECORD))
    promise = {
        "node": spec.get("nodeName") or "",
        "figures": {resource: str(figure) for resource, figure in _figures(spec).items()},  # of any length
        "selector": spec.get("nodeSelector") or {},
        "terms": required_terms(spec),
        "asked": note.get("fallbackFrom", note.get("class", "")),
        "class": note.get("class", ""),
        "size": (metadata.get("labels") or {}).get(SIZE, ""),
        "revision": note.get("revision", ""),
        "kept": {path: figures["kept"] for path, figures in note.get("dimensions", {}).items()},
    }
    return {"metadata": identity, "promise": promise}


def read_bound(pods: Iterable[Mapping[str, Any]]) -> Iterator[Bound]:
    """Read what `keep_promises` kept; pods that are over need nothing."""
    for pod in pods:
        if (promise := pod.get("promise")) is not None:
            yield Bound(
                pod=f"{pod['metadata']['namespace']}/{pod['metadata']['name']}",
                node=promise["node"],
                figures={resource: int(figure) for resource, figure in promise["figures"].items()},
                selector=promise["selector"],
                terms=promise["terms"],
                asked_class=promise["asked"],
                sla_class=promise["class"],
                size=promise["size"],
                revision=promise["revision"],
                kept=promise["kept"],
            )


def by_node(bound: Iterable[Bound]) -> Mapping[str, Sequence[Bound]]:
    """Group by node; pods that are bound to none are left out."""
    found: dict[str, list[Bound]] = {}
    for one in bound:
        if one.node:
            found.setdefault(one.node, []).append(one)
    return found


def promised(bound: Iterable[Bound]) -> dict[str, int]:
    """Sum what pods of one node were promised, by resource."""
    total: dict[str, int] = {}
    for one in bound:
        for resource, figure in one.figures.items():
            total[resource] = total.get(resource, 0) + figure
    return total


def used_classes(bound: Iterable[Bound]) -> dict[str, int]:
    """Count the pods on nodes that ask for a class, or got it."""
    return dict(Counter(name for one in bound if one.node for name in {one.asked_class, one.sla_class} - {""}))


def _figures(spec: Mapping[str, Any]) -> dict[str, int]:
    def own(container: Mapping[str, Any]) -> dict[str, int]:
        requests = (container.get("resources") or {}).get("requests") or {}
        return {key: parse_integer(text) for key, text in requests.items() if key in RESOURCES}

    def kind(container: Mapping[str, Any]) -> Kind:
        return Kind.SIDECAR if container.get("restartPolicy") == "Always" else Kind.INIT

    first = [(kind(container), own(container)) for container in spec.get("initContainers") or ()]
    return effective([*first, *((Kind.RUNNING, own(container)) for container in spec["containers"])])


def _note(record: object) -> Mapping[str, Any]:
    """Read a record as far as it can be: a note of anybody's, from which nothing but counts and what is kept follow."""
    try:
        note = orjson.loads(record) if isinstance(record, str) else {}
        words = [note.get(key, "") for key in ("class", "fallbackFrom", "revision")]
        kept = [figures["kept"] for figures in note.get("dimensions", {}).values()]
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
    return note if all(isinstance(word, str) for word in [*words, *kept]) else {}

"""Does a node match what a pod requires of its labels. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Labels: TypeAlias = Mapping[str, str]
Term: TypeAlias = Mapping[str, Any]


def required_terms(spec: Mapping[str, Any]) -> Sequence[Term] | None:
    """Read the required node affinity of a pod: terms of which one must match; None where nothing is required."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return None if required is None else required.get("nodeSelectorTerms") or []


def matches(selector: Labels, terms: Sequence[Term] | None, labels: Labels, name: str) -> bool:
    """
    Tell whether a node is one that the pod may be on.

    Args:
        selector: The pod's `nodeSelector`.
        terms: As `required_terms` reads them; an empty list, like an empty term, matches no node.
        labels: The node's.
        name: The node's, which is the only field that `matchFields` knows.
    """
    if any(labels.get(key) != value for key, value in selector.items()):
        return False
    return terms is None or any(term_matches(term, labels, name) for term in terms)


def term_matches(term: Term, labels: Labels, name: str) -> bool:
    """Tell whether every expression and field of a term holds."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not (expressions or fields):
        return False
    return all(expression_matches(e, labels) for e in expressions) and all(
        expression_matches(field, {"metadata.name": name}) for field in fields
    )


def expression_matches(expression: Mapping[str, Any], labels: Labels) -> bool:
    """
    Tell whether one expression holds.

    Source:
        kubernetes, apimachinery/pkg/labels/selector.go, Requirement.Matches: Gt and Lt compare integers, and what is
        none does not match.
    """
    value, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                left, right = int(value or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return left > right if operator == "Gt" else left < right
    return False

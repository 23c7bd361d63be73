"""Where pod templates are: in Kubernetes' own workloads, and anywhere in a custom kind. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_TEMPLATE: Final[Path] = ("spec", "template")
_CRON_TEMPLATE: Final[Path] = ("spec", "jobTemplate", "spec", "template")


class Workload(NamedTuple):
    """Where a kind keeps its pod template and the number of pods; None where nodes decide it."""

    template: Path
    replicas: Path | None


WORKLOADS: Final[Mapping[str, Workload]] = {
    "CronJob": Workload(_CRON_TEMPLATE, ("spec", "jobTemplate", "spec", "parallelism")),
    "DaemonSet": Workload(_TEMPLATE, None),
    "Deployment": Workload(_TEMPLATE, ("spec", "replicas")),
    "Job": Workload(_TEMPLATE, ("spec", "parallelism")),
    "Pod": Workload((), None),
    "ReplicaSet": Workload(_TEMPLATE, ("spec", "replicas")),
    "ReplicationController": Workload(_TEMPLATE, ("spec", "replicas")),
    "StatefulSet": Workload(_TEMPLATE, ("spec", "replicas")),
}
"""Kubernetes' own kinds that make pods, by kind."""


class PodTemplate(NamedTuple):
    """
    A pod template (or a bare pod) inside a document.

    Attributes:
        path: Where it stands in the document; () for a bare pod.
        replicas: How many pods are made of it at once, 1 where the document does not say; None where it is a bare pod
            or one for each node.
    """

    template: Mapping[str, Any]
    path: Path
    replicas: int | None


def pod_template(document: Mapping[str, Any]) -> PodTemplate | None:
    """Find the pod template of one of Kubernetes' own kinds; None where the kind is another or has none."""
    workload = WORKLOADS.get(str(document.get("kind")))
    if workload is None:
        return None
    template = value_at(document, workload.template)
    if not isinstance(template, Mapping):
        return None
    replicas = None if workload.replicas is None else value_at(document, workload.replicas)
    if workload.replicas is not None and (not isinstance(replicas, int) or isinstance(replicas, bool)):
        replicas = 1  # what the API server fills in
    return PodTemplate(template, workload.template, replicas)


def claim_templates(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the claims that the pods of a StatefulSet have as volumes, beside those of its pod template."""
    claims = value_at(document, ("spec", "volumeClaimTemplates"))
    if document.get("kind") != "StatefulSet" or not isinstance(claims, list):
        return ()
    return tuple(str(value_at(claim, ("metadata", "name"))) for claim in claims)


def find_templates(document: Any) -> list[tuple[Path, Mapping[str, Any]]]:
    """
    Find every pod and pod template of any kind, in the order of the document.

    A template is a mapping whose `spec.containers` is a list of mappings, which is what PyTorchJob, RayCluster, JobSet,
    LeaderWorkerSet and `kind: List` have in common. A template is not searched for further ones.
    """
    found: list[tuple[Path, Mapping[str, Any]]] = []
    left: list[tuple[Path, Any]] = [((), document)]
    while left:
        path, value = left.pop()
        if isinstance(value, Mapping) and _is_template(value):
            found.append((path, value))
        else:
            left += reversed([((*path, key), inner) for key, inner in _inner(value)])
    return found


def _is_template(value: Mapping[str, Any]) -> bool:
    spec = value.get("spec")
    containers = spec.get("containers") if isinstance(spec, Mapping) else None
    return isinstance(containers, list) and bool(containers) and all(isinstance(c, Mapping) for c in containers)


def _inner(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), inner) for key, inner in value.items())
    elif isinstance(value, list):
        yield from enumerate(value)


def value_at(document: Any, path: Path) -> Any:
    """Follow *path* through mappings and lists; None where any part is absent."""
    for step in path:
        if isinstance(document, Mapping):
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
        else:
            return None
    return document

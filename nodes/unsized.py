"""Pods that name a class and run without a size: podsla could not be reached when they were created. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from catalog.keys import CLASS, MIRROR_POD, OPT_OUT, RECORD

EXEMPT: Final = frozenset({"kube-system", "kube-public", "kube-node-lease", "podsla-system", "podsla-agents"})
"""Namespaces whose pods are never sent to podsla."""


@dataclass(frozen=True, slots=True, order=True)
class Unsized:
    """
    One such pod.

    Attributes:
        pod: "namespace/name".
        sla_class: The class that it names.
    """

    pod: str
    sla_class: str
    uid: str


def read_unsized(pods: Iterable[Mapping[str, Any]]) -> Iterator[Unsized]:
    """Find them by their metadata alone; a pod that gets its class from its namespace is not told from an older one."""
    for pod in pods:
        metadata = pod["metadata"]
        annotations, namespace = metadata.get("annotations") or {}, metadata.get("namespace") or ""
        asks = annotations.get(CLASS, OPT_OUT) != OPT_OUT and namespace not in EXEMPT
        if asks and RECORD not in annotations and MIRROR_POD not in annotations:
            yield Unsized(f"{namespace}/{metadata['name']}", annotations[CLASS], metadata.get("uid", ""))

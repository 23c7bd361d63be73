"""Everything that a decision reads of a pod, as one frozen value. Pure.

The pod itself stays a mapping: a typed round trip would drop fields that newer clusters know.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

from catalog.keys import DOMAIN, GPU_PHASE, GPU_PHASE_CONTAINER, MIRROR_POD, PLACEHOLDER, RECORD, SIZE
from catalog.quantity import QuantityError, parse_cpu_m, parse_integer

Texts: TypeAlias = tuple[tuple[str, str], ...]

LIMIT_ANNOTATIONS: Final = (
    "cdi-devices.nri.io/pod",
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
    "k8s.aliyun.com/eci-use-specs",
    "karpenter.sh/do-not-disrupt",
    "koordinator.sh/blkioQOS",
    "kubernetes.io/egress-bandwidth",
    "kubernetes.io/ingress-bandwidth",
    "qos.projectcalico.org/egressPacketRate",
    "qos.projectcalico.org/ingressPacketRate",
)
"""Annotations that effects write, and that a user may have written before."""


LIBRARY_VARIABLES: Final = ("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")
"""Variables that effects write, and that a container may have by itself."""

NOT_KNOWN: Final = "(valueFrom)"  # of a variable whose value the cluster finds out later

REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


class PodError(ValueError):
    """The object has not the form of a pod."""


class Kind(StrEnum):
    """How a container counts: with the others, before them, or both (a native sidecar)."""

    RUNNING = "running"
    SIDECAR = "sidecar"
    INIT = "init"


@dataclass(frozen=True, slots=True)
class Container:
    """A container's requests and limits, as texts, sorted by resource; and of its variables `LIBRARY_VARIABLES`."""

    name: str
    kind: Kind
    requests: Texts = ()
    limits: Texts = ()
    env: Texts = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """
    A pod, as far as a decision is concerned.

    Attributes:
        keys: Every podsla.io/ annotation but the record.
        stray_labels: podsla.io/ labels that nobody but us writes, or that should be annotations.
        limits_written: Those of `LIMIT_ANNOTATIONS` that the pod carries.
        pod_requests: Pod-level requests, with pod_limits; empty on a pod that has none.
        claims: Volumes that are persistent volume claims.
        commands: Of a pod with a GPU phase, the containers that do not leave their command to their image.
    """

    keys: Texts = ()
    stray_labels: tuple[str, ...] = ()
    limits_written: Texts = ()
    containers: tuple[Container, ...] = ()
    pod_requests: Texts = ()
    pod_limits: Texts = ()
    overhead: Texts = ()
    runtime_class: str | None = None
    claims: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    daemonset: bool = False
    bound: bool = False
    windows: bool = False
    mirror: bool = False


def mapping_at(value: Any, path: str) -> Mapping[str, Any]:
    """Take *value* as a mapping; absent and null are empty."""
    if isinstance(value, dict):
        return value
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise PodError(f"{path} must be a mapping, and is {type(value).__name__}")
    return value


def list_at(value: Any, path: str) -> list[Any]:
    """Take *value* as a list; absent and null are empty."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise PodError(f"{path} must be a list, and is {type(value).__name__}")
    return value


def read_pod(pod: Mapping[str, Any]) -> Subject:
    """
    Read a pod (or a pod template, which has the same two parts).

    Raises:
        PodError: A part that a decision needs has the wrong form.
    """
    metadata = mapping_at(pod.get("metadata"), "metadata")
    annotations = mapping_at(metadata.get("annotations"), "metadata.annotations")
    labels = mapping_at(metadata.get("labels"), "metadata.labels")
    spec = mapping_at(pod.get("spec"), "spec")
    resources = mapping_at(spec.get("resources"), "spec.resources")
    owners = list_at(metadata.get("ownerReferences"), "metadata.ownerReferences")
    volumes = list_at(spec.get("volumes"), "spec.volumes")
    _check_placement(spec)
    operating_system = mapping_at(spec.get("os"), "spec.os").get("name")
    containers = (*_containers(spec, "initContainers"), *_containers(spec, "containers"))
    if not any(container.kind is Kind.RUNNING for container in containers):
        raise PodError("spec.containers must name at least one container")
    return Subject(
        keys=_ours(annotations, RECORD),
        stray_labels=tuple(key for key, _ in _ours(labels, SIZE, PLACEHOLDER)),
        limits_written=tuple((key, str(annotations[key])) for key in LIMIT_ANNOTATIONS if key in annotations),
        containers=containers,
        pod_requests=_texts(resources.get("requests"), "spec.resources.requests"),
        pod_limits=_texts(resources.get("limits"), "spec.resources.limits"),
        overhead=_texts(spec.get("overhead"), "spec.overhead"),
        runtime_class=spec.get("runtimeClassName") or None,
        claims=tuple(str(v.get("name")) for v in volumes if _is_claim(v)) if volumes else (),
        commands=_commands(spec) if GPU_PHASE in annotations else (),
        daemonset=bool(owners) and any(_is_daemonset(owner) for owner in owners),
        bound=bool(spec.get("nodeName")),
        windows=operating_system == "windows",
        mirror=MIRROR_POD in annotations,
    )


def _check_placement(spec: Mapping[str, Any]) -> None:
    """Check the form of what placement is added to."""
    if spec.get("affinity") is not None:
        affinity = mapping_at(spec["affinity"], "spec.affinity")
        node = mapping_at(affinity.get("nodeAffinity"), "spec.affinity.nodeAffinity")
        required = mapping_at(node.get(REQUIRED), f"spec.affinity.nodeAffinity.{REQUIRED}")
        for term in list_at(required.get("nodeSelectorTerms"), "nodeSelectorTerms"):
            expressions = mapping_at(term, "nodeSelectorTerms[]").get("matchExpressions")
            for expression in list_at(expressions, "matchExpressions"):
                mapping_at(expression, "matchExpressions[]")
    for toleration in list_at(spec.get("tolerations"), "spec.tolerations"):
        mapping_at(toleration, "spec.tolerations[]")
    if not isinstance(spec.get("runtimeClassName"), str | None):
        raise PodError("spec.runtimeClassName must be text")


def _is_claim(volume: Any) -> bool:
    return isinstance(volume, dict) and ("persistentVolumeClaim" in volume or "ephemeral" in volume)


def _is_daemonset(owner: Any) -> bool:
    return isinstance(owner, dict) and owner.get("kind") == "DaemonSet" and bool(owner.get("controller"))


def _ours(fields: Mapping[str, Any], *own: str) -> Texts:
    """List what stands under our domain, less the keys that we write ourselves."""
    try:
        return tuple(sorted((key, str(fields[key])) for key in fields if key.startswith(DOMAIN) and key not in own))
    except AttributeError:
        raise PodError("metadata: a key of labels or annotations is no text; put it in quotes") from None


def _containers(spec: Mapping[str, Any], group: str) -> Iterable[Container]:
    for index, raw in enumerate(list_at(spec.get(group), f"spec.{group}")):
        try:
            fields = mapping_at(raw, "it")
            sidecar = fields.get("restartPolicy") == "Always"
            kind = Kind.RUNNING if group == "containers" else Kind.SIDECAR if sidecar else Kind.INIT
            resources = mapping_at(fields.get("resources"), "resources")
            requests = _texts(resources.get("requests"), "resources.requests")
            limits = _texts(resources.get("limits"), "resources.limits")
            env = _variables(fields["env"]) if fields.get("env") else ()
        except PodError as error:
            raise PodError(f"spec.{group}[{index}]: {error}") from None
        yield Container(str(fields.get("name", "")), kind, requests, limits, env)


def _commands(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the containers that say their command; check the form of all that a GPU phase adds to."""
    for volume in list_at(spec.get("volumes"), "spec.volumes"):
        mapping_at(volume, "spec.volumes[]")
    found = []
    for group in ("initContainers", "containers"):
        for raw in list_at(spec.get(group), f"spec.{group}"):
            name = str(raw.get("name", ""))
            for mount in list_at(raw.get("volumeMounts"), f"volumeMounts of container {name}"):
                mapping_at(mount, f"volumeMounts[] of container {name}")
            if list_at(raw.get("command"), f"command of container {name}") and name != GPU_PHASE_CONTAINER:
                found.append(name)
    return tuple(found)


def _variables(value: Any) -> Texts:
    """Read what a container says of the driver's libraries; of one name the last counts, as it does to the kubelet."""
    try:
        ours = [each for each in list_at(value, "env") if each["name"] in LIBRARY_VARIABLES]
    except (KeyError, TypeError):
        raise PodError("env[] must be mappings with a name") from None
    if not ours:
        return ()
    found = {each["name"]: NOT_KNOWN if each.get("valueFrom") else str(each.get("value") or "") for each in ours}
    return tuple(sorted(found.items()))


def _texts(value: Any, path: str) -> Texts:
    if not value:
        return ()
    texts = []
    for key, quantity in mapping_at(value, path).items():
        if not isinstance(key, str):
            raise PodError(f"{path}: {key!r} is no text; put it in quotes")
        try:
            parse_cpu_m(quantity) if key == "cpu" else parse_integer(quantity)
        except QuantityError as error:
            raise PodError(f"{path}.{key}: {error}") from None
        texts.append((key, quantity if type(quantity) is str else str(quantity)))
    texts.sort()
    return tuple(texts)

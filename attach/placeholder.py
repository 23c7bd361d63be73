"""The placeholder: the pod that reserves GPUs with scheduler and quota, as it is made and as it came back. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from attach.api import KIND, Attachment, Object, placeholder_name
from catalog.keys import CLASS, ISTIO_INJECT, LINKERD_INJECT, OPT_OUT, PLACEHOLDER, WARM
from catalog.schema import API_VERSION
from catalog.target import Metadata

PRIORITY_CLASS: Final = "podsla-placeholder"
GRACE_S: Final = 3600  # it ends on the agent's word, and the kubelet keeps the device until then
CONTAINER: Final = "hold"
NOTHING_MORE: Final = Metadata()
_REQUESTS: Final = {"cpu": "10m", "memory": "32Mi"}
_LIMITS: Final = {"cpu": "500m", "memory": "64Mi"}  # it starts as Python does, and hears nothing before it has


@dataclass(frozen=True, slots=True)
class Pod:
    """
    A pod, as far as reserving is concerned.

    Attributes:
        attachment: The UID of the attachment that it reserves for; `WARM`: of none yet; "": it is no placeholder.
        owner: The UID of the object that controls it.
        ended: Its phase says that none of its containers runs, or will.
        why: What its status says of the reason for that, or of its not being scheduled.
        default_container: That of its annotation; "" where it has none.
        demands: Per container, in order: name, and what it requests by resource.
        init_containers: Names of those that run before them, or beside them as sidecars.
    """

    name: str
    uid: str
    version: str
    node: str
    phase: str
    deleting: bool
    attachment: str
    owner: str
    why: str
    default_container: str
    demands: tuple[tuple[str, Mapping[str, Any]], ...]
    tolerations: tuple[Any, ...]
    init_containers: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it has run to its end, or was refused by its node."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_free(self) -> bool:
        """Whether it may be handed to an attachment: it reserves for none, and is not about to go."""
        return self.attachment == WARM and not self.deleting and not self.ended

    @property
    def containers(self) -> tuple[str, ...]:
        """Names of its containers."""
        return tuple(name for name, _ in self.demands)


def read_pod(thing: Object) -> Pod:
    """Read a pod of the API server."""
    metadata, spec, status = thing["metadata"], thing.get("spec") or {}, thing.get("status") or {}
    owners: Sequence[Mapping[str, Any]] = metadata.get("ownerReferences") or ()
    conditions: Sequence[Mapping[str, Any]] = status.get("conditions") or ()
    unscheduled: Mapping[str, Any] = next((c for c in conditions if c.get("type") == "PodScheduled"), {})
    why = ": ".join(filter(None, (status.get("reason"), status.get("message")))) or unscheduled.get("message", "")
    return Pod(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        version=metadata.get("resourceVersion", ""),
        node=spec.get("nodeName", ""),
        phase=status.get("phase", "Pending"),
        deleting="deletionTimestamp" in metadata,
        attachment=(metadata.get("labels") or {}).get(PLACEHOLDER, ""),
        owner=next((str(owner.get("uid")) for owner in owners if owner.get("controller")), ""),
        why=why,
        default_container=(metadata.get("annotations") or {}).get("kubectl.kubernetes.io/default-container", ""),
        demands=tuple(
            (container["name"], (container.get("resources") or {}).get("requests") or {})
            for container in spec.get("containers") or ()
        ),
        tolerations=tuple(spec.get("tolerations") or ()),
        init_containers=tuple(container["name"] for container in spec.get("initContainers") or ()),
    )


def placeholder(attachment: Attachment, target: Pod, image: str, more: Metadata = NOTHING_MORE) -> dict[str, Any]:
    """Write the pod that reserves for an attachment, on the node of its target; *more* is what it carries besides."""
    name, owner = placeholder_name(attachment.uid), {"ownerReferences": [owner_of(attachment)]}
    metadata = {**_metadata(name, attachment.namespace, attachment.uid, more), **owner}
    return _pod(metadata, {attachment.spec.resource: str(attachment.spec.count)}, target, image)


def warm_placeholder(
    name: str, namespace: str, resource: str, beside: Pod, image: str, more: Metadata = NOTHING_MORE
) -> dict[str, Any]:
    """Write a pod that reserves one GPU for whoever of its namespace asks next on the node of *beside*."""
    return _pod(_metadata(name, namespace, WARM, more), {resource: "1"}, beside, image)


def owner_of(attachment: Attachment) -> dict[str, Any]:
    """Write the owner reference of an attachment's placeholder."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": attachment.name,
        "uid": attachment.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _metadata(name: str, namespace: str, label: str, more: Metadata) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": namespace,
        "labels": {**dict(more.labels), PLACEHOLDER: label, ISTIO_INJECT: "false"},
        "annotations": {
            **dict(more.annotations),
            CLASS: OPT_OUT,
            ISTIO_INJECT: "false",
            LINKERD_INJECT: "disabled",
        },
    }


def _pod(metadata: Mapping[str, Any], reserved: Mapping[str, str], target: Pod, image: str) -> dict[str, Any]:
    on_node = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [target.node]}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE_S,
            "priorityClassName": PRIORITY_CLASS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": list(target.tolerations),
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [on_node]},
                }
            },
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "args": ["gpu", "hold"],
                    # It holds the GPU and never uses it, whatever a runtime makes of that resource.
                    "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}],
                    "resources": {"requests": {**_REQUESTS, **reserved}, "limits": {**_LIMITS, **reserved}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def is_own(pod: Pod, attachment: Attachment) -> bool:
    """Tell whether a pod is the placeholder of an attachment, and not one that only bears its name."""
    return pod.attachment == attachment.uid and pod.owner == attachment.uid


def mutation(pod: Pod, resource: str, count: int) -> str:
    """Say what another webhook made of a placeholder that keeps it from its task; "" where nothing."""
    if pod.containers != (CONTAINER,):
        return f"it came back with containers {', '.join(pod.containers)}, and was sent with {CONTAINER}"
    if pod.init_containers:  # one that fails keeps it from running; a sidecar keeps the device for the grace period
        return f"it came back with init containers {', '.join(pod.init_containers)}, and was sent with none"
    found = str(pod.demands[0][1].get(resource, "nothing"))
    if found != str(count):
        return f"it came back with a request of {found} {resource}, and was sent with {count}"
    return ""

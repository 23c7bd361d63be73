"""The CustomResourceDefinition of `GPUAttachment`, made from its cerberus schema. Pure."""

import sys
from collections.abc import Mapping
from typing import Any, Final

from attach.api import KIND, MAX_COUNT, MUTABLE, SPEC, TIME, Type
from catalog.schema import Schema, one
from catalog.structural import Kind, Structure, conditions, crd, rule, said
from catalog.yamltext import render_documents


def gpu_attachment_crd() -> dict[str, Any]:
    """Build the CustomResourceDefinition."""
    structure = Structure(_DESCRIPTIONS.__getitem__, {"spec": _SETTLED}, {"spec.renewTime": {"pattern": f"^{TIME}$"}})
    root = {
        "type": "object",
        "description": "A GPU for a container that runs, for as long as it needs one.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structure.node(one(SPEC), "spec"),
            "status": _STATUS,
        },
    }
    return crd(Kind(KIND, "Namespaced", "gpua"), root, _COLUMNS)


def _settled(field: str) -> dict[str, str]:
    same = f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    return rule(same, "cannot change; delete the attachment and create another", fieldPath=f".{field}")


_SETTLED: Final = [
    *(_settled(field) for field in SPEC if field not in MUTABLE),
    rule(
        "!oldSelf.release || self.release",
        "cannot be taken back: the GPU goes; create another attachment",
        fieldPath=".release",
    ),
]

_COLUMNS: Final[list[Schema]] = [
    {"name": "Pod", "type": "string", "jsonPath": ".spec.podName"},
    {"name": "Node", "type": "string", "jsonPath": ".status.node"},
    {"name": "Resource", "type": "string", "jsonPath": ".spec.resource"},
    {"name": "Count", "type": "integer", "jsonPath": ".spec.count"},
    # Conditions stand in the order of their weight, so the first that is True is the state.
    {"name": "State", "type": "string", "jsonPath": '.status.conditions[?(@.status=="True")].type'},
    {"name": "Queue", "type": "integer", "jsonPath": ".status.queuePosition"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Held", "type": "integer", "jsonPath": ".status.heldSeconds", "priority": 1},
    {"name": "Reason", "type": "string", "jsonPath": ".status.conditions[0].reason", "priority": 1},
    {"name": "Message", "type": "string", "jsonPath": ".status.conditions[0].message", "priority": 1},
]

_STATUS: Final[Schema] = {
    "type": "object",
    "description": "What became of it; podsla controller and the agent of the node write it.",
    "properties": {
        "node": said("The node that the pod runs on."),
        "podUID": said("The pod that it is for; one that comes after it under the same name is another."),
        "container": said("The container that gets access."),
        "placeholder": {
            "description": "The pod that reserves the GPUs with the scheduler, in this namespace.",
            "type": "object",
            "required": ["name"],
            "properties": {"name": said("Its name."), "uid": said("Its UID.")},
        },
        "queuePosition": said("Its place among those that wait, from 1; 0: it does not wait.", "integer", minimum=0),
        "devices": {
            "description": "The GPUs that are reserved for it.",
            "type": "array",
            "x-kubernetes-list-type": "atomic",
            "maxItems": MAX_COUNT,
            "items": {
                "type": "object",
                "required": ["uuid"],
                "properties": {"uuid": said("Its UUID, as GPU-….")},
            },
        },
        "attachedAt": said("When access was given and verified.", format="date-time"),
        "leaseExpiresAt": said("When it is taken back, if the lease is not renewed.", format="date-time"),
        "heldSeconds": said("For how long the GPUs were held.", "integer", format="int64", minimum=0),
        "conditions": conditions(
            "The first that is True is the state. Released and Failed are ends: nothing is held after either.",
            f"{', '.join(kind.value for kind in list(Type)[:-1])}, or {list(Type)[-1].value}.",
        ),
    },
}

_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "spec": "What is asked. All of it but renewTime and release is settled at creation.",
    "spec.podName": "The pod, in this namespace; it must run.",
    "spec.podUID": "Its UID; left out: that of the pod of this name when it is looked up, once.",
    "spec.container": "The container; left out: the pod's only, its default, or its first one.",
    "spec.resource": "The extended resource, such as nvidia.com/gpu or nvidia.com/mig-1g.5gb.",
    "spec.count": "How many, all or none of which are attached.",
    "spec.models": "GPU models that will do, such as A10; left out: every model.",
    "spec.leaseSeconds": "For how long after renewTime, or after the attach, it may be held.",
    "spec.renewTime": "When the lease was renewed last, in UTC; the client moves it on.",
    "spec.release": "Take the GPUs back and keep the object; it cannot be taken back.",
    "spec.gracePeriodSeconds": "For how long processes may still use the GPUs once they are told that these go.",
    "spec.detachPolicy": "Wait: until processes have closed them, at the pod's cost; Terminate: end those processes.",
    "spec.ttlSecondsAfterFinished": "For how long the object stays once it has ended.",
}


if __name__ == "__main__":
    sys.stdout.write(render_documents([gpu_attachment_crd()]))

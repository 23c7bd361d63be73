"""The CustomResourceDefinition of `SpecCatalog`, made from its cerberus schema. Pure.

It says what the schema says, so that a slip is refused where it is typed. What needs other objects, or compares every
class with every size, is left to the status: the API server bounds what its rules may cost.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final

from catalog.dimension import TUNABLE
from catalog.model import GpuMode
from catalog.schema import SPEC_CATALOG, Schema
from catalog.structural import Kind, Structure, conditions, crd, rule, said
from catalog.yamltext import render_documents

MAX_NAME: Final = 63  # a name may also stand in a label


def spec_catalog_crd() -> dict[str, Any]:
    """Build the CustomResourceDefinition."""
    too_long = f"the name of a catalogue also stands in a label; write {MAX_NAME} characters at most"
    structure = Structure(_described, _RULES, _LIMITS)
    root = {
        "type": "object",
        "description": "Sandbox sizes that really exist, and the SLA classes that pods may ask for by name.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structure.node(SPEC_CATALOG["spec"], "spec"),
            "status": _STATUS,
        },
        "x-kubernetes-validations": [rule(f"size(self.metadata.name) <= {MAX_NAME}", too_long)],
    }
    return crd(Kind("SpecCatalog", "Cluster", "spec"), root, _COLUMNS)


def _described(path: str) -> str:
    """Say what a field is: the figures of a floor are those of a size."""
    return _DESCRIPTIONS[path.replace("spec.classes[].floor.", "spec.sizes[].")]


_LIMITS: Final[Mapping[str, Schema]] = {  # so that the cost of the rules below can be bounded
    "spec.classes[].name": {"maxLength": MAX_NAME},
    "spec.classes[].fallback[]": {"maxLength": MAX_NAME},
    "spec.classes[].deprecated.replacedBy": {"maxLength": MAX_NAME},
    "spec.classes[].tunable": {"maxProperties": len(TUNABLE)},
}

_TUNABLE: Final = [dimension.path for dimension in TUNABLE]
_RULES: Final[Mapping[str, list[dict[str, str]]]] = {
    "spec.classes": [
        rule("self.map(c, c.name).distinct().size() == size(self)", "two classes have one name; rename or remove one")
    ],
    "spec.classes[]": [
        rule(
            "!has(self.fallback) || !(self.name in self.fallback)",
            "a class cannot be its own fallback; remove it from the list",
            fieldPath=".fallback",
        ),
        rule(
            "!has(self.deprecated) || !has(self.deprecated.replacedBy) || self.deprecated.replacedBy != self.name",
            "a class cannot replace itself; name another one",
            fieldPath=".deprecated.replacedBy",
        ),
    ],
    "spec.classes[].fallback": [
        rule("self.distinct().size() == size(self)", "names a class twice; keep one"),
    ],
    "spec.classes[].tunable": [
        rule(f"self.all(key, key in {_TUNABLE})", f"can be tuned: {', '.join(_TUNABLE)}; nothing else"),
    ],
}

_COLUMNS: Final[list[Schema]] = [
    {"name": "Accepted", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Accepted")].status'},
    {"name": "Reason", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Accepted")].reason'},
    {"name": "Classes", "type": "integer", "jsonPath": ".status.classes"},
    {"name": "Sizes", "type": "integer", "jsonPath": ".status.sizes"},
    {"name": "Pods", "type": "integer", "jsonPath": ".status.pods"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Serving", "type": "string", "jsonPath": ".status.serving", "priority": 1},
    {
        "name": "Message",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Accepted")].message',
        "priority": 1,
    },
]


_USAGE: Final[Schema] = {
    "type": "object",
    "required": ["class", "pods", "misfits"],
    "properties": {
        "class": said("The class."),
        "pods": said("Running pods that got it.", "integer", format="int32"),
        "misfits": said("Those whose size no longer offers what they were promised.", "integer", format="int32"),
    },
}

_STATUS: Final[Schema] = {
    "type": "object",
    "description": "What became of the newest edit; podsla controller writes it.",
    "properties": {
        "observedGeneration": said("The newest edit that was judged.", "integer", format="int64"),
        "revision": said("The content of that edit, as a hash: sha256:…"),
        "serving": said("The content that pods are admitted with: the newest edit, or the last good one before it."),
        "classes": said("SLA classes that are served.", "integer", format="int32"),
        "sizes": said("Sandbox sizes that are served.", "integer", format="int32"),
        "pods": said("Running pods that were sized by a class of this catalogue.", "integer", format="int32"),
        "usage": {
            "description": "Those pods by class.",
            "type": "array",
            "x-kubernetes-list-type": "atomic",
            "items": _USAGE,
        },
        "conditions": conditions(
            "Accepted: whether the newest edit serves, and if not, why. "
            "Followed: whether nodes publish what it says, or more for the sake of pods that run there. "
            "PodsSized: whether every running pod that names a class of it was sized.",
            "Accepted, Followed, or PodsSized.",
        ),
    },
}

_SELECTED: Final = {  # a label selector, wherever one stands
    "matchLabels": "Labels that must all be there, with these values.",
    "matchExpressions": "Conditions on labels that must all hold.",
    "matchExpressions[].key": "The label.",
    "matchExpressions[].operator": "How the label is compared.",
    "matchExpressions[].values": "What In and NotIn compare with.",
}
_TOLERATED: Final = {
    "key": "The taint's key; left out: every key.",
    "operator": "Exists, or Equal to the value.",
    "value": "The taint's value.",
    "effect": "The taint's effect; left out: every effect.",
    "tolerationSeconds": "For how many seconds NoExecute is tolerated; left out: forever.",
}
_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "spec": "What this catalogue says. It is taken over whole, or not at all.",
    "spec.sizes": "Sandbox sizes that exist. A figure that is left out is not known, and holds no floor of it.",
    "spec.sizes[].name": "Name of the size: the value of node.kubernetes.io/instance-type.",
    "spec.sizes[].family": "Family of the size; left out: its name up to the last dot.",
    "spec.sizes[].generation": "Generation of the hardware, for classes with a minGeneration.",
    "spec.sizes[].arch": "CPU architecture.",
    "spec.sizes[].vcpu": "vCPUs, such as 4 or 500m; write a fraction in quotes.",
    "spec.sizes[].memory": "Memory in bytes, such as 8Gi.",
    "spec.sizes[].cpu": "The processor.",
    "spec.sizes[].cpu.model": "Its model; shown.",
    "spec.sizes[].cpu.baseMHz": "Guaranteed base clock of a core, in MHz.",
    "spec.sizes[].cpu.turboMHz": "Turbo clock in MHz; shown, never promised.",
    "spec.sizes[].network": "The network, in and out together.",
    "spec.sizes[].network.pps": "Packets/s, such as 600k.",
    "spec.sizes[].network.queues": "Queues of one NIC.",
    "spec.sizes[].network.bitsPerSecond": "Bandwidth in bits/s, such as 1500M.",
    "spec.sizes[].network.burstBitsPerSecond": "Bandwidth in bits/s for a while; shown, never promised.",
    "spec.sizes[].disk": "The disks, all together.",
    "spec.sizes[].disk.iops": "Disk operations/s, such as 30k.",
    "spec.sizes[].disk.bytesPerSecond": "Disk bandwidth in bytes/s, such as 150M.",
    "spec.sizes[].disk.burstIops": "Disk operations/s for a while; shown, never promised.",
    "spec.sizes[].disk.burstBytesPerSecond": "Disk bandwidth in bytes/s for a while; shown, never promised.",
    "spec.sizes[].gpu": "The GPUs.",
    "spec.sizes[].gpu.model": "Model without the vendor's name, such as A10.",
    "spec.sizes[].gpu.count": "Whole GPUs.",
    "spec.sizes[].gpu.share": "Part of one GPU, such as 1/4, in place of count; it counts for no GPU.",
    "spec.sizes[].gpu.memory": "Memory of one whole GPU in bytes, such as 24Gi.",
    "spec.sizes[].localDisk": "Whether it has disks of its host.",
    "spec.sizes[].cost": "Rank, cheapest first; left out: the vCPUs.",
    "spec.classes": "SLA classes that pods ask for by the annotation podsla.io/class.",
    "spec.classes[].name": "What pods write to get it.",
    "spec.classes[].description": "What it is for, in a sentence.",
    "spec.classes[].floor": "What every pod of the class gets at least; what is left out is not promised.",
    "spec.classes[].sizes": "Which sizes may serve it; left out: every size.",
    "spec.classes[].sizes.families": "Families of sizes.",
    "spec.classes[].sizes.names": "Names of sizes, besides those of the families.",
    "spec.classes[].sizes.minGeneration": "The oldest generation of hardware.",
    "spec.classes[].reserve": "size: the pod takes the whole of its size; ask: what it asks, and shares the node.",
    "spec.classes[].runtime": "A key of the target's runtimes, such as runc or rund.",
    "spec.classes[].tolerations": "Tolerations that pods of the class get.",
    **{f"spec.classes[].tolerations[].{key}": text for key, text in _TOLERATED.items()},
    "spec.classes[].tunable": "Dimensions that a pod may raise by podsla.io/min-…, such as network.pps.",
    "spec.classes[].tunable[].max": "The most that a pod may ask; left out: what the sizes have.",
    "spec.classes[].bestEffort": "Floors that are dropped and recorded where nobody in the cluster keeps them.",
    "spec.classes[].fallback": "Classes that are tried in order where this one cannot be had.",
    "spec.classes[].namespaces": "Labels of the namespaces that may use it; left out: every namespace.",
    **{f"spec.classes[].namespaces.{key}": text for key, text in _SELECTED.items()},
    "spec.classes[].gpu": "GPUs of each pod.",
    "spec.classes[].gpu.models": "Models that will do; left out: every model.",
    "spec.classes[].gpu.count": "Whole GPUs.",
    "spec.classes[].gpu.mode": f"{GpuMode.WHOLE_LIFE}: held while the pod lives; {GpuMode.ON_DEMAND}: borrowed.",
    "spec.classes[].gpu.evictable": "Whether autoscalers may evict a pod that borrows.",
    "spec.classes[].deprecated": "The class is on its way out: it warns.",
    "spec.classes[].deprecated.message": "Why, and what to do.",
    "spec.classes[].deprecated.replacedBy": "The class to use in its place.",
    "spec.classes[].deprecated.refuseFrom": "The day from which new pods are refused, such as 2027-03-01.",
    "spec.gpuBudgets": "GPU-minutes that namespaces may hold a day; of several that are for one, the smallest holds.",
    "spec.gpuBudgets[].namespaces": "Labels of the namespaces that have it, each by itself; left out: every namespace.",
    **{f"spec.gpuBudgets[].namespaces.{key}": text for key, text in _SELECTED.items()},
    "spec.gpuBudgets[].minutesPerDay": "GPUs times minutes from midnight to midnight, in UTC.",
    "spec.sources": "Where the figures were published.",
    "spec.sources[].family": "The family of sizes that it is about.",
    "spec.sources[].snapshot": "The state of the document.",
    "spec.sources[].source": "The document.",
    "spec.sources[].notes": "What else to know of the figures.",
}


if __name__ == "__main__":
    sys.stdout.write(render_documents([spec_catalog_crd()]))

"""The CustomResourceDefinition of `SpecCatalog`, made from its cerberus schema. Pure.

It says what the schema says, so that a slip is refused where it is typed. What needs other objects, or compares every
class with every size, is left to the status: the API server bounds what its rules may cost.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final

from catalog.dimension import TUNABLE
from catalog.keys import DOMAIN
from catalog.model import GpuMode
from catalog.quantity import parse_vcpu, render_bytes
from catalog.schema import API_VERSION, SPEC_CATALOG, Schema
from catalog.yamltext import render_documents

GROUP: Final = DOMAIN.rstrip("/")
PLURAL: Final = "speccatalogs"
MAX_NAME: Final = 63  # a name may also stand in a label
MAX_QUANTITY: Final = 64  # characters: as many as the reader takes


def spec_catalog_crd() -> dict[str, Any]:
    """Build the CustomResourceDefinition."""
    names = {"kind": "SpecCatalog", "listKind": "SpecCatalogList", "plural": PLURAL, "singular": "speccatalog"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {**names, "shortNames": ["spec"], "categories": ["podsla"]},
            "versions": [
                {
                    "name": API_VERSION.rpartition("/")[2],
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _COLUMNS,
                    "schema": {"openAPIV3Schema": _root(SPEC_CATALOG.fields)},
                }
            ],
        },
    }


def _root(fields: Schema) -> Schema:
    too_long = f"the name of a catalogue also stands in a label; write {MAX_NAME} characters at most"
    return {
        "type": "object",
        "description": "Sandbox sizes that really exist, and the SLA classes that pods may ask for by name.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _node(fields["spec"], "spec"),
            "status": _STATUS,
        },
        "x-kubernetes-validations": [_rule(f"size(self.metadata.name) <= {MAX_NAME}", too_long)],
    }


def _node(rules: Schema, path: str) -> Schema:
    """
    Translate the rules of one field.

    Args:
        path: Where it stands, as "spec.sizes[].network.pps"; what a cerberus rule cannot say is looked up by it.

    Raises:
        KeyError: The field has no description, or a type that no CRD has.
    """
    node: Schema = {} if path.endswith("[]") else {"description": _DESCRIPTIONS[_described(path)]}
    node |= _type(rules, path)
    if "allowed" in rules:
        node["enum"] = list(rules["allowed"])
    if "regex" in rules:
        node["pattern"] = f"^({rules['regex']})$"
    if rules.get("nullable"):
        node["nullable"] = True
    if rules.get("default") not in (None, "", [], {}):  # an empty default says nothing, and would fill every object
        node["default"] = rules["default"]
    checks = [*_forbidden(rules), *_bound(rules), *_RULES.get(path, ())]
    if checks:
        node["x-kubernetes-validations"] = checks
    return {**node, **_LIMITS.get(path, {})}


def _described(path: str) -> str:
    """Find under which path a field is described: the figures of a floor are those of a size."""
    return path.replace("spec.classes[].floor.", "spec.sizes[].")


def _type(rules: Schema, path: str) -> Schema:
    match rules["type"]:
        case "integer" | ["string", "integer"]:
            return {"x-kubernetes-int-or-string": True, "maxLength": MAX_QUANTITY}
        case "list":
            items = _node(rules["schema"], f"{path}[]")
            return {"type": "array", "x-kubernetes-list-type": "atomic", "maxItems": rules["maxlength"], "items": items}
        case "dict" if "valuesrules" in rules:
            return {"type": "object", "additionalProperties": _node(rules["valuesrules"], f"{path}[]")}
        case "dict":
            fields: Mapping[str, Schema] = rules["schema"]
            required = [key for key, field in fields.items() if field.get("required")]
            properties = {key: _node(field, f"{path}.{key}") for key, field in fields.items()}
            return {"type": "object", **({"required": required} if required else {}), "properties": properties}
        case kind:
            return {"string": {"type": "string"}, "boolean": {"type": "boolean"}, "date": _DATE}[kind]


def _rule(rule: str, message: str, **more: str) -> dict[str, str]:
    return {"rule": rule, "message": message, **more}


def _forbidden(rules: Schema) -> list[dict[str, str]]:
    words = rules.get("forbidden", ())
    return [_rule(f"self != '{word}'", f"cannot be '{word}': the word is taken; choose another") for word in words]


def _bound(rules: Schema) -> list[dict[str, str]]:
    """Bound a quantity in whichever form it comes; that it is a whole number of units is beyond CEL."""
    if rules["type"] not in ("integer", ["string", "integer"]):
        return []
    text = "string(self)"
    if rules.get("coerce") is parse_vcpu:
        right = f"isQuantity({text}) && !{text}.endsWith('i') && quantity({text}).isGreaterThan(quantity('0'))"
        return [_rule(right, "must be vCPUs, more than 0; write 4 or 500m")]
    least = render_bytes(rules.get("min", 0))
    right = f"isQuantity({text}) && !quantity({text}).isLessThan(quantity('{least}'))"
    return [_rule(right, f"must be a quantity of {least} or more; write it as 4, 1500M or 8Gi")]


_DATE: Final[Schema] = {"type": "string", "format": "date"}

_LIMITS: Final[Mapping[str, Schema]] = {  # so that the cost of the rules below can be bounded
    "spec.classes[].name": {"maxLength": MAX_NAME},
    "spec.classes[].fallback[]": {"maxLength": MAX_NAME},
    "spec.classes[].deprecated.replacedBy": {"maxLength": MAX_NAME},
    "spec.classes[].tunable": {"maxProperties": len(TUNABLE)},
}

_TUNABLE: Final = [dimension.path for dimension in TUNABLE]
_RULES: Final[Mapping[str, list[dict[str, str]]]] = {
    "spec.classes": [
        _rule("self.map(c, c.name).distinct().size() == size(self)", "two classes have one name; rename or remove one")
    ],
    "spec.classes[]": [
        _rule(
            "!has(self.fallback) || !(self.name in self.fallback)",
            "a class cannot be its own fallback; remove it from the list",
            fieldPath=".fallback",
        ),
        _rule(
            "!has(self.deprecated) || !has(self.deprecated.replacedBy) || self.deprecated.replacedBy != self.name",
            "a class cannot replace itself; name another one",
            fieldPath=".deprecated.replacedBy",
        ),
    ],
    "spec.classes[].fallback": [
        _rule("self.distinct().size() == size(self)", "names a class twice; keep one"),
    ],
    "spec.classes[].tunable": [
        _rule(f"self.all(key, key in {_TUNABLE})", f"can be tuned: {', '.join(_TUNABLE)}; nothing else"),
    ],
}

_COLUMNS: Final = [
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


def _said(description: str, kind: str = "string", **more: Any) -> Schema:
    return {"description": description, "type": kind, **more}


_CONDITION: Final[Schema] = {
    "type": "object",
    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
    "properties": {
        "type": _said("Accepted, or Followed."),
        "status": _said("True, False, or Unknown.", enum=["True", "False", "Unknown"]),
        "observedGeneration": _said("The edit that this speaks of.", "integer", format="int64", minimum=0),
        "lastTransitionTime": _said("Since when the status is as it is.", format="date-time"),
        "reason": _said("Why, in one word.", maxLength=1024, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"),
        "message": _said("What is wrong and what to do, for people.", maxLength=32768),
    },
}

_USAGE: Final[Schema] = {
    "type": "object",
    "required": ["class", "pods", "misfits"],
    "properties": {
        "class": _said("The class."),
        "pods": _said("Running pods that got it.", "integer", format="int32"),
        "misfits": _said("Those whose size no longer offers what they were promised.", "integer", format="int32"),
    },
}

_STATUS: Final[Schema] = {
    "type": "object",
    "description": "What became of the newest edit; podsla controller writes it.",
    "properties": {
        "observedGeneration": _said("The newest edit that was judged.", "integer", format="int64"),
        "revision": _said("The content of that edit, as a hash: sha256:…"),
        "serving": _said("The content that pods are admitted with: the newest edit, or the last good one before it."),
        "classes": _said("SLA classes that are served.", "integer", format="int32"),
        "sizes": _said("Sandbox sizes that are served.", "integer", format="int32"),
        "pods": _said("Running pods that were sized by a class of this catalogue.", "integer", format="int32"),
        "usage": {
            "description": "Those pods by class.",
            "type": "array",
            "x-kubernetes-list-type": "atomic",
            "items": _USAGE,
        },
        "conditions": {
            "description": (
                "Accepted: whether the newest edit serves, and if not, why. "
                "Followed: whether nodes publish what it says, or more for the sake of pods that run there."
            ),
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": _CONDITION,
        },
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
    "spec.sources": "Where the figures were published.",
    "spec.sources[].family": "The family of sizes that it is about.",
    "spec.sources[].snapshot": "The state of the document.",
    "spec.sources[].source": "The document.",
    "spec.sources[].notes": "What else to know of the figures.",
}


if __name__ == "__main__":
    sys.stdout.write(render_documents([spec_catalog_crd()]))

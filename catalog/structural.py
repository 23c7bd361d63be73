"""A CustomResourceDefinition from a cerberus schema: what both kinds of object have in common. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from catalog.keys import DOMAIN
from catalog.quantity import parse_vcpu, render_bytes
from catalog.schema import API_VERSION, Schema

GROUP: Final = DOMAIN.rstrip("/")
MAX_QUANTITY: Final = 64  # characters: as many as the reader takes


@dataclass(frozen=True, slots=True)
class Kind:
    """
    How a kind is called.

    Attributes:
        name: As "SpecCatalog".
        scope: "Cluster" or "Namespaced".
        short: Its short name for kubectl.
    """

    name: str
    scope: str
    short: str


def crd(kind: Kind, root: Schema, columns: Sequence[Schema]) -> dict[str, Any]:
    """Build the CustomResourceDefinition of a kind with a status."""
    singular = kind.name.lower()
    names = {"kind": kind.name, "listKind": f"{kind.name}List", "plural": f"{singular}s", "singular": singular}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": kind.scope,
            "names": {**names, "shortNames": [kind.short], "categories": ["podsla"]},
            "versions": [
                {
                    "name": API_VERSION.rpartition("/")[2],
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": list(columns),
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


@dataclass(frozen=True, slots=True)
class Structure:
    """
    What a cerberus rule cannot say of a field is looked up by where it stands, as "spec.sizes[].network.pps".

    Attributes:
        described: Says what a field is; a KeyError where nobody said.
        rules: Rules in CEL.
        limits: Bounds, so that the cost of those rules can be bounded.
    """

    described: Callable[[str], str]
    rules: Mapping[str, Sequence[Mapping[str, str]]]
    limits: Mapping[str, Schema]

    def node(self, rules: Schema, path: str) -> Schema:
        """
        Translate the rules of one field.

        Raises:
            KeyError: The field has no description, or a type that no CRD has.
        """
        node: Schema = {} if path.endswith("[]") else {"description": self.described(path)}
        node |= self._type(rules, path)
        if "allowed" in rules:
            node["enum"] = list(rules["allowed"])
        if "regex" in rules:
            node["pattern"] = f"^({rules['regex']})$"
        if rules.get("nullable"):
            node["nullable"] = True
        if rules.get("default") not in (None, "", [], {}):  # an empty default says nothing, and would fill every object
            node["default"] = rules["default"]
        checks = [*_forbidden(rules), *_bound(rules), *self.rules.get(path, ())]
        if checks:
            node["x-kubernetes-validations"] = checks
        return {**node, **self.limits.get(path, {})}

    def _type(self, rules: Schema, path: str) -> Schema:
        match rules["type"]:
            case "integer" if "coerce" not in rules:
                bounds = {word: rules[key] for key, word in (("min", "minimum"), ("max", "maximum")) if key in rules}
                return {"type": "integer", "format": "int64", **bounds}
            case "integer" | ["string", "integer"]:
                return {"x-kubernetes-int-or-string": True, "maxLength": MAX_QUANTITY}
            case "list":
                items = self.node(rules["schema"], f"{path}[]")
                most = rules["maxlength"]
                return {"type": "array", "x-kubernetes-list-type": "atomic", "maxItems": most, "items": items}
            case "dict" if "valuesrules" in rules:
                return {"type": "object", "additionalProperties": self.node(rules["valuesrules"], f"{path}[]")}
            case "dict":
                fields: Mapping[str, Schema] = rules["schema"]
                required = [key for key, field in fields.items() if field.get("required")]
                properties = {key: self.node(field, f"{path}.{key}") for key, field in fields.items()}
                return {"type": "object", **({"required": required} if required else {}), "properties": properties}
            case "string" if "maxlength" in rules:
                return {"type": "string", "maxLength": rules["maxlength"]}
            case kind:
                return dict(_SCALARS[kind])


_SCALARS: Final[Mapping[str, Schema]] = {
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
}


def rule(expression: str, message: str, **more: str) -> dict[str, str]:
    """Write a rule in CEL."""
    return {"rule": expression, "message": message, **more}


def _forbidden(rules: Schema) -> list[dict[str, str]]:
    words = rules.get("forbidden", ())
    return [rule(f"self != '{word}'", f"cannot be '{word}': the word is taken; choose another") for word in words]


def _bound(rules: Schema) -> list[dict[str, str]]:
    """Bound a quantity in whichever form it comes; that it is a whole number of units is beyond CEL."""
    if rules["type"] != ["string", "integer"] and not (rules["type"] == "integer" and "coerce" in rules):
        return []
    text = "string(self)"
    if rules.get("coerce") is parse_vcpu:
        right = f"isQuantity({text}) && !{text}.endsWith('i') && quantity({text}).isGreaterThan(quantity('0'))"
        return [rule(right, "must be vCPUs, more than 0; write 4 or 500m")]
    least = render_bytes(rules.get("min", 0))
    right = f"isQuantity({text}) && !quantity({text}).isLessThan(quantity('{least}'))"
    return [rule(right, f"must be a quantity of {least} or more; write it as 4, 1500M or 8Gi")]


def said(description: str, kind: str = "string", **more: Any) -> Schema:
    """Write a field of a status."""
    return {"description": description, "type": kind, **more}


def conditions(description: str, types: str) -> Schema:
    """Write the field with the conditions; *types* says which there are."""
    return {
        "description": description,
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": said(types),
                "status": said("True, False, or Unknown.", enum=["True", "False", "Unknown"]),
                "observedGeneration": said("The edit that this speaks of.", "integer", format="int64", minimum=0),
                "lastTransitionTime": said("Since when the status is as it is.", format="date-time"),
                "reason": said("Why, in one word.", maxLength=1024, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"),
                "message": said("What is wrong and what to do, for people.", maxLength=32768),
            },
        },
    }

"""The CRD says what the schema says; what the API server makes of it is shown in tests/manifests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog.crd import spec_catalog_crd
from catalog.schema import SPEC_CATALOG, Schema
from catalog.yamltext import render_documents

FILE = Path(__file__).parents[2] / "manifests" / "base" / "crds" / "speccatalogs.podsla.io.yaml"
ROOT: Schema = spec_catalog_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
FORBIDDEN_INSIDE = {"$ref", "definitions", "dependencies", "deprecated", "discriminator", "id", "patternProperties"}


def nodes(node: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Walk a structural schema; items and free keys are written []."""
    yield path, node
    for key, inner in node.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{key}".lstrip("."))
    for word in ("items", "additionalProperties"):
        if word in node:
            yield from nodes(node[word], f"{path}[]")


def fields(rules: Any, path: str) -> Iterator[tuple[str, Schema]]:
    """Walk a cerberus schema in the same words."""
    yield path, rules
    inner = rules.get("schema", {})
    if rules["type"] == "list":
        yield from fields(inner, f"{path}[]")
    elif "valuesrules" in rules:
        yield from fields(rules["valuesrules"], f"{path}[]")
    else:
        for key, field in inner.items():
            yield from fields(field, f"{path}.{key}")


NODES = dict(nodes(ROOT))
SPEC = {path: node for path, node in NODES.items() if path.startswith("spec")}
FIELDS = dict(fields(SPEC_CATALOG["spec"], "spec"))


def test_the_file_in_manifests_is_the_one_that_the_schema_makes() -> None:
    assert FILE.read_text() == render_documents([spec_catalog_crd()]), "run `make manifests`"


def test_the_crd_has_the_fields_of_the_schema_and_no_other() -> None:
    assert sorted(SPEC) == sorted(FIELDS)


@pytest.mark.parametrize("path", NODES)
def test_every_node_is_structural(path: str) -> None:
    """Each has one type, and nothing that the API server refuses in a structural schema."""
    node = NODES[path]
    assert ("type" in node) != ("x-kubernetes-int-or-string" in node)
    assert not FORBIDDEN_INSIDE & node.keys()
    assert not ("properties" in node and "additionalProperties" in node)
    assert "x-kubernetes-preserve-unknown-fields" not in node
    assert node.get("uniqueItems") is None


@pytest.mark.parametrize(
    "path", [path for path in NODES if not path.endswith("[]") and path.startswith(("spec", "st"))]
)
def test_every_field_says_what_it_is(path: str) -> None:
    """`kubectl explain` shows a sentence for each."""
    assert NODES[path]["description"].endswith((".", "…"))


@pytest.mark.parametrize("path", SPEC)
def test_a_field_keeps_its_rules(path: str) -> None:
    node, rules = SPEC[path], FIELDS[path]
    kinds = {"dict": "object", "list": "array", "string": "string", "boolean": "boolean", "date": "string"}
    assert node.get("type") == (kinds.get(rules["type"]) if isinstance(rules["type"], str) else None)
    assert node.get("enum") == (list(rules["allowed"]) if "allowed" in rules else None)
    assert node.get("nullable", False) == rules.get("nullable", False)
    assert node.get("maxItems") == (rules["maxlength"] if rules["type"] == "list" else None)
    required = [key for key, field in rules.get("schema", {}).items() if rules["type"] == "dict" and is_required(field)]
    assert node.get("required", []) == required
    if "default" in node:
        assert node["default"] == rules["default"]


def is_required(field: Any) -> bool:
    """Tell whether a file must have the field."""
    return bool(field.get("required"))


def test_lists_are_atomic_and_bounded_so_that_an_edit_is_taken_whole() -> None:
    lists = {path: node for path, node in SPEC.items() if node.get("type") == "array"}
    assert {node["x-kubernetes-list-type"] for node in lists.values()} == {"atomic"}
    assert all(node["maxItems"] > 0 for node in lists.values())


def test_defaults_are_those_that_say_something() -> None:
    """An empty list or text as default would stand in each of thousands of sizes."""
    assert {path: node["default"] for path, node in SPEC.items() if "default" in node} == {
        "spec.sizes[].arch": "amd64",
        "spec.sizes[].localDisk": False,
        "spec.classes[].gpu.count": 1,
        "spec.classes[].gpu.mode": "whole-life",
        "spec.classes[].gpu.evictable": False,
    }

"""What is served is what was accepted, found among the objects of an API server."""

from typing import Any

import pytest

from catalog.accept import Memo
from catalog.load import DEFAULT_TARGET, load_target
from catalog.served import build, find_accepted, read_overheads
from catalog.stored import revision_object
from catalog.target import Target

SIZES = {"sizes": [{"name": "lab.g1.large", "vcpu": "4", "memory": "8Gi"}]}
CLASSES = {"classes": [{"name": "small", "floor": {"vcpu": "1"}}]}
TARGET = """
apiVersion: podsla.io/v1beta1
kind: Target
metadata: {name: lab}
spec: {runtimes: {rund: {runtimeClassName: kata, overhead: {vcpu: 250m}}}}
"""


def catalog(name: str, spec: Any, serving: str | None, created: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    metadata = {"name": name, "uid": f"uid-{name}", "generation": 1, "creationTimestamp": created}
    return {"metadata": metadata, "spec": spec, "status": {"serving": serving} if serving else {}}


def kept(thing: dict[str, Any], revision: str, spec: Any) -> dict[str, Any]:
    return {**revision_object(thing, revision, 1, "podsla-system"), "data": {"spec": spec}}


def target(number: int, text: str) -> dict[str, Any]:
    metadata = {"name": f"podsla-target-{number}", "labels": {"podsla.io/target": "true"}}
    return {"metadata": metadata, "revision": number, "data": {"target.yaml": text}}


@pytest.fixture(scope="module")
def default() -> Target:
    return load_target(DEFAULT_TARGET)


def test_what_was_accepted_is_served_and_not_what_was_written_since(default: Target) -> None:
    edited = catalog("lab", {"sizes": "nonsense"}, "sha256:a")

    found = find_accepted([edited], [kept(edited, "sha256:a", SIZES | CLASSES)], [])

    assert found is not None
    served = build(found, default, Memo())
    assert [size.name for size in served.catalog.sizes] == ["lab.g1.large"]
    assert list(served.catalog.classes) == ["small"]
    assert served.problems == ()


def test_a_catalogue_that_was_never_accepted_is_not_served(default: Target) -> None:
    found = find_accepted([catalog("lab", SIZES, None)], [], [])

    assert found is not None
    assert build(found, default, Memo()).catalog.sizes == ()


def test_a_revision_that_is_named_and_not_seen_yet_is_waited_for() -> None:
    """Watches of two collections are not in step: serving without it would refuse pods that have a class."""
    assert find_accepted([catalog("lab", SIZES, "sha256:a")], [], []) is None


def test_revisions_of_a_deleted_namesake_do_not_count() -> None:
    old, new = catalog("lab", SIZES, None), catalog("lab", SIZES, "sha256:a")
    new["metadata"]["uid"] = "uid-of-the-new-one"

    assert find_accepted([new], [kept(old, "sha256:a", SIZES)], []) is None


def test_sizes_and_classes_of_several_catalogues_are_one(default: Target) -> None:
    sizes = catalog("sizes", SIZES, "sha256:s", "2026-02-01T00:00:00Z")
    classes = catalog("classes", CLASSES, "sha256:c")

    found = find_accepted([sizes, classes], [kept(sizes, "sha256:s", SIZES), kept(classes, "sha256:c", CLASSES)], [])

    assert found is not None
    assert [one.catalog for one in found.kept] == ["classes", "sizes"]
    served = build(found, default, Memo()).catalog
    assert (len(served.sizes), list(served.classes)) == (1, ["small"])


def test_the_newest_accepted_target_serves_with_the_overhead_of_its_runtime_classes(default: Target) -> None:
    kata = {"metadata": {"name": "kata"}, "overhead": {"podFixed": {"cpu": "300m", "memory": "160Mi"}}}

    found = find_accepted([], [target(2, TARGET), target(10, TARGET.replace("lab", "newest"))], [kata])

    assert found is not None
    served = build(found, default, Memo()).target
    assert served.name == "newest"
    runtime = served.runtime("rund")
    assert runtime is not None
    assert (runtime.overhead_cpu_m, runtime.overhead_memory_bytes) == (300, 160 << 20)


def test_a_runtime_class_without_overhead_costs_nothing() -> None:
    assert read_overheads([{"metadata": {"name": "runc"}, "handler": "runc"}]) == {"runc": (0, 0)}


def test_the_key_changes_with_what_is_served_and_with_nothing_else() -> None:
    thing = catalog("lab", SIZES, "sha256:a")
    revision = kept(thing, "sha256:a", SIZES)
    before = find_accepted([thing], [revision], [])
    touched = {
        **thing,
        "metadata": {**thing["metadata"], "resourceVersion": "2"},
        "status": {**thing["status"], "pods": 4},
    }
    after = find_accepted([touched], [{**revision, "revision": 7}], [])
    other = find_accepted([touched], [revision, target(1, TARGET)], [])

    assert before is not None
    assert after is not None
    assert other is not None
    assert before.key == after.key
    assert before.key != other.key

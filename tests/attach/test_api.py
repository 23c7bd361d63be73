"""GPUAttachment: the CRD says what the schema says, an object is read whole or refused by its fields."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attach.api import (
    MUTABLE,
    SPEC,
    Condition,
    Placeholder,
    Type,
    merge_conditions,
    parse_attachment,
    placeholder_name,
    render_time,
)
from attach.crd import gpu_attachment_crd
from attach.entry import Policy
from catalog.problems import InvalidError
from catalog.schema import Schema, one
from catalog.yamltext import render_documents
from tests.catalog.test_crd import FORBIDDEN_INSIDE, fields, nodes

FILE = Path(__file__).parents[2] / "manifests" / "base" / "crds" / "gpuattachments.podsla.io.yaml"
ROOT: Schema = gpu_attachment_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
NODES = dict(nodes(ROOT))


def attachment(spec: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """An object as it is read from the API server."""
    metadata = {"name": "eval", "namespace": "team-a", "uid": "u1", "resourceVersion": "7", "generation": 2}
    metadata["creationTimestamp"] = "2026-01-02T03:04:05Z"
    return {
        "apiVersion": "podsla.io/v1beta1",
        "kind": "GPUAttachment",
        "metadata": {**metadata, **more.pop("metadata", {})},
        "spec": {"podName": "eval-x7k2p", **(spec or {})},
        **more,
    }


def test_the_file_in_manifests_is_the_one_that_the_schema_makes() -> None:
    assert FILE.read_text() == render_documents([gpu_attachment_crd()]), "run `make manifests`"


def test_the_crd_has_the_fields_of_the_schema_and_no_other() -> None:
    written = {path for path in NODES if path.startswith("spec")}
    assert written == set(dict(fields(one(SPEC), "spec")))


@pytest.mark.parametrize("path", NODES)
def test_every_node_is_structural_and_every_field_says_what_it_is(path: str) -> None:
    node = NODES[path]
    assert "type" in node
    assert not FORBIDDEN_INSIDE & node.keys()
    if path and not path.endswith("[]") and path not in ("apiVersion", "kind", "metadata"):
        assert node["description"].endswith((".", "…."))


def test_every_field_of_the_spec_is_settled_but_two() -> None:
    rules = {rule["fieldPath"].lstrip("."): rule["rule"] for rule in NODES["spec"]["x-kubernetes-validations"]}
    assert set(SPEC) - set(rules) == MUTABLE - {"release"}
    assert rules["release"] == "!oldSelf.release || self.release"


def test_what_is_left_out_is_filled_in() -> None:
    read = parse_attachment(attachment())
    assert (read.spec.resource, read.spec.count, read.spec.models) == ("nvidia.com/gpu", 1, ())
    assert (read.spec.lease_s, read.spec.grace_s, read.spec.policy, read.spec.ttl_s) == (900, 30, Policy.WAIT, 86400)
    assert (read.spec.pod_uid, read.spec.container, read.spec.renew_time_s, read.spec.release) == ("", "", None, False)
    assert (read.deleting, read.finalized, read.owned, read.force, read.is_finished) == (False,) * 5
    assert (str(read), read.uid, read.version, read.generation) == ("team-a/eval", "u1", "7", 2)
    assert read.created_s == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


def test_what_stands_in_it_is_read() -> None:
    spec = {
        "podUID": "p1",
        "container": "worker",
        "renewTime": "2026-01-02T03:04:05.123456Z",
        "detachPolicy": "Terminate",
    }
    metadata = {
        "finalizers": ["podsla.io/gpu-attachment"],
        "annotations": {"podsla.io/force-release": "true"},
        "deletionTimestamp": "2026-01-02T04:00:00Z",
        "ownerReferences": [{"uid": "p1"}],
    }
    ended = {"type": "Released", "status": "True", "lastTransitionTime": "2026-01-02T05:00:00Z"}
    status = {
        "node": "n1",
        "placeholder": {"name": "podsla-gpu-0"},
        "devices": [{"uuid": "GPU-1"}],
        "leaseExpiresAt": "2026-01-02T03:19:05Z",
        "heldSeconds": 60,
        "conditions": [ended],
    }
    read = parse_attachment(attachment(spec, metadata=metadata, status=status))
    assert (read.spec.pod_uid, read.spec.container, read.spec.policy) == ("p1", "worker", Policy.TERMINATE)
    assert read.spec.renew_time_s == pytest.approx(datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC).timestamp())
    assert (read.deleting, read.finalized, read.owned, read.force, read.is_finished) == (True,) * 5
    assert (read.status.node, read.status.placeholder) == ("n1", Placeholder("podsla-gpu-0", ""))
    assert (read.status.devices, read.status.held_s) == (("GPU-1",), 60)
    assert read.finished_s == datetime(2026, 1, 2, 5, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"podName": None}, "spec.podName: is empty; give it a value or leave it out", id="no pod"),
        pytest.param({"podname": "x"}, "spec.podname: is not a field here; did you mean podName?", id="a typo"),
        pytest.param({"count": 17}, "spec.count: is 17; write 16 or less", id="too many"),
        pytest.param({"count": "2"}, "spec.count: must be a whole number, and is '2'", id="no number"),
        pytest.param(
            {"leaseSeconds": -1},
            "spec.leaseSeconds: is -1; write 10 or more, or leave it out where the figure is not known",
            id="a negative lease",
        ),
        pytest.param(
            {"detachPolicy": "wait"},
            "spec.detachPolicy: cannot be 'wait'; did you mean Wait?",
            id="a policy in lower case",
        ),
        pytest.param(
            {"renewTime": "yesterday"},
            "spec.renewTime: 'yesterday' is no time; write it as 2027-03-01T12:00:00Z",
            id="no time",
        ),
        pytest.param(
            {"renewTime": "2026-13-01T00:00:00Z"},
            "spec.renewTime: '2026-13-01T00:00:00Z' is no time; write it as 2027-03-01T12:00:00Z",
            id="a month 13",
        ),
    ],
)
def test_a_slip_is_refused_by_its_field(spec: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidError) as refused:
        parse_attachment(attachment(spec))
    assert str(refused.value) == f"gpuattachment team-a/eval: {expected}"


def test_a_placeholder_has_one_name_and_two_attachments_have_two() -> None:
    assert placeholder_name("0b24e0a6-35ff-4a0f-9b0e-b6c4d0f6a1c3") == "podsla-gpu-2706a10a0d"
    assert placeholder_name("a") != placeholder_name("b")


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONDITIONS = st.lists(
    st.builds(Condition, st.sampled_from(Type), st.booleans(), st.sampled_from(["A", "B"]), st.text(max_size=3))
)


@given(first=CONDITIONS, second=CONDITIONS)
def test_conditions_are_merged_by_type_and_the_heaviest_stands_first(
    first: list[Condition], second: list[Condition]
) -> None:
    old = merge_conditions((), first, 1, NOW)
    later = NOW.replace(hour=4)
    new = {each["type"]: each for each in merge_conditions(old, second, 2, later)}
    before = {each["type"]: each for each in old}
    last = {each.kind: each for each in second}
    assert list(new) == [kind.value for kind in Type if kind.value in new]
    assert set(new) == {*before, *last}
    for kind, found in new.items():
        if kind not in last:
            assert found == before[kind]
            continue
        said = last[Type(kind)]
        assert (found["status"] == "True", found["reason"], found["message"]) == (said.true, said.reason, said.message)
        assert found["observedGeneration"] == 2
        if [each for each in second if each.kind == kind] == [said]:
            unchanged = kind in before and before[kind]["status"] == found["status"]
            assert found["lastTransitionTime"] == render_time((NOW if unchanged else later).timestamp())

"""AdmissionReview: what is read, what cannot be answered, and what an answer looks like."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from tests.builders import UID, pod, review
from webhook.review import Response, Review, ReviewError, dump_answer, parse_review, render_answer


def parse(document: Any) -> Review:
    return parse_review(json.dumps(document).encode())


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {**document, "request": {k: v for k, v in document["request"].items() if k != key}}


def test_every_field_of_a_request_is_read() -> None:
    read = parse(
        review(name="checkout", subResource="resize", operation="UPDATE", oldObject=pod("general"), dryRun=True)
    )

    assert read == Review(
        uid=UID,
        version="v1",
        operation="UPDATE",
        namespace="team-a",
        group="",
        resource="pods",
        subresource="resize",
        kind="Pod",
        name="checkout",
        object=pod(),
        old_object=pod("general"),
        dry_run=True,
    )


def test_a_pod_with_generate_name_and_no_namespace_takes_the_namespace_of_the_request() -> None:
    read = parse(review({"kind": "Pod", "metadata": {"generateName": "checkout-"}, "spec": {}}, name=""))

    assert (read.namespace, read.name) == ("team-a", "")


def test_a_request_without_namespace_takes_that_of_the_object() -> None:
    assert parse(without(review(), "namespace")).namespace == "team-a"


def test_on_delete_the_object_is_null() -> None:
    assert parse(review(operation="DELETE", object=None, oldObject=pod())).object == {}


AR = "send an AdmissionReview"
VERSIONS = "admission.k8s.io/v1 or admission.k8s.io/v1beta1"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"[1]", f"the body must be a JSON object, and is a list; {AR}", id="a list"),
        pytest.param(b"null", f"the body must be a JSON object, and is absent; {AR}", id="null"),
        pytest.param(
            b"{}", f"cannot answer None of None; {AR} of {VERSIONS}", id="an object that is no AdmissionReview"
        ),
        pytest.param(
            b'{"kind":"AdmissionReview","apiVersion":"v1","request":{"uid":"u"}}',
            f"cannot answer AdmissionReview of v1; {AR} of {VERSIONS}",
            id="a version without its group",
        ),
        pytest.param(
            b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v2","request":{"uid":"u"}}',
            f"cannot answer AdmissionReview of admission.k8s.io/v2; {AR} of {VERSIONS}",
            id="a version that is not known",
        ),
        pytest.param(
            b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}',
            "request must be a JSON object, and is absent",
            id="no request",
        ),
        pytest.param(
            b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{}}',
            "request.uid must be text, and is absent",
            id="no uid",
        ),
        pytest.param(
            b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":""}}',
            "request.uid must be text, and is empty",
            id="an empty uid",
        ),
        pytest.param(
            b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":7}}',
            "request.uid must be text, and is a number",
            id="a uid that is a number",
        ),
        pytest.param(
            b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","object":"pod"}}',
            "request.object must be a JSON object, and is text",
            id="an object that is text",
        ),
    ],
)
def test_what_cannot_be_answered_says_why(body: bytes, message: str) -> None:
    with pytest.raises(ReviewError) as raised:
        parse_review(body)

    assert (raised.value.status_code, raised.value.message) == (400, message)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half of it"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":"\\ud800"}', id="a lone surrogate"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', id="a byte order mark"),
        pytest.param(b'"\xff"', id="no UTF-8"),
        pytest.param(b"[" * 5000 + b"]" * 5000, id="5000 levels"),
        pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, id="5000 levels of objects"),
    ],
)
def test_what_is_no_json_is_refused_and_never_crashes(body: bytes) -> None:
    """Seen to fail with the parser of the standard library, which takes more than JSON."""
    with pytest.raises(ReviewError, match=r"^the body is not JSON \(character \d+\); send an AdmissionReview$"):
        parse_review(body)


def test_of_duplicate_keys_the_last_counts() -> None:
    body = b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"a","uid":"b"}}'

    assert parse_review(body).uid == "b"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_an_answer_has_the_version_and_uid_of_its_question(version: str) -> None:
    asked = parse(review(version=version))

    assert render_answer(asked, Response()) == {
        "apiVersion": f"admission.k8s.io/{version}",
        "kind": "AdmissionReview",
        "response": {"uid": UID, "allowed": True},
    }


def test_a_patch_comes_with_its_type_and_a_record_for_the_audit_log() -> None:
    operations = ({"op": "add", "path": "/metadata/labels", "value": {"podsla.io/size": "medium"}},)
    response = Response(
        patch=operations, warnings=("look\nhere\x07",), sla_class="net", size="medium", revision="sha256:1"
    )

    answer = render_answer(Review("u"), response)["response"]

    assert json.loads(b64decode(answer.pop("patch"))) == list(operations)
    assert answer == {
        "uid": "u",
        "allowed": True,
        "patchType": "JSONPatch",
        "warnings": ["look here"],
        "auditAnnotations": {"podsla-class": "net", "podsla-size": "medium", "podsla-revision": "sha256:1"},
    }


def test_a_refusal_carries_code_reason_and_message_and_never_a_patch() -> None:
    operations = ({"op": "remove", "path": "/spec"},)
    response = Response(allowed=False, patch=operations, reason="UnknownClass", message="no", revision="sha256:1")

    assert render_answer(Review("u"), response)["response"] == {
        "uid": "u",
        "allowed": False,
        "status": {"code": 403, "reason": "UnknownClass", "message": "no"},
        "auditAnnotations": {"podsla-revision": "sha256:1", "podsla-reason": "UnknownClass"},
    }


def test_warnings_and_messages_are_bounded() -> None:
    answer = render_answer(Review("u"), Response(allowed=False, message="m" * 9000, warnings=("w" * 500,)))["response"]

    assert [len(warning) for warning in answer["warnings"]] == [120]
    assert len(answer["status"]["message"]) == 4000


def test_every_recorded_review_is_read_whole_and_answered(shared_data: Path) -> None:
    """Nothing of a recorded object is lost on the way in, and each answer is a review of the same uid."""
    files = sorted((shared_data / "admission").rglob("*.json"))
    reviews = [document for document in map(wrapped, files) if document]
    assert len(reviews) > 60

    for document in reviews:
        read = parse(document)
        answer = json.loads(dump_answer(read, Response()))

        assert read.object == document["request"]["object"]
        assert answer["apiVersion"] == document["apiVersion"]
        assert answer["response"] == {"uid": document["request"]["uid"], "allowed": True}


def wrapped(file: Path) -> dict[str, Any] | None:
    """A recorded request as the review that it came in; None where the file holds something else."""
    document: dict[str, Any] = json.loads(file.read_bytes())
    if document.get("kind") == "AdmissionReview":
        return document
    if "uid" in document and "object" in document:
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": document}
    return None

"""The application over bytes, through Flask's test client: what a caller reads, whatever it sends."""

import json
import logging
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from flask.testing import FlaskClient

from tests.builders import TODAY, UID, container, pod, review, serving, template, workload
from tests.webhook.test_review import wrapped
from tests.webhook.test_server import TRACE_ID, TRACED
from webhook.app import MAX_REVIEW_BYTES, Environment, create_app
from webhook.metrics import MAX_CLASSES, PrometheusRecorder

SERVING = serving()
REVISION = SERVING.index.catalog.revision
JSON = {"Content-Type": "application/json"}
AR = "send an AdmissionReview"
VERSIONS = "admission.k8s.io/v1 or admission.k8s.io/v1beta1"
NO_JSON = f"the body is not JSON (character 0); {AR}"


def environment(**overrides: Any) -> Environment:
    ticks = count()
    defaults = Environment(
        serving=lambda: SERVING,
        namespace_labels=lambda name: {},
        recorder=PrometheusRecorder(),
        today=lambda: TODAY,
        clock=lambda: next(ticks) / 1000,
    )
    return replace(defaults, **overrides)


class ToTheEnd(FlaskClient):
    """Reads each answer whole and closes it, as a server does: then it is counted and logged."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        return super().open(*args, buffered=True, **kwargs)


def client(**overrides: Any) -> FlaskClient:
    app = create_app(environment(**overrides))
    app.test_client_class = ToTheEnd
    return app.test_client()


def ask(document: Mapping[str, Any], path: str = "/mutate", **overrides: Any) -> dict[str, Any]:
    """Send a review and give back the response half of the answer."""
    answer = client(**overrides).post(path, data=json.dumps(document), headers=JSON)
    assert (answer.status_code, answer.content_type) == (200, "application/json"), answer.text
    found: dict[str, Any] = answer.get_json()
    assert (found["apiVersion"], found["kind"]) == (document["apiVersion"], "AdmissionReview")
    assert found["response"]["uid"] == document["request"]["uid"]
    response: dict[str, Any] = found["response"]
    return response


def patched(found: Mapping[str, Any], response: Mapping[str, Any]) -> Any:
    operations = json.loads(b64decode(response["patch"])) if "patch" in response else []
    return jsonpatch.apply_patch(found, operations)


ENVELOPE = b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"'
PATHS = "/mutate, /validate, /templates, /mutate/defaulted, /livez, /readyz, /metrics"
NOWHERE = f"there is nothing at this path; there are {PATHS}"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "code", "message", "kind"),
    [
        pytest.param("POST", "/mutate", b"", JSON, 400, NO_JSON, "bad_review", id="row 1: an empty body"),
        pytest.param(
            "POST",
            "/validate",
            b"[]",
            JSON,
            400,
            f"the body must be a JSON object, and is a list; {AR}",
            "bad_review",
            id="row 1: not an object",
        ),
        pytest.param(
            "POST",
            "/mutate",
            ENVELOPE + b"}",
            JSON,
            400,
            "request must be a JSON object, and is absent",
            "bad_review",
            id="row 2: no request",
        ),
        pytest.param(
            "POST",
            "/templates",
            ENVELOPE + b',"request":{"uid":1}}',
            JSON,
            400,
            "request.uid must be text, and is a number",
            "bad_review",
            id="row 2: a uid that is no text",
        ),
        pytest.param(
            "POST",
            "/mutate",
            b'{"apiVersion":"admission.k8s.io/v2","kind":"AdmissionReview","request":{"uid":"u"}}',
            JSON,
            400,
            f"cannot answer AdmissionReview of admission.k8s.io/v2; {AR} of {VERSIONS}",
            "bad_review",
            id="row 3: an unknown version",
        ),
        pytest.param(
            "POST",
            "/mutate",
            b"{}",
            {"Content-Type": "text/yaml"},
            415,
            "the Content-Type must be application/json",
            "content_type",
            id="row 4: another content type",
        ),
        pytest.param(
            "POST", "/mutate", b"{}", {}, 415, "the Content-Type must be application/json", "content_type",
            id="row 4: no content type",
        ),
        pytest.param(
            "GET", "/mutate", b"", {}, 405, "this path does not take that method", "method", id="row 4: a GET"
        ),
        pytest.param(
            "OPTIONS", "/mutate", b"", {}, 405, "this path does not take that method", "method", id="row 4: OPTIONS"
        ),
        pytest.param("POST", "/", b"{}", JSON, 404, NOWHERE, "path", id="row 4: no path"),
        pytest.param("POST", "/mutate/", b"{}", JSON, 404, NOWHERE, "path", id="row 4: a slash too many"),
        pytest.param("POST", "//mutate", b"{}", JSON, 404, NOWHERE, "path", id="row 4: no redirect"),
        pytest.param(
            "POST",
            "/mutate",
            b" " * (MAX_REVIEW_BYTES + 1),
            JSON,
            413,
            "the body is larger than 7 MiB",
            "too_large",
            id="row 5: one byte too many",
        ),
        pytest.param(
            "POST",
            "/mutate",
            b"[" * 100_000,
            JSON,
            400,
            f"the body is not JSON (character 1025); {AR}",
            "bad_review",
            id="row 6: 100,000 levels",
        ),
    ],
)  # fmt: skip
def test_what_is_no_review_gets_a_short_text(
    method: str, path: str, body: bytes, headers: dict[str, str], code: int, message: str, kind: str
) -> None:
    """Seen to fail with each check taken out: a fault of ours, an answer to nothing, or another check's word."""
    recorder = PrometheusRecorder()
    answer = client(recorder=recorder).open(path, method=method, data=body, headers=headers)

    assert (answer.status_code, answer.text) == (code, f"{message}\n")
    assert answer.content_type == "text/plain; charset=utf-8"
    assert recorder.registry.get_sample_value("podsla_admission_errors_total", {"kind": kind}) == 1


def test_row_4_a_wrong_method_is_told_the_right_one() -> None:
    """Seen to fail without the header."""
    assert client().get("/mutate").headers["Allow"] == "POST"


def test_row_5_a_length_that_lies_is_refused_before_the_body_is_read() -> None:
    class Untouchable(BytesIO):
        def read(self, *_: Any) -> bytes:
            raise AssertionError("the body was read")

    lie = {"CONTENT_LENGTH": str(1 << 40)}
    answer = client().post("/mutate", input_stream=Untouchable(), environ_overrides=lie, headers=JSON)

    assert answer.status_code == 413


def test_row_5_a_body_of_exactly_the_limit_is_read() -> None:
    body = json.dumps(review()).encode()

    assert client().post("/mutate", data=body.ljust(MAX_REVIEW_BYTES), headers=JSON).status_code == 200


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param(pod(containers=[container(requests={"cpu": "deep"})]), "is not a quantity", id="a quantity"),
        pytest.param(pod("deep"), "the object nests too deep to be read", id="a class"),
    ],
)
def test_row_6_an_object_that_nests_deep_is_answered(found: dict[str, Any], message: str) -> None:
    """No API server sends one. Seen to fail where the end of Python's stack is not met: podsla takes the blame."""
    body = json.dumps(review(found)).replace('"deep"', "[" * 1000 + "]" * 1000)
    status = client().post("/mutate", data=body, headers=JSON).get_json()["response"]["status"]

    assert (status["code"], status["reason"]) == (422, "InvalidPod")
    assert message in status["message"]


def test_row_6_a_number_beyond_64_bits_somewhere_in_the_pod_changes_nothing() -> None:
    found = pod(futureField=2**70)

    assert patched(found, ask(review(found)))["spec"]["futureField"] == 2**70


def without_ours(found: Any) -> Any:
    """A pod less what `/mutate` writes for class net."""
    found = json.loads(json.dumps(found))
    found["metadata"]["annotations"].pop("podsla.io/record", None)
    found["metadata"].pop("labels", None)
    for each in found["spec"]["containers"]:
        each["resources"].get("requests", {}).pop("podsla.io/pps", None)
        each["resources"].get("limits", {}).pop("podsla.io/pps", None)
        if not each["resources"].get("limits"):
            each["resources"].pop("limits", None)
    return found


def test_row_7_fields_that_we_do_not_know_are_untouched() -> None:
    """Seen to fail where a container is written anew from the fields that are known."""
    fields: dict[str, Any] = {"restartPolicyRules": [{"action": "Restart"}], "resizePolicy": [{"resourceName": "cpu"}]}
    found = pod(
        containers=[container(requests={"cpu": "1"}, **fields)],
        metadata={"futureField": {"a/b~c": None}},
        schedulingGroup={"future": [1, 2.5, None, True]},
    )

    assert without_ours(patched(found, ask(review(found)))) == found


@pytest.mark.parametrize(
    "found",
    [
        pytest.param({"spec": {"containers": [{"name": "app"}]}}, id="no metadata"),
        pytest.param({"metadata": {}, "spec": {"containers": [{"name": "app"}]}}, id="empty metadata"),
        pytest.param(
            {
                "metadata": {"annotations": None, "labels": None},
                "spec": {"containers": [{"name": "app", "resources": None}]},
            },
            id="nulls for absent parts",
        ),
    ],
)
def test_row_8_missing_parents_are_made(found: dict[str, Any]) -> None:
    """Seen to fail where metadata is taken to be there."""
    document = review({"kind": "Pod", **found})
    response = ask(document, namespace_labels=lambda name: {"podsla.io/default-class": "net"})
    after = patched(document["request"]["object"], response)

    assert after["metadata"]["labels"] == {"podsla.io/size": "medium"}
    assert json.loads(after["metadata"]["annotations"]["podsla.io/record"])["class"] == "net"
    assert after["spec"]["containers"][0]["resources"]["requests"] == {"podsla.io/pps": "600k"}


def test_row_8_keys_are_escaped_as_json_pointers() -> None:
    """Seen to fail where keys are written as they are."""
    response = ask(review(pod(annotations={"team/a~b": "x"})))
    paths = [operation["path"] for operation in json.loads(b64decode(response["patch"]))]

    assert "/metadata/annotations/podsla.io~1record" in paths


@pytest.mark.parametrize(
    ("sla_class", "message"),
    [
        pytest.param("nett", "class 'nett' is in no catalogue; did you mean net?", id="a typo"),
        pytest.param("NET", "class 'NET' is in no catalogue; did you mean net?", id="the wrong case"),
    ],
)
def test_row_9_an_unknown_class_is_refused_with_those_that_exist(sla_class: str, message: str) -> None:
    """Seen to fail where such a pod is left alone."""
    assert ask(review(pod(sla_class))) == {
        "uid": UID,
        "allowed": False,
        "status": {"code": 403, "reason": "UnknownClass", "message": message},
        "auditAnnotations": {"podsla-revision": REVISION, "podsla-reason": "UnknownClass"},
    }


def test_row_9_an_empty_class_is_refused() -> None:
    """Seen to fail where an empty class counts as none."""
    response = ask(review(pod(None, annotations={"podsla.io/class": ""})))

    assert response["status"]["reason"] == "UnknownClass"


def test_row_9_a_pod_of_the_wrong_form_is_unprocessable() -> None:
    response = ask(review(pod(containers=[container(requests={"cpu": "lots"})])))

    assert response["status"] == {
        "code": 422,
        "reason": "InvalidPod",
        "message": "spec.containers[0]: resources.requests.cpu: 'lots' is not a quantity; write a number with an "
        "optional suffix, as 4, 1500M or 8Gi; the API server would refuse it too",
    }


def test_row_10_a_pod_with_generate_name_uses_the_namespace_of_the_request(caplog: pytest.LogCaptureFixture) -> None:
    """Seen to fail where only the pod's own namespace counts."""
    found = {"kind": "Pod", "metadata": {"generateName": "checkout-"}, "spec": {"containers": [{"name": "app"}]}}
    labels: dict[str, Mapping[str, str]] = {"team-a": {"podsla.io/default-class": "net"}}
    with caplog.at_level(logging.INFO, "webhook"):
        response = ask(review(found, name=""), namespace_labels=labels.get)

    assert response["auditAnnotations"]["podsla-size"] == "medium"
    assert fields_of(caplog) == {
        "uid": UID,
        "endpoint": "mutate",
        "outcome": "sized",
        "namespace": "team-a",
        "class": "net",
        "size": "medium",
        "duration_us": 1000,
    }


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        pytest.param(TRACED["traceparent"], TRACE_ID, id="as the API server writes it"),
        pytest.param(TRACED["traceparent"] + "-x", TRACE_ID, id="of a version to come, with more in it"),
        pytest.param(TRACED["traceparent"].upper(), None, id="not as W3C writes it"),
        pytest.param(TRACED["traceparent"] + "x", None, id="longer than it says"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_decision_is_logged_with_the_trace_of_its_call(
    traceparent: str, expected: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "webhook"):
        client().post("/mutate", data=json.dumps(review()), headers={**JSON, "traceparent": traceparent})

    assert fields_of(caplog).get("trace_id") == expected


def fields_of(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The fields of the one line that was logged."""
    [record] = caplog.records
    fields: dict[str, Any] = vars(record)["fields"]
    return fields


@pytest.mark.parametrize(
    "request_fields",
    [
        pytest.param({"operation": "DELETE", "object": None, "oldObject": pod()}, id="a deletion"),
        pytest.param({"operation": "UPDATE", "oldObject": pod()}, id="an update"),
        pytest.param({"operation": "CONNECT", "subResource": "exec", "object": {"kind": "PodExecOptions"}}, id="exec"),
        pytest.param({"resource": {"group": "apps", "resource": "deployments"}}, id="another resource"),
        pytest.param({"resource": {"group": "metrics.k8s.io", "resource": "pods"}}, id="pods of another group"),
        *(
            pytest.param({"subResource": name}, id=name)
            for name in ("status", "ephemeralcontainers", "resize", "binding", "eviction")
        ),
    ],
)
def test_row_11_what_is_no_new_pod_is_allowed_without_patch(request_fields: dict[str, Any]) -> None:
    """Seen to fail where everything is taken for a new pod."""
    assert ask(review(**request_fields)) == {"uid": UID, "allowed": True}


def test_row_12_a_pod_that_was_mutated_is_answered_with_an_empty_patch() -> None:
    """Seen to fail where no record is believed: the record is written anew."""
    once = patched(pod(), ask(review()))

    assert "patch" not in ask(review(once, uid="another"))


def test_row_16_a_dry_run_is_answered_as_the_real_one() -> None:
    """Seen to fail where a dry run is left alone."""
    assert ask(review(dryRun=True)) == ask(review())


def test_v1beta1_is_answered_as_v1beta1() -> None:
    """Seen to fail where every answer is of v1."""
    assert ask(review(version="v1beta1"))["allowed"]


def test_row_17_without_a_catalogue_nothing_is_decided_and_the_caller_is_told_to_come_again() -> None:
    """Seen to fail where it is not looked whether one is there: pods are denied, and nobody comes again."""
    recorder = PrometheusRecorder()
    waiting = client(serving=lambda: None, recorder=recorder)
    answers = [waiting.post("/mutate", data=json.dumps(review()), headers=JSON), waiting.get("/readyz")]

    assert [(a.status_code, a.headers["Retry-After"], a.text) for a in answers] == [
        (503, "1", "no catalogue is served yet; try again\n"),
        (503, "1", "no catalogue is served yet\n"),
    ]
    assert recorder.registry.get_sample_value("podsla_admission_errors_total", {"kind": "not_ready"}) == 1
    assert waiting.get("/livez").text == "ok\n"
    assert client().get("/readyz").text == "ok\n"


def test_a_namespace_that_is_not_known_yet_is_asked_for_again_rather_than_guessed() -> None:
    answer = client(namespace_labels=lambda name: None).post("/mutate", data=json.dumps(review()), headers=JSON)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.text == "namespace 'team-a' is not known here yet; try again\n"


def fail(*_: Any) -> Any:
    raise KeyError("a secret of the pod")


FAILED = (
    "podsla failed on this review (KeyError), which is a fault of podsla, not of the object; "
    f"look for uid {UID} in the log of podsla webhook"
)


@pytest.mark.parametrize("port", ["serving", "namespace_labels", "today"])
@pytest.mark.parametrize("path", ["/mutate", "/validate"])
def test_row_19_an_exception_is_a_well_formed_denial_and_the_process_lives(
    path: str, port: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen to fail where the exception goes up to Flask: 500, which is no review."""
    recorder = PrometheusRecorder()
    with caplog.at_level(logging.ERROR, "webhook"):
        response = ask(review(), path, recorder=recorder, **{port: fail})

    assert response["allowed"] is False
    assert response["status"] == {"code": 500, "reason": "InternalError", "message": FAILED}
    assert recorder.registry.get_sample_value("podsla_admission_errors_total", {"kind": "exception"}) == 1
    fields = fields_of(caplog)
    assert fields.pop("at").startswith("test_app.py:")
    assert fields == {"uid": UID, "endpoint": path[1:], "exception": "KeyError"}
    assert "secret" not in caplog.text


def test_row_19_an_exception_over_a_template_says_so_and_lets_it_pass() -> None:
    response = ask(review(workload()), "/templates", today=fail)

    assert response["allowed"]
    assert response["warnings"][0].startswith("podsla failed (KeyError) and said nothing of these pods; look for uid")


def test_an_exception_outside_a_review_is_a_short_text() -> None:
    answer = client(serving=fail).get("/readyz")

    assert (answer.status_code, answer.text) == (500, "podsla failed; its log says where\n")


def test_templates_and_validate_have_their_routes() -> None:
    assert ask(review(workload(template=template("nett"))), "/templates")["warnings"]
    assert ask(review(), "/validate")["status"]["reason"] == "NotSized"


def test_metrics_say_what_was_answered_and_what_is_served() -> None:
    asked = client()
    for found in (pod(), pod("nett"), pod(None)):
        asked.post("/mutate", data=json.dumps(review(found)), headers=JSON)
    asked.post("/templates", data=json.dumps(review(workload(template=template("nett")))), headers=JSON)
    answer = asked.get("/metrics")

    assert answer.content_type.startswith("text/plain; version=0.0.4")
    lines = set(answer.text.splitlines())
    assert lines >= {
        'podsla_admission_requests_total{endpoint="mutate",outcome="sized"} 1.0',
        'podsla_admission_requests_total{endpoint="mutate",outcome="refused"} 1.0',
        'podsla_admission_requests_total{endpoint="mutate",outcome="ignored"} 1.0',
        'podsla_admission_requests_total{endpoint="templates",outcome="warned"} 1.0',
        'podsla_admission_refusals_total{reason="UnknownClass",sla_class=""} 1.0',
        'podsla_admission_duration_seconds_count{endpoint="mutate",outcome="sized"} 1.0',
        f'podsla_catalog_info{{revision="{REVISION}"}} 1.0',
        "podsla_catalog_sizes 3.0",
        "podsla_catalog_classes 3.0",
    }


def test_metrics_say_what_is_written_and_who_comes_again() -> None:
    """A refusal and a pod of no class change nothing; a pod that was sized before comes again, and is as it was."""
    asked = client()
    once = asked.post("/mutate", data=json.dumps(review()), headers=JSON)
    for found in (pod("nett"), pod(None), patched(pod(), once.get_json()["response"])):
        asked.post("/mutate", data=json.dumps(review(found)), headers=JSON)
    lines = set(asked.get("/metrics").text.splitlines())

    assert f"podsla_admission_patched_bytes_total {float(len(once.data))}" in lines
    assert "podsla_admission_reinvocations_total 1.0" in lines


def test_the_age_of_what_is_served_counts_from_when_it_is_shown_first() -> None:
    recorder = PrometheusRecorder()

    def since() -> float:
        recorder.expose(SERVING.index)
        return recorder.registry.get_sample_value("podsla_catalog_since_timestamp_seconds") or 0.0

    first = since()
    assert first > 0
    assert since() == first
    other = replace(SERVING.index, catalog=replace(SERVING.index.catalog, revision="sha256:other"))
    recorder.expose(other)
    assert since() > first


def test_metrics_have_one_revision_and_no_label_from_outside() -> None:
    """Seen to fail where labels are taken as they come."""
    recorder = PrometheusRecorder()
    recorder.expose(SERVING.index)
    recorder.answered("/etc/passwd", "x", "y", 0.1)
    recorder.answered("mutate", "refused", "a class that a user made up", 0.1)
    recorder.failed("z")
    text = recorder.expose(None).decode()

    assert "passwd" not in text
    assert "made up" not in text
    assert 'podsla_admission_refusals_total{reason="other",sla_class=""} 1.0' in text
    assert "podsla_catalog_info{" not in text


def test_row_31_classes_that_users_make_up_are_no_series() -> None:
    """
    A class is a label only if it is served; of those that come and go, the first hundred are.

    Seen to fail without the bound, and where any class that a pod names is a label.
    """
    asked = client()
    for sla_class in ("nett", "x" * 63, "net"):
        found = pod(sla_class)
        found["metadata"]["annotations"]["podsla.io/unknown"] = "x"
        asked.post("/mutate", data=json.dumps(review(found)), headers=JSON)
    assert 'podsla_admission_refusals_total{reason="UnknownKey",sla_class=""} 2.0' in asked.get("/metrics").text
    assert 'podsla_admission_refusals_total{reason="UnknownKey",sla_class="net"} 1.0' in asked.get("/metrics").text

    recorder = PrometheusRecorder()
    for number in range(1_000):
        recorder.answered("mutate", "refused", "NoSizeFits", 0.1, f"class-{number}")
    series = [line for line in recorder.expose(None).decode().splitlines() if "refusals_total{" in line]
    assert len(series) == MAX_CLASSES + 1
    assert 'podsla_admission_refusals_total{reason="NoSizeFits",sla_class="other"} 900.0' in series


def of_class(document: dict[str, Any], sla_class: str) -> dict[str, Any]:
    """The same recorded review, its object naming a class where the object is a pod."""
    found = json.loads(json.dumps(document))
    metadata = found["request"]["object"].setdefault("metadata", {})
    metadata["annotations"] = {**(metadata.get("annotations") or {}), "podsla.io/class": sla_class}
    return dict(found)


@pytest.mark.parametrize("path", ["/mutate", "/validate", "/templates"])
def test_every_recorded_review_is_answered_well_formed(path: str, shared_data: Path) -> None:
    for file in sorted((shared_data / "admission").rglob("*.json")):
        document = wrapped(file)
        if document:
            assert ask(document, path)["allowed"], file.name


def test_every_recorded_pod_is_sized_and_nothing_of_it_is_lost(shared_data: Path) -> None:
    """The patch applies, and takes nothing away that the pod came with."""
    sized = 0
    for file in sorted((shared_data / "admission" / "requests").glob("*.json")):
        document = wrapped(file)
        if document is None or document["request"].get("resource", {}).get("resource") != "pods":
            continue
        before = of_class(document, "general")["request"]["object"]
        response = ask(of_class(document, "general"))
        after = patched(before, response)

        assert "podsla-size" in response["auditAnnotations"], file.name
        assert lost(before, after) == [], file.name
        sized += 1
    assert sized > 30


def lost(before: Any, after: Any, path: str = "") -> list[str]:
    """Name what *before* has and *after* has not, or has otherwise."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [p for key, value in before.items() for p in lost(value, after.get(key), f"{path}/{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) <= len(after):
        return [p for i, value in enumerate(before) for p in lost(value, after[i], f"{path}/{i}")]
    return [] if before == after else [path]


def test_an_answer_is_on_its_way_before_it_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for either."""
    caplog.set_level(logging.INFO)
    recorder = PrometheusRecorder()
    app = create_app(environment(recorder=recorder))

    answer = app.test_client().post("/mutate", data=json.dumps(review()), headers=JSON)

    assert answer.get_json()["response"]["allowed"]
    assert [record.message for record in caplog.records] == []
    answer.close()
    assert [record.message for record in caplog.records] == ["decided"]

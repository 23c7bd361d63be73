"""What a review is answered straight away is what Flask answers it, byte for byte; all else is left to Flask."""

import gc
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from flask import Flask

from tests.builders import catalog_text, container, pod, review, workload
from tests.webhook.test_app import environment, of_class
from tests.webhook.test_review import wrapped
from tests.webhook.test_server import TRACED
from webhook.app import DEFAULTED, JSON, JUDGES, MAX_REVIEW_BYTES, create_app, direct
from webhook.metrics import PrometheusRecorder
from webhook.server import Settings, Source
from webhook.wsgi import Answered, answered, call, environ_of

PATHS: Final = [f"/{name}" for name in (*JUDGES, DEFAULTED)]
LABELS: Final = {"podsla.io/default-class": "net"}
TOO_MUCH: Final = pod("net", containers=[container(requests={"cpu": "9000"})])
REVIEWS: Final = {
    "a pod that is sized": review(pod("net")),
    "a pod that is refused": review(TOO_MUCH),
    "a pod of no class": review(pod(None)),
    "a pod of a class that nobody has": review(pod("nët")),
    "no pod at all": review({"kind": "ConfigMap"}),
    "a deletion": review(pod("net"), operation="DELETE"),
    "a template": review(workload("Deployment")),
}
ODD: Final = {
    "an empty body": ("POST", "/mutate", JSON, b"", 0),
    "no JSON": ("POST", "/mutate", JSON, b"{", 1),
    "no uid": ("POST", "/validate", JSON, b'{"apiVersion":"admission.k8s.io/v1","request":{}}', 49),
    "another Content-Type": ("POST", "/mutate", "text/plain", json.dumps(review(pod("net"))).encode(), 9),
    "a charset": ("POST", "/mutate", "application/json; charset=utf-8", json.dumps(review(pod("net"))).encode(), 9),
    "another method": ("PUT", "/mutate", JSON, json.dumps(review(pod("net"))).encode(), 9),
    "another path": ("POST", "/mutate/", JSON, b"{}", 2),
    "a probe": ("GET", "/livez", "", b"", 0),
    "too much": ("POST", "/mutate", JSON, b"", MAX_REVIEW_BYTES + 1),
}


def app_and_recorder(**overrides: Any) -> tuple[Flask, PrometheusRecorder]:
    recorder = PrometheusRecorder()
    settings = {"namespace_labels": lambda _: LABELS, **overrides}
    return create_app(environment(recorder=recorder, **settings)), recorder


def scope(method: str, path: str, content_type: str) -> Any:
    headers = {"content-type": content_type, **TRACED}
    return SimpleNamespace(method=method, path=path, query_string="timeout=5s", headers=headers, scheme="https")


def said(answer: Answered, recorder: PrometheusRecorder, caplog: pytest.LogCaptureFixture) -> Mapping[str, object]:
    """All that anybody ever learns of a call: its answer, what is counted, what is logged."""
    caplog.clear()
    answer.close()
    logged = [(line.message, getattr(line, "fields", None)) for line in caplog.records]
    counted = [
        line for line in recorder.expose(None).decode().splitlines() if "_created" not in line
    ]  # the time of day
    return {"answer": answer[:3], "counted": counted, "logged": logged}


def nobody_knows() -> Any:
    raise OSError("what day is it")


def compare(sent: tuple[str, str, str, bytes, int], caplog: pytest.LogCaptureFixture, **overrides: Any) -> Answered:
    """Send the same to two applications, to one of them through Flask alone."""
    caplog.set_level(logging.INFO)
    method, path, content_type, body, length = sent
    (fast, counted), (flask, counted_too) = app_and_recorder(**overrides), app_and_recorder(**overrides)
    asked = scope(method, path, content_type)
    ours = answered(fast, asked, body, length)
    theirs = call(flask, environ_of(asked, body, length))

    assert said(ours, counted, caplog) == said(theirs, counted_too, caplog)
    return ours


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("document", REVIEWS.values(), ids=REVIEWS)
def test_a_review_is_answered_counted_and_logged_as_flask_does(
    document: Mapping[str, Any], path: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps(document).encode()

    assert direct(app_and_recorder()[0], "POST", path, JSON, body) is not None, "Flask is not asked"
    assert compare(("POST", path, JSON, body, len(body)), caplog).status == 200


@pytest.mark.parametrize("sent", ODD.values(), ids=ODD)
def test_what_is_no_review_is_left_to_flask(
    sent: tuple[str, str, str, bytes, int], caplog: pytest.LogCaptureFixture
) -> None:
    compare(sent, caplog)


def test_a_fault_of_ours_is_told_as_flask_tells_it(caplog: pytest.LogCaptureFixture) -> None:
    body = json.dumps(review(pod("net"))).encode()
    answer = compare(("POST", "/mutate", JSON, body, len(body)), caplog, today=nobody_knows)

    assert b"InternalError" in answer.body


@pytest.mark.parametrize(
    "overrides", [{"serving": lambda: None}, {"namespace_labels": lambda _: None}], ids=lambda one: next(iter(one))
)
def test_who_has_to_come_again_is_told_so(overrides: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    body = json.dumps(review(pod("net"))).encode()

    assert compare(("POST", "/mutate", JSON, body, len(body)), caplog, **overrides).status == 503


def test_every_recorded_review_is_answered_as_flask_does(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    for file in sorted((shared_data / "admission" / "requests").glob("*.json")):
        document = wrapped(file)
        if document is not None:
            body = json.dumps(of_class(document, "net")).encode()
            compare(("POST", "/mutate", JSON, body, len(body)), caplog)


def test_the_garbage_collector_leaves_a_catalogue_alone_that_is_served(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text(catalog_text())
    source = Source(Settings((tmp_path,)))
    gc.unfreeze()
    try:
        source.make_app()
        seen = {id(thing) for thing in gc.get_objects()}
        sizes = source.loaded.serving.index.catalog.sizes
        assert not [size.name for size in sizes if id(size) in seen]
    finally:
        gc.unfreeze()

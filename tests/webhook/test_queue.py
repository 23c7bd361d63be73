"""A call that waited in the worker: whether anybody still wants its answer."""

import asyncio
import multiprocessing
from types import SimpleNamespace
from typing import Any

import pytest

from tests.webhook.test_app import environment
from tests.webhook.test_server import body_of
from webhook.app import JSON, create_app
from webhook.handover import Worker
from webhook.metrics import PrometheusRecorder
from webhook.queue import patience_s
from webhook.server import Bridge, Listen


class Caller:
    """Sends its body in one piece, which is there by the time that it is looked for, and keeps the answer."""

    def __init__(self, body: bytes) -> None:
        self.body, self.status, self.headers, self.said = body, 0, dict[str, str](), b""

    async def __call__(self) -> bytes:
        return self.body

    def response_bytes(self, status: int, headers: list[tuple[str, str]], said: bytes) -> None:
        self.status, self.headers, self.said = status, dict(headers), said


def sent(query: str) -> tuple[Caller, PrometheusRecorder]:
    caller, recorder = Caller(body_of()), PrometheusRecorder()
    headers = {"content-type": JSON, "content-length": str(len(caller.body))}
    scope: Any = SimpleNamespace(method="POST", path="/mutate", query_string=query, headers=headers, scheme="https")
    bridge = Bridge(create_app(environment(recorder=recorder)), Listen(), Worker(0, multiprocessing.Event()))
    asyncio.run(bridge.__rsgi__(scope, caller))
    return caller, recorder


def test_row_20_a_call_that_waited_for_longer_than_its_caller_does_is_not_decided() -> None:
    """As after calls that took long. Seen to fail where the time is not looked at: the pod is decided, for nobody."""
    caller, recorder = sent("timeout=0s")

    assert (caller.status, caller.headers["retry-after"]) == (503, "1")
    assert caller.said == b"the call waited here for longer than its caller does; try again\n"
    assert recorder.registry.get_sample_value("podsla_admission_errors_total", {"kind": "too_late"}) == 1
    assert sent("timeout=5s")[0].status == 200


@pytest.mark.parametrize(
    ("query", "expected_s"),
    [
        pytest.param("timeout=5s", 5.0, id="as the API server writes it"),
        pytest.param("a=b&timeout=3s&c=d", 3.0, id="among others"),
        pytest.param("timeout=30s", 10.0, id="no longer than the server's own"),
        pytest.param("", 10.0, id="none is stated"),
        pytest.param("timeout=5", 10.0, id="not as the API server writes it"),
        pytest.param("mytimeout=5s", 10.0, id="another parameter"),
    ],
)
def test_patience(query: str, expected_s: float) -> None:
    assert patience_s(query, most_s=10.0) == expected_s

"""Pauses between tries, and streams that hold what nobody can read, or break."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from kube.api import Object
from kube.kinds import PODS
from kube.watch import BRIEF_S, _Source, _Stream, pause_s


@pytest.mark.parametrize(
    ("failures", "expected_s"),
    [
        pytest.param(0, 0.0, id="no failure: at once"),
        pytest.param(1, 0.5, id="first failure"),
        pytest.param(4, 4.0, id="doubles each time"),
        pytest.param(7, 30.0, id="never longer than half a minute"),
        pytest.param(10_000, 30.0, id="not even after a week"),
    ],
)
def test_pause(failures: int, expected_s: float) -> None:
    assert pause_s(failures) == expected_s


class Waits:
    """How long it was waited, without waiting."""

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.waited_s.append(seconds)
        return False


def test_replicas_that_failed_together_do_not_come_again_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail where a pause has no chance in it."""
    of, waits = source(), Waits()
    monkeypatch.setattr(of, "stopped", waits)
    monkeypatch.setattr(of, "_list", lambda: None)
    of.failures = 4
    for _ in range(100):
        of.read()

    assert all(pause_s(4) / 2 <= seconds <= pause_s(4) * 3 / 2 for seconds in waits.waited_s)
    assert max(waits.waited_s) - min(waits.waited_s) > pause_s(4) / 2


class Response:
    """A stream of events that ends as it is told to."""

    status, connection = 200, None

    def __init__(self, *names: str, error: Exception | None = None) -> None:
        self.names, self.error = names, error

    def stream(self, **_: Any) -> Iterator[bytes]:
        for name in self.names:
            yield orjson.dumps({"type": "ADDED", "object": {"metadata": {"name": name, "uid": "u", "labels": {}}}})
            yield b"\n"
        if self.error:
            raise self.error


def name_only(thing: Object) -> Object:
    if thing["metadata"]["name"] == "huge":
        return {"metadata": thing["metadata"], "figure": 2**70}
    if thing["metadata"]["name"] == "odd":
        raise KeyError("spec")
    return {"metadata": {"name": thing["metadata"]["name"]}}


def source() -> _Source:
    return _Source(None, PODS, "", {}, name_only)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["odd", "huge"])
def test_an_object_that_cannot_be_read_holds_up_no_other(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Were the stream to end there, the same event would come first in every later one."""
    events = [orjson.loads(line)["object"] for line in _Stream(Response("a", name, "b"), source()).stream()]
    assert events == [
        {"metadata": {"name": "a"}},
        {"metadata": {"name": name, "uid": "u"}},
        {"metadata": {"name": "b"}},
    ]
    assert "cannot read an object" in caplog.text


@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["ended", "broken"])
@pytest.mark.parametrize(("lasted_s", "failures"), [(0.0, 3), (BRIEF_S, 0)], ids=["at once", "after a while"])
def test_a_stream_that_ends_at_once_is_a_failure_and_one_that_lasted_is_none(
    lasted_s: float, failures: int, error: Exception | None
) -> None:
    """Seen to fail where a stream that was opened counts as a success: it would be opened again at once, for ever."""
    of = source()
    of.failures = 2
    stream = _Stream(Response("a", error=error), of)
    stream.opened_s -= lasted_s
    try:
        list(stream.stream())
    except ConnectionResetError:
        assert error is not None
    assert of.failures == failures

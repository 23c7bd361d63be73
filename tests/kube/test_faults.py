"""A watch whose API server, over a real connection, ends it badly or says nothing: everything is listed afresh."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes.client import ApiClient, Configuration

import kube.watch
from kube.api import Api
from kube.kinds import CONFIG_MAPS
from kube.watch import Watched
from tests.answering import JsonHandler
from tests.waiting import eventually

pytestmark = pytest.mark.wire

SILENCE_S: Final = 1.0  # here, instead of more than the minute after which an API server sends a bookmark
HOLD_S: Final = 20.0
RESTORED: Final = "503, then another history that is as long by now"


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}


GONE: Final = status(410, "Expired", "too old resource version: 1 (7)")
AWAY: Final = status(503, "ServiceUnavailable", "it starts")
AHEAD: Final = status(504, "Timeout", "Too large resource version: 9, current: 7")


class FakeApiServer(ThreadingHTTPServer):
    """
    Lists what there is, and tells whoever watches what happened since; the first watch meets a fault.

    Attributes:
        names: Of the objects that there are.
        lists, watches: How many there were.
        waited_in_vain: The first watch was held to its end.
    """

    daemon_threads = True

    def __init__(self, fault: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault, self.names, self.version = fault, ["a", "gone"], 9
        self.lists, self.watches, self.waited_in_vain = 0, 0, False
        self.struck, self.ended = threading.Event(), threading.Event()

    def change(self) -> None:
        """One object comes and one goes; then the watch that is open meets its fault."""
        self.names = ["a", "new"]
        self.version = 7 if self.fault.startswith("504") else 11  # etcd was restored from a backup
        self.struck.set()

    def refusal(self, since: int) -> dict[str, Any] | None:
        """Say why nobody may watch from there."""
        if self.fault == RESTORED and self.watches == 2:
            return AWAY
        if since > self.version:
            return AHEAD
        return GONE if self.fault.startswith("410") and since < self.version else None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of our business."""


class Handler(JsonHandler, BaseHTTPRequestHandler):
    server: FakeApiServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server, query = self.server, parse_qs(urlsplit(self.path).query)
        if "watch" in query:
            server.watches += 1
            self.watch(int(query["resourceVersion"][0]), first=server.watches == 1)
            return
        server.lists += 1
        items = [{"metadata": {"name": name, "namespace": "x", "uid": name}} for name in server.names]
        head = {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": str(server.version)}}
        self.answer(200, {**head, "items": items})

    def watch(self, since: int, *, first: bool) -> None:
        server = self.server
        refusal = server.refusal(since)
        if refusal is not None:
            self.answer(refusal["code"], refusal)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        if server.fault == "silence, then closed":
            self.send_header("Connection", "close")
        self.end_headers()
        if first:
            server.waited_in_vain = not server.struck.wait(HOLD_S)
            self.meet(server.fault)
        elif since < server.version and server.fault != RESTORED:
            self.event("DELETED", "gone")
            self.event("ADDED", "new")
        server.ended.wait(HOLD_S)

    def meet(self, fault: str) -> None:
        match fault:
            case "410" | "504":
                self.event("ERROR", GONE if fault == "410" else AHEAD)
            case "garbage":
                self.chunk(b"<html>a proxy\n")
            case "half a line":
                self.chunk(b'{"type": "ADDED", "obj')
        if not fault.startswith("silence"):
            self.connection.shutdown(socket.SHUT_RDWR)

    def event(self, kind: str, about: str | dict[str, Any]) -> None:
        thing = about
        if isinstance(about, str):
            metadata = {"name": about, "namespace": "x", "uid": about, "resourceVersion": "11"}
            thing = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata}
        self.chunk(json.dumps({"type": kind, "object": thing}).encode() + b"\n")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[FakeApiServer]:
    with FakeApiServer(request.param) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.ended.set()
        made.struck.set()
        made.shutdown()
        thread.join()


def connected(server: FakeApiServer) -> Api:
    configuration = Configuration(host=f"http://127.0.0.1:{server.server_port}")
    configuration.retries = False
    return Api(ApiClient(configuration))


FAULTS: Final = (
    "silence",
    "410",
    "504",
    "garbage",
    "half a line",
    "an end",
    "410 when it comes again",
    "504 when it comes again",
    RESTORED,
)


@pytest.mark.parametrize("server", FAULTS, indirect=True, ids=lambda fault: fault)
def test_row_28_whatever_ends_a_watch_what_was_missed_is_seen(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What is known still is told by the next watch; else all is listed, and compared with what was there.

    Seen to fail where silence is borne for an hour, where a 504 is not taken for a 410, and where what was away is
    taken up where it was left.
    """
    monkeypatch.setattr(kube.watch, "SILENCE_S", SILENCE_S)
    watched = Watched(connected(server), CONFIG_MAPS, namespace="x").start()
    try:
        eventually(lambda: server.watches == 1, "it is watched")
        assert names(watched) == ["a", "gone"]
        began_s = time.monotonic()
        server.change()
        eventually(lambda: names(watched) == ["a", "new"], "what was missed is seen", HOLD_S / 2)
        assert server.watches + server.lists < 4 + (time.monotonic() - began_s) / 0.5, (
            "it asks after a pause, each time"
        )
    finally:
        server.ended.set()
        watched.stop()


@pytest.mark.parametrize("server", ["silence", "silence, then closed"], indirect=True, ids=lambda fault: fault)
def test_who_stops_waits_for_no_event(server: FakeApiServer) -> None:
    """Whether the connection is to be used again, or is the answer's alone."""
    before = set(threading.enumerate())
    watched = Watched(connected(server), CONFIG_MAPS, namespace="x").start()
    eventually(lambda: server.watches == 1, "it is watched")
    (own,) = (thread for thread in set(threading.enumerate()) - before if "informer" in thread.name.lower())
    watched.stop()
    eventually(lambda: not own.is_alive(), "its thread ends")
    assert not server.waited_in_vain, "it ended when its API server ended the watch"


def names(watched: Watched) -> list[str]:
    return sorted(thing["metadata"]["name"] for thing in watched.items())

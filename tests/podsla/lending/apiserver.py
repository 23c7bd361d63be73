"""
A fake API server for GPUAttachments: creates, reads, merges patches, watches; over TLS, to whoever has the token.

It holds state and records nothing. Faults: `fail` answers with an error, `lose` loses answers, `drop_watches`.
"""

import base64
import json
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from podsla.gpu import GROUP
from tests.answering import JsonHandler
from tests.waiting import eventually
from webhook.certificate import issue_ca, issue_leaf

WATCH_S = 20.0


class FakeApiServer(ThreadingHTTPServer):
    """
    Attributes:
        token: Which is let in.
        objects: Attachments by name.
        fail: Status and reason of the next answers to a method, in order.
        lose: So many answers to POST are lost after the object was made.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token, self.folder = "first", folder
        self.objects: dict[str, dict[str, Any]] = {}
        self.fail: dict[str, list[tuple[int, str]]] = {}
        self.lose = 0
        self.version = 1
        self.dropped = 0
        self.changed = threading.Condition()
        ca = issue_ca(datetime.now(UTC))
        leaf = issue_leaf(ca, ["127.0.0.1"], datetime.now(UTC))
        (folder / "ca.crt").write_bytes(ca.cert_pem)
        (folder / "namespace").write_text("team-a")
        (folder / "leaf.pem").write_bytes(leaf.cert_pem + leaf.key_pem)
        self.let_in(self.token)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "leaf.pem")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of our business."""

    def let_in(self, token: str) -> None:
        """Let in another token from now on, as the kubelet projects it."""
        (self.folder / "token").write_text(token)
        self.token = token

    def only(self) -> dict[str, Any]:
        """The one attachment there is."""
        with self.changed:
            (one,) = self.objects.values()
            return one

    def put(self, thing: dict[str, Any]) -> dict[str, Any]:
        """Store a new version, and tell those who watch."""
        with self.changed:
            self.version += 1
            stored: dict[str, Any] = json.loads(json.dumps(thing))
            stored["metadata"]["resourceVersion"] = str(self.version)
            self.objects[stored["metadata"]["name"]] = stored
            self.changed.notify_all()
            return stored

    def drop_watches(self) -> None:
        """End every watch, as a server that goes away."""
        with self.changed:
            self.dropped += 1
            self.changed.notify_all()

    def delete(self, name: str) -> None:
        """Delete it at once."""
        with self.changed:
            del self.objects[name]
            self.changed.notify_all()


class _Handler(JsonHandler, BaseHTTPRequestHandler):
    @property
    def store(self) -> FakeApiServer:
        return cast(FakeApiServer, self.server)

    def _refuse(self, status: int, reason: str) -> None:
        self.answer(status, {"kind": "Status", "reason": reason, "message": f"{reason} for {self.path}"})

    def _stopped(self) -> bool:
        if self.headers.get("Authorization") != f"Bearer {self.store.token}":
            self._refuse(401, "Unauthorized")
            return True
        if waiting := self.store.fail.get(self.command):
            self._refuse(*waiting.pop(0))
            return True
        return False

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _name(self) -> str:
        root = f"/apis/{GROUP}/namespaces/team-a/gpuattachments"
        assert self.path.startswith(root), self.path
        return self.path.removeprefix(root).partition("?")[0].removesuffix("/status").strip("/")

    def do_POST(self) -> None:
        if self._stopped():
            return
        thing = self._body()
        if thing["metadata"]["name"] in self.store.objects:
            self._refuse(409, "AlreadyExists")
            return
        thing["metadata"]["uid"] = str(uuid.uuid4())
        stored = self.store.put(thing)
        if self.store.lose:
            self.store.lose -= 1
            self.connection.close()
            return
        self.answer(201, stored)

    def do_PATCH(self) -> None:
        if self._stopped():
            return
        with self.store.changed:
            thing = self.store.objects.get(self._name())
            if thing is None:
                self._refuse(404, "NotFound")
                return
            self.answer(200, self.store.put(_merged(thing, self._body())))

    def do_GET(self) -> None:
        if self._stopped():
            return
        if "watch=1" in self.path:
            self._watch()
        elif not self._name():
            self.answer(200, {"items": list(self.store.objects.values()), "metadata": {}})
        elif (thing := self.store.objects.get(self._name())) is None:
            self._refuse(404, "NotFound")
        else:
            self.answer(200, thing)

    def _watch(self) -> None:
        name = self.path.partition("metadata.name%3D")[2].partition("&")[0]
        seen, dropped = int(self.path.partition("resourceVersion=")[2]), self.store.dropped
        self.send_response(200)
        self.end_headers()
        while True:
            with self.store.changed:
                thing = self.store.objects.get(name)
                if self.store.dropped != dropped:
                    return
                if thing is None:
                    event = {"type": "DELETED", "object": {}}
                elif int(thing["metadata"]["resourceVersion"]) > seen:
                    event = {"type": "MODIFIED", "object": thing}
                elif self.store.changed.wait(WATCH_S):
                    continue
                else:
                    return
            self.wfile.write(json.dumps(event).encode() + b"\n")
            self.wfile.flush()
            if thing is None:
                return
            seen = int(thing["metadata"]["resourceVersion"])


def _merged(thing: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(thing, dict):
        return patch
    merged = {key: _merged(thing.get(key), value) for key, value in patch.items() if value is not None}
    return {key: value for key, value in {**thing, **merged}.items() if patch.get(key, 0) is not None}


def _nobody_follows(server: FakeApiServer) -> bool:
    server.drop_watches()
    return not any(each.name.startswith("podsla-gpu-") for each in threading.enumerate())


@contextmanager
def unreadable(file: Path) -> Iterator[None]:
    """Let nobody read a file for a while, root neither: a folder stands in its place."""
    aside = file.with_suffix(".aside")
    file.rename(aside)
    file.mkdir()
    try:
        yield
    finally:
        file.rmdir()
        aside.rename(file)


@contextmanager
def serving(folder: Path) -> Iterator[FakeApiServer]:
    """Serve until the end of the block."""
    server = FakeApiServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        # Python's ssl leaves a socket open that was reset before its handshake: let nobody be about to connect.
        eventually(lambda: _nobody_follows(server), "those who follow an attachment end")
        server.shutdown()
        server.server_close()


def bound(name: str, uid: str) -> str:
    """A token as the kubelet projects it."""
    claims = {"kubernetes.io": {"namespace": "team-a", "pod": {"name": name, "uid": uid}}}
    return "h." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".s"

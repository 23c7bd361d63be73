"""The token of a pod, renewed as the kubelet does, against a server over TLS that takes no token that has ended."""

import datetime
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest
from kubernetes.config import incluster_config

import kube.api
from kube.api import Api
from kube.kinds import CONFIG_MAPS
from kube.watch import Watched
from tests.answering import JsonHandler
from tests.waiting import eventually
from webhook.certificate import issue_ca, issue_leaf

pytestmark = pytest.mark.wire

HOST: Final = "127.0.0.1"


class TokenServer(ThreadingHTTPServer):
    """
    Lists what there is to whoever has a token that counts, and ends every watch at once.

    Attributes:
        valid: The tokens that count.
        names: Of the objects that there are.
        refused: How many calls came with another token.
    """

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__((HOST, 0), Handler)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.valid, self.names, self.refused = {"first"}, ["a"], 0


class Handler(JsonHandler, BaseHTTPRequestHandler):
    server: TokenServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        if self.headers["Authorization"].partition(" ")[2] not in server.valid:
            server.refused += 1
            self.answer(401, {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"})
        elif "watch=" in self.path:
            self.answer(410, {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
        else:
            items = [{"metadata": {"name": name, "namespace": "x", "uid": name}} for name in server.names]
            head = {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}}
            self.answer(200, {**head, "items": items})


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a pod's token."""
    path = tmp_path / "token"
    path.write_text("first")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(path))
    return path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: Path) -> Iterator[TokenServer]:
    """The API server of a pod that this process is."""
    now = datetime.datetime.now(datetime.UTC)
    ca = issue_ca(now)
    leaf = issue_leaf(ca, [HOST], now)
    for name, content in (("ca.crt", ca.cert_pem), ("tls.crt", leaf.cert_pem), ("tls.key", leaf.key_pem)):
        (tmp_path / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    with TokenServer(context) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", HOST)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(made.server_port))
        yield made
        made.shutdown()
        thread.join()


def renew(token: Path, text: str) -> None:
    """Put another in its place in one piece, as the kubelet does."""
    written = token.with_suffix(".new")
    written.write_text(text)
    written.replace(token)


def names(watched: Watched) -> list[str]:
    return sorted(thing["metadata"]["name"] for thing in watched.items())


def test_row_28_who_watches_goes_on_with_the_renewed_token_when_the_old_one_has_ended(
    server: TokenServer, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail where the file is read once."""
    monkeypatch.setattr(kube.api, "TOKEN_READ_EVERY_S", 0.2)
    watched = Watched(Api.connect(), CONFIG_MAPS, namespace="x").start()
    try:
        eventually(lambda: names(watched) == ["a"], "what there is is seen")
        server.valid = {"first", "second"}
        renew(token, "second")
        server.valid, server.names = {"second"}, ["a", "new"]
        eventually(lambda: names(watched) == ["a", "new"], "what came later is seen")
        seen = server.refused
        server.names = ["b"]
        eventually(lambda: names(watched) == ["b"], "and what comes after that")
        assert server.refused == seen, "the old one is not used again"
    finally:
        watched.stop()


@pytest.mark.parametrize("text", ["", None], ids=["empty", "gone"])
def test_a_token_that_cannot_be_read_for_a_moment_is_no_end_of_the_one_at_hand(
    server: TokenServer, token: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    monkeypatch.setattr(kube.api, "TOKEN_READ_EVERY_S", 0.0)
    api = Api.connect()
    token.unlink() if text is None else renew(token, text)
    assert [thing["metadata"]["name"] for thing in api.list(CONFIG_MAPS, "x")] == ["a"]

    server.valid = {"second"}
    renew(token, "second")
    assert [thing["metadata"]["name"] for thing in api.list(CONFIG_MAPS, "x")] == ["a"]

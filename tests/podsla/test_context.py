"""`--context` names which of a kubeconfig's clusters is asked."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from tests.podsla.shell import Shell

pytestmark = pytest.mark.wire


@contextmanager
def api_server(node: str) -> Iterator[str]:
    """An API server that has one node and nothing else; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            there = [{"metadata": {"name": node}, "status": {}}] if self.path.startswith("/api/v1/nodes") else []
            body = json.dumps({"metadata": {}, "items": there}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def two(shell: Shell) -> Iterator[str]:
    """A kubeconfig of two clusters, named as their one node is; the first one is the current context."""
    names = ("first", "second")
    with ExitStack() as stack:
        servers = {name: stack.enter_context(api_server(name)) for name in names}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": url}} for name, url in servers.items()],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": "u"}} for name in names],
            "current-context": names[0],
        }
        yield shell.file("config", json.dumps(config))


@pytest.mark.parametrize(
    ("options", "node"),
    [
        pytest.param((), "first", id="none named: the current one"),
        pytest.param(("--context", "first"), "first", id="the first"),
        pytest.param(("--context", "second"), "second", id="the second"),
    ],
)
def test_the_context_that_is_named_is_asked(shell: Shell, two: str, options: tuple[str, ...], node: str) -> None:
    ran = shell.run("top", "-o", "json", "--kubeconfig", two, *options)

    assert (ran.code, ran.err) == (0, "")
    assert [one["node"] for one in json.loads(ran.out)] == [node]


def test_one_that_is_not_there_is_an_error(shell: Shell, two: str) -> None:
    ran = shell.run("top", "--kubeconfig", two, "--context", "third")

    assert (ran.code, ran.out) == (3, "")
    assert "third" in ran.err

"""EDGE: an API server on loopback that has some objects, to be listed, and nothing else."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from tests.answering import JsonHandler


@contextmanager
def api_server(
    things: Mapping[str, Sequence[Mapping[str, Any]]], before: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """
    Serve; the URL.

    Args:
        things: By the path of their collection.
        before: Done before each answer.
    """

    class Handler(JsonHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            before()
            self.answer(200, {"metadata": {}, "items": things.get(urlsplit(self.path).path, ())})

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def kubeconfig(servers: Mapping[str, str]) -> str:
    """Write a kubeconfig with a context for each of some clusters; the first one is current."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url}} for name, url in servers.items()],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "u"}} for name in servers],
        "current-context": next(iter(servers)),
    }
    return json.dumps(config)


def named(*names: str, **fields: Any) -> list[dict[str, Any]]:
    """Objects of these names."""
    return [{"metadata": {"name": name}, **fields} for name in names]

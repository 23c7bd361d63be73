"""EDGE: calls of the application with a body that was read, as reviews straight away, and all else as WSGI."""

import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

from flask import Flask

from webhook.app import JSON, TRACEPARENT, direct


class Answered(NamedTuple):
    """An answer, and what its application does once it is sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    close: Callable[[], object] = bool


def answered(app: Flask, scope: Any, body: bytes, length: int) -> Answered:
    """Answer a call whose body was read; of one that is too long nothing was, and Flask refuses its *length*."""
    reply = direct(app, scope.method, scope.path, scope.headers.get("content-type", ""), body)
    if reply is not None:
        headers = [("Content-Type", JSON), ("Content-Length", str(len(reply.text)))]
        tell = reply.tell
        return Answered(200, headers, reply.text, lambda: tell(scope.headers.get(TRACEPARENT, "")))
    return call(app, environ_of(scope, body, length))


def environ_of(scope: Any, body: bytes, length: int) -> dict[str, Any]:
    """Build the WSGI environment; of the headers, the application needs Content-Type and traceparent alone."""
    return {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path,
        "QUERY_STRING": scope.query_string,
        "CONTENT_TYPE": scope.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(length),
        "HTTP_TRACEPARENT": scope.headers.get(TRACEPARENT, ""),
        "SERVER_NAME": "podsla",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def call(app: Flask, environ: dict[str, Any]) -> Answered:
    """Call a WSGI application and gather its answer."""
    status, headers = 500, list[tuple[str, str]]()

    def start_response(line: str, sent: list[tuple[str, str]], _: Any = None) -> Callable[[bytes], object]:
        nonlocal status, headers
        status, headers = int(line[:3]), sent
        return bytes  # WSGI's write(), which Flask never calls

    chunks = app(environ, start_response)
    return Answered(status, headers, b"".join(chunks), getattr(chunks, "close", bool))

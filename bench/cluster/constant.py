"""EDGE: a webhook on the same server that decides nothing: it always answers what podsla once said.

Run as a process: `python -m bench.cluster.constant PORT CERTIFICATE KEY ANSWER [direct]`; with the last word it answers
straight away, as podsla does, without Flask's request and response.
"""

import sys
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from flask import Flask, Response, request

from catalog.keys import DOMAIN
from webhook.app import Reply
from webhook.metrics import PrometheusRecorder
from webhook.server import Listen, serve

UID: Final = b"00000000-0000-0000-0000-000000000000"  # in the answer, where the caller's belongs
_BEFORE_UID: Final = b'"uid":"'


def constant_app(answer: bytes, *, direct: bool = False) -> Flask:
    """Build an application that answers every review with *answer*, in the name of the review's own uid."""
    head, tail = answer.split(UID)
    app = Flask("constant", static_folder=None)
    app.extensions["recorder"] = PrometheusRecorder()  # the server counts there what it refuses

    def said(body: bytes) -> bytes:
        begin = body.index(_BEFORE_UID) + len(_BEFORE_UID)  # the API server writes the review's own uid first
        return head + body[begin : begin + len(UID)] + tail

    @app.post("/mutate")
    def mutate() -> Response:
        return Response(said(request.get_data(cache=False)), content_type="application/json")

    if direct:
        app.extensions["answers"] = {"/mutate": lambda body: Reply(said(body), lambda _: None)}
    return app


def in_domain(answer: bytes, domain: str) -> bytes:
    """Spell the keys in an answer anew: podsla judges every pod that carries one of its own."""
    envelope = orjson.loads(answer)
    patch = b64decode(envelope["response"]["patch"]).decode()
    for mark in ("/", "~1"):  # in keys, and in the pointers to them
        patch = patch.replace(DOMAIN.replace("/", mark), domain.replace("/", mark))
    envelope["response"]["patch"] = b64encode(patch.encode()).decode()
    return orjson.dumps(envelope)


def configuration(
    ours: Mapping[str, Any], name: str, url: str, ca_bundle: str, namespaces: Mapping[str, str]
) -> dict[str, Any]:
    """
    Write a configuration like podsla's own, for pods in namespaces with these labels.

    It has no match conditions, since its pods pass those of podsla too, and nobody's pods shall pass two sets of them.
    """
    hook = {
        **ours["webhooks"][0],
        "name": f"pods.{name}.example.com",
        "clientConfig": {"url": url, "caBundle": ca_bundle},
        "namespaceSelector": {"matchLabels": dict(namespaces)},
        "matchConditions": [],
    }
    return {
        "apiVersion": ours["apiVersion"],
        "kind": ours["kind"],
        "metadata": {"name": name},
        "webhooks": [hook],
    }


def main(port: str, certificate: str, key: str, answer: str, how: str = "") -> None:
    """Serve until SIGTERM."""
    text, listen = Path(answer).read_bytes(), Listen("127.0.0.1", int(port), Path(certificate), Path(key))
    serve(lambda: constant_app(text, direct=how == "direct"), listen)


if __name__ == "__main__":
    main(*sys.argv[1:])

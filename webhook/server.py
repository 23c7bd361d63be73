"""EDGE: the process. Loads what is served, and serves it with granian over TLS.

One worker process with one Python thread: replicas, not workers, are how the webhook grows. granian reads a WSGI body
inside the call, so that one client who never ends its body would hold that thread and everybody behind it. The body is
therefore read by the event loop, within a limit and a deadline, and the Flask application is called with all of it.
What may wait meanwhile is bounded (`queue`), and a worker ends in stages (`handover`).
"""

import asyncio
import gc
import logging
import multiprocessing
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeAlias

from flask import Flask
from granian.constants import HTTPModes, Interfaces, Loops, SSLProtocols, TaskImpl
from granian.http import HTTP1Settings
from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined] # public, re-exported under other names

from catalog.fit import compile_index
from catalog.load import SHIPPED_CATALOG, load_catalog, load_documents, load_target
from catalog.problems import InvalidError, Problem
from catalog.yamltext import Document
from kube.logs import JsonLines, log_to_stdout
from webhook.admit import Serving
from webhook.app import MAX_REVIEW_BYTES, RETRY_AFTER_S, TEXT, Environment, create_app
from webhook.decide import Labels
from webhook.handover import HandoverServer, Stage, Worker
from webhook.metrics import PrometheusRecorder, Recorder
from webhook.pair import is_pair, watch_certificate
from webhook.queue import FullError, Place, Queue, patience_s
from webhook.wsgi import Answered, answered, call, environ_of

HEADER_TIMEOUT_MS: Final = 120_000  # also how long an idle connection lives: the API server drops its own after 90 s
STOP_TIMEOUT_S: Final = 15  # for calls in flight; then the worker is killed
BACKLOG: Final = 1024
MAX_CONNECTIONS: Final = 2048  # an API server keeps 25 idle ones per replica; those on which nothing comes count too
DISCARD_S: Final = 1.0  # for the rest of a body that there is no room for
HANDOVER_S: Final = 95.0  # longer than the API server keeps an idle connection

Namespaces: TypeAlias = Mapping[str, Labels]
_NO_LABELS: Final[Labels] = {}
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listen:
    """
    Where and how to listen.

    Attributes:
        certificate: PEM, with its chain; without it and its key, plain HTTP.
        body_timeout_s: How long a body may take; the API server's default timeout for the whole call.
        certificate_poll_s: How often the two files are looked at.
        handover_s: How long an old worker answers on beside the new one.
        drain_s: After SIGTERM, how long calls are answered on while the server says that it is not ready.
        queue: What may wait at once.
    """

    address: str = "0.0.0.0"  # noqa: S104 - a Service reaches a pod by its own address
    port: int = 8443
    certificate: Path | None = None
    key: Path | None = None
    body_timeout_s: float = 10.0
    certificate_poll_s: float = 10.0
    handover_s: float = HANDOVER_S
    drain_s: float = 0.0
    queue: Queue = field(default_factory=Queue)


@dataclass(frozen=True, slots=True)
class Settings:
    """What to serve: catalogue files or folders (none: the shipped one), the target, and a file of Namespaces."""

    catalogs: tuple[Path, ...] = ()
    target: str = "kubernetes"
    namespaces: Path | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded at one moment."""

    serving: Serving
    namespaces: Namespaces = field(default_factory=dict)


def serve_files(settings: Settings, listen: Listen) -> None:
    """
    Serve catalogue, target and namespaces from files until SIGTERM or SIGINT. The command line calls this.

    SIGHUP reads all of them and the certificate anew, without losing a call; where a file is wrong, the last good
    values are served on. A renewed certificate needs no signal.

    Raises:
        InvalidError: A file cannot be used; nothing was started.
    """
    source = Source(settings)
    serve(source.make_app, listen, reload=source.reload)


class Source:
    """Files, and the last good values that they had. It lives in the parent; workers inherit what it holds."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loaded = load(settings)

    def reload(self) -> None:
        """Read the files anew; keep what was there where they are wrong."""
        try:
            self.loaded = load(self.settings)
            _log.info("catalogue reloaded", extra={"fields": self.told})
        except InvalidError as error:
            fields = {"problems": len(error.problems), "first": str(error.problems[0])}
            _log.error("reload refused, the last good catalogue is served on", extra={"fields": fields})

    @property
    def told(self) -> Mapping[str, object]:
        """What the log says of what is served."""
        index = self.loaded.serving.index
        return {"revision": index.catalog.revision, "target": index.target.name, "sizes": len(index.catalog.sizes)}

    def make_app(self) -> Flask:
        """Build the application over what is loaded now."""
        _log.info("serving", extra={"fields": self.told})
        keep_for_good()
        return app_of(self.loaded)


def load(settings: Settings) -> Loaded:
    """
    Read all that *settings* name.

    Raises:
        InvalidError: A file cannot be used.
    """
    catalog = load_catalog(settings.catalogs or [SHIPPED_CATALOG])
    serving = Serving(compile_index(catalog, load_target(settings.target)))
    documents = load_documents([settings.namespaces]) if settings.namespaces else []
    return Loaded(serving, read_namespaces(documents))


def read_namespaces(documents: Iterable[Document]) -> Namespaces:
    """
    Read Namespaces, one by one or in a List, as `kubectl get namespaces --output yaml` writes them.

    Raises:
        InvalidError: A document is something else.
    """
    labels: dict[str, Labels] = {}
    problems: list[Problem] = []
    for document in documents:
        data = document.data if isinstance(document.data, dict) else {}
        items = data.get("items") if data.get("kind") in ("List", "NamespaceList") else [data]
        for index, item in enumerate(items if isinstance(items, list) else []):
            metadata = item.get("metadata") if isinstance(item, dict) and item.get("kind") == "Namespace" else None
            if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
                path = ("items", index) if "items" in data else ()
                problems.append(document.problem(path, "is no Namespace with a name; list Namespaces only"))
                continue
            labels[metadata["name"]] = {str(k): str(v) for k, v in (metadata.get("labels") or {}).items()}
    if problems:
        raise InvalidError(problems)
    return labels


def app_of(loaded: Loaded) -> Flask:
    """Build the application over fixed values; a namespace that no file names has no labels."""
    return create_app(
        Environment(
            serving=lambda: loaded.serving,
            namespace_labels=lambda name: loaded.namespaces.get(name, _NO_LABELS),
            recorder=PrometheusRecorder(),
            today=lambda: datetime.now(UTC).date(),
            clock=perf_counter,
        )
    )


def serve(make_app: Callable[[], Flask], listen: Listen, *, reload: Callable[[], None] | None = None) -> None:
    """
    Serve an application until SIGTERM or SIGINT; calls in flight are answered first.

    Workers are forked, not spawned, so that *make_app* may be any callable and catalogues are loaded once; granian's
    "module:attribute" targets would have to pass configuration through the environment of the process.

    Args:
        make_app: Called once in each worker.
        reload: Called in the parent on SIGHUP, before the worker is replaced.

    Raises:
        InvalidError: Certificate and key do not belong together, or the address cannot be listened on.
    """
    check(listen)
    multiprocessing.set_start_method("fork", force=True)
    log_to_stdout()
    listening = multiprocessing.Event()
    server = HandoverServer(
        "podsla webhook",
        address=listen.address,
        port=listen.port,
        interface=Interfaces.RSGI,
        workers=1,
        blocking_threads=1,
        loop=Loops.asyncio,
        task_impl=TaskImpl.asyncio,  # granian's own tasks cannot be cancelled, so no deadline would hold
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MS),
        websockets=False,
        backlog=BACKLOG,
        backpressure=MAX_CONNECTIONS,
        log_dictconfig={"formatters": {"generic": {"()": JsonLines}, "access": {"()": JsonLines}}},
        ssl_cert=listen.certificate,
        ssl_key=listen.key,
        ssl_protocol_min=SSLProtocols.tls12,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_TIMEOUT_S,
        handover_s=listen.handover_s,
        drain_s=listen.drain_s,
        listening=listening,
    )
    if reload is not None:
        server.on_reload(reload)
    if listen.certificate and listen.key:
        watch_certificate(listen.certificate, listen.key, listen.certificate_poll_s)

    def load_worker() -> Any:
        return Bridge(make_app(), listen, Worker(listen.port, listening))

    server.serve(target_loader=load_worker, wrap_loader=False)


def keep_for_good() -> None:
    """
    Have the garbage collector leave alone all that is there now.

    It would go through the catalogue again and again: 77 ms in which nobody is answered. A catalogue is freed without
    it, when the last reference goes: nothing in it refers back.
    """
    gc.collect()
    gc.freeze()


def check(listen: Listen) -> None:
    """
    Try what granian would fail on in a worker, where nobody sees it.

    Raises:
        InvalidError: Certificate and key do not belong together, or the address cannot be listened on.
    """
    if listen.certificate and listen.key and not is_pair(listen.certificate, listen.key):
        message = f"and {listen.key} are no certificate and its private key, both PEM; name a pair"
        raise InvalidError([Problem(str(listen.certificate), 0, "", message)])
    where = f"{listen.address}:{listen.port}"
    try:
        family = socket.AF_INET6 if ip_address(listen.address).version == 6 else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((listen.address, listen.port))
    except ValueError:
        raise InvalidError([Problem(where, 0, "", "is no IP address to listen on; write one as 0.0.0.0")]) from None
    except OSError as error:
        raise InvalidError([Problem(where, 0, "", f"cannot be listened on: {error.strerror}")]) from None


class Bridge:
    """An RSGI application that reads each body before it calls *app*, and lets no more wait than there is room for."""

    def __init__(self, app: Flask, listen: Listen, worker: Worker) -> None:
        self.app, self.worker, self.queue, self.body_timeout_s = app, worker, listen.queue, listen.body_timeout_s
        self.recorder: Recorder = app.extensions["recorder"]
        self.recorder.watch_queue(lambda: (self.queue.calls, self.queue.bytes))

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """granian calls it in the worker, before it listens."""
        self.worker.start(loop)

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Answer one call; the last one of its connection says so."""
        if scope.method == "GET" and scope.path == "/readyz" and self.worker.stage is Stage.LEAVING:
            self._send(protocol, _text(503, "this replica is ending"))
            return
        try:
            answer = await self._answer(scope, protocol)
        except (ProtocolClosed, ProtocolError):
            return  # the caller went away: there is nobody to answer
        try:
            self._send(protocol, answer)
        finally:
            answer.close()  # counts and logs, for which nobody waits now

    def _send(self, protocol: Any, answer: Answered) -> None:
        headers = answer.headers
        if self.worker.stage is not Stage.SERVING:
            headers = [*headers, ("connection", "close")]
        protocol.response_bytes(answer.status, headers, answer.body)

    async def _answer(self, scope: Any, protocol: Any) -> Answered:
        if scope.method == "GET":  # probes and scrapes are answered however many wait
            return call(self.app, environ_of(scope, b"", 0))
        until_s = perf_counter() + patience_s(scope.query_string, most_s=self.body_timeout_s)
        try:
            with self.queue.place() as place:
                async with asyncio.timeout(until_s - perf_counter()):
                    body, length = await read_body(scope, protocol, place)
                if perf_counter() < until_s:
                    return answered(self.app, scope, body, length)
        except FullError:
            self.recorder.failed("overloaded")
            await discard(protocol)
            return _text(503, "too many calls wait here; try again")
        except TimeoutError:
            self.recorder.failed("slow_body")
            return _text(408, "the body did not come in time", ("connection", "close"))
        self.recorder.failed("too_late")
        return _text(503, "the call waited here for longer than its caller does; try again")


def _text(status: int, message: str, *headers: tuple[str, str]) -> Answered:
    retry = [("retry-after", str(RETRY_AFTER_S))] if status == 503 else []
    return Answered(status, [("content-type", TEXT), *retry, *headers], f"{message}\n".encode())


async def discard(protocol: Any) -> None:
    """
    Read what is left of a body, and keep none of it; for a moment only.

    A connection is closed on which some of a body is left, and who still writes there never hears what was answered.
    """
    with suppress(TimeoutError, ProtocolError):  # or it was being read in pieces, as the API server never sends it
        async with asyncio.timeout(DISCARD_S):
            async for _ in protocol:
                pass


async def read_body(scope: Any, protocol: Any, place: Place) -> tuple[bytes, int]:
    """
    Read a body up to the limit.

    Returns:
        The body, and its length; where the length is above the limit, nothing of the body.

    Raises:
        FullError: There is no room for it now.
    """
    stated = scope.headers.get("content-length")
    if stated is not None:
        length = int(stated)  # hyper has refused anything but digits
        if length > MAX_REVIEW_BYTES:
            return b"", length
        place.grow(length)
        return await protocol(), length
    chunks, length = [], 0
    async for chunk in protocol:
        length += len(chunk)
        if length > MAX_REVIEW_BYTES:
            return b"", length
        place.grow(len(chunk))
        chunks.append(bytes(chunk))
    return b"".join(chunks), length

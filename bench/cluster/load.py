"""EDGE: creates pods at given moments over several connections, counts what is stored, and clears it away."""

import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from bench.cluster.plan import Created, is_sized
from catalog.keys import DOMAIN
from kube.api import Api
from kube.kinds import PODS

ANSWER_S: Final = 60.0  # the API server gives up a call by then
CLEAR_S: Final = 300.0
_JSON: Final = {"Content-Type": "application/json", "Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Server:
    """An API server, and who calls it."""

    host: str
    port: int
    context: ssl.SSLContext

    @classmethod
    def of(cls, kubeconfig: Path) -> "Server":
        """Read a kubeconfig whose user has a client certificate."""
        found = Api.connect(kubeconfig).client.configuration
        context = ssl.create_default_context(cafile=found.ssl_ca_cert)
        context.load_cert_chain(found.cert_file, found.key_file)
        url = urlsplit(found.host)
        return cls(url.hostname or "", url.port or 443, context)

    def connect(self) -> HTTPSConnection:
        """Open a connection that is kept between calls."""
        connection = HTTPSConnection(self.host, self.port, context=self.context, timeout=ANSWER_S)
        connection.connect()
        return connection


def create_pods(
    server: Server,
    namespace: str,
    pods: Iterator[Mapping[str, Any]],
    due_s: Iterable[float],
    connections: int = 32,
    domain: str = DOMAIN,
) -> list[Created]:
    """
    Create a pod for every moment in *due_s*, in seconds from now; at most as many at once as there are connections.

    Args:
        pods: One for each moment, for ever.
        due_s: In order. A moment that has passed is sent at once, and its delay counts as latency.
        domain: Of the keys that say what size a pod got.
    """
    call = _Call(PODS.path(namespace), domain)
    opened = [server.connect() for _ in range(connections)]
    shared, due, started_s = threading.Lock(), iter(due_s), perf_counter()

    def work(connection: HTTPSConnection) -> list[Created]:
        made: list[Created] = []
        while True:
            with shared:
                at_s = next(due, None)
                body = orjson.dumps(next(pods))
            if at_s is None:
                return made
            sleep(max(0.0, started_s + at_s - perf_counter()))
            made.append(call.send(connection, body, at_s, started_s))

    try:
        with ThreadPoolExecutor(connections) as pool:
            return [one for some in pool.map(work, opened) for one in some]
    finally:
        for connection in opened:
            connection.close()


def back_to_back(for_s: float) -> Iterator[float]:
    """Moments that are always now, for a while: every connection sends its next pod when it has the last answer."""
    started_s = perf_counter()
    while (passed_s := perf_counter() - started_s) < for_s:
        yield passed_s


@dataclass(frozen=True, slots=True)
class _Call:
    path: str
    domain: str

    def send(self, connection: HTTPSConnection, body: bytes, due_s: float, started_s: float) -> Created:
        """Create one pod; never again after a failure, since the first call may have had its effect."""
        sent_s = perf_counter()
        try:
            connection.request("POST", self.path, body, _JSON)
            answer = connection.getresponse()
            status, data = answer.status, answer.read()
        except (OSError, HTTPException) as error:
            connection.close()  # it opens anew with the next call
            status, data = 0, f"{type(error).__name__}: {error}".encode()
        done_s = perf_counter()
        sized = status == 201 and is_sized(orjson.loads(data), self.domain)
        message = "" if status == 201 else data[:400].decode(errors="replace")
        return Created(due_s, sent_s - started_s, done_s - started_s, status, sized, message)


@dataclass(frozen=True, slots=True)
class Stored:
    """Pods of a namespace, and how many of them have no size."""

    pods: int
    unmutated: int


def stored(api: Api, namespace: str, domain: str = DOMAIN) -> Stored:
    """Count what the API server has, whatever it answered before."""
    sized = [is_sized(pod, domain) for pod in api.list(PODS, namespace)]
    return Stored(len(sized), sized.count(False))


def clear(api: Api, namespace: str) -> None:
    """Delete all pods of a namespace in one call, which the API server works off one by one."""
    api.send("DELETE", PODS.path(namespace), {"gracePeriodSeconds": "0"}, read_timeout_s=CLEAR_S).drain_conn()

"""EDGE: what a review costs over TLS, as the API server sends it, beside the same server answering a constant."""

import socket
import ssl
import statistics
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import chain, count, cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson

from bench.cluster.constant import UID
from bench.golang import GO, fixed_class
from bench.proc import resident_mib
from catalog.keys import DOMAIN
from webhook.certificate import issue_ca, issue_leaf

HOST: Final = "127.0.0.1"
CONNECTIONS: Final = 8
ROUNDS: Final = 9
ROUND_S: Final = 1.0
PAUSE_S: Final = 0.005  # between two calls of somebody who waits for each
REVIEWS: Final = (1_000, 10_000, 100_000)
START_S: Final = 30.0
PYTHON: Final = (sys.executable, "-m")
LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
ROOT: Final = Path(__file__).parents[1]


class Caller:
    """Connections that are kept, and reviews to send over them."""

    def __init__(self, port: int, authority: Path, bodies: Iterator[bytes]) -> None:
        context = ssl.create_default_context(cafile=str(authority))
        self.bodies = bodies
        self.opened = [
            context.wrap_socket(socket.create_connection((HOST, port), START_S), server_hostname=HOST)
            for _ in range(CONNECTIONS)
        ]

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.opened:
            connection.close()

    def call(self, connection: ssl.SSLSocket) -> bytes:
        """Send a review and read its answer."""
        self.send(connection)
        return read_answer(connection)

    def send(self, connection: ssl.SSLSocket) -> None:
        """Send a review."""
        body = next(self.bodies)
        head = f"POST /mutate?timeout=5s HTTP/1.1\r\nHost: podsla\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"  # noqa: E501
        connection.sendall(head.encode() + body)

    def per_s(self) -> float:
        """Answers a second, while every connection always has a review under way."""
        for connection in self.opened:
            self.send(connection)
        started_s, done = time.perf_counter(), 0
        for connection in cycle(self.opened):
            read_answer(connection)
            done += 1
            passed_s = time.perf_counter() - started_s
            if passed_s > ROUND_S:
                break
            self.send(connection)
        first = self.opened.index(connection)
        for other in (*self.opened[first + 1 :], *self.opened[:first]):
            read_answer(other)
        return done / passed_s

    def alone_us(self) -> list[float]:
        """Times of calls that find nobody else."""
        times, end_s = [], time.perf_counter() + ROUND_S
        while time.perf_counter() < end_s:
            started = time.perf_counter_ns()
            self.call(self.opened[0])
            times.append((time.perf_counter_ns() - started) / 1000)
            time.sleep(PAUSE_S)
        return times


def read_answer(connection: socket.socket) -> bytes:
    """Read one answer, of the length that it states or up to its last chunk."""
    data = connection.recv(65536)
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += connection.recv(65536)
    head = data[:end].lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(f"answered {data[:200]!r}")
    if b"content-length:" not in head:  # in chunks, as Go sends what is above 2 KiB; nobody here looks into it
        while not data.endswith(LAST_CHUNK):
            data += connection.recv(65536)
        return data[end + 4 :]
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    while len(data) < end + 4 + length:
        data += connection.recv(65536)
    return data[end + 4 :]


@contextmanager
def serving(command: Sequence[str], port: int, log: Path) -> Iterator[int]:
    """Run a server until it answers, and while it is measured; its process."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT)
    try:
        end_s = time.monotonic() + START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"{' '.join(command[:4])} does not serve: {log.read_text()[-400:]}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1.0).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def bench_tls(review: Mapping[str, Any], go: Path | None = None) -> Iterator[tuple[str, str, str, str]]:
    """
    One worker over TLS, in turn: pods of one workload, pods that are each another, and a constant in two ways.

    Args:
        go: The webhook in Go, which does the same for one class that is fixed, on as many cores as there are.
    """
    alike = _dump(review)
    with TemporaryDirectory() as made, ExitStack() as stack:
        folder, ports = Path(made), (_free_port(), _free_port(), _free_port())
        crt, key, ca = _write_pair(folder)
        stack.enter_context(serving(_ours(ports[0], crt, key), ports[0], folder / "podsla.log"))
        first = stack.enter_context(Caller(ports[0], ca, cycle([alike])))
        (folder / "answer.json").write_bytes(first.call(first.opened[0]))
        for port, how in zip(ports[1:], ([], ["direct"]), strict=True):
            constant = [*PYTHON, "bench.cluster.constant", str(port), crt, key, str(folder / "answer.json"), *how]
            stack.enter_context(serving(constant, port, folder / f"constant-{port}.log"))
        callers = {
            "podsla": first,
            "podsla, each pod another": stack.enter_context(Caller(ports[0], ca, _others(alike))),
            "constant": stack.enter_context(Caller(ports[1], ca, cycle([alike]))),
            "constant, without Flask too": stack.enter_context(Caller(ports[2], ca, cycle([alike]))),
        }
        if go is not None:
            port = _free_port()
            _write_class(folder)
            command = [str(go), str(port), crt, key, str(folder / "class.json")]
            stack.enter_context(serving(command, port, folder / "go.log"))
            callers[GO] = stack.enter_context(Caller(port, ca, cycle([alike])))
        yield from _rows("a second over TLS, 8 connections", _rounds(callers, lambda caller: [caller.per_s()]))
        read = (log := folder / "podsla.log").stat().st_size
        alone = _rounds(callers, Caller.alone_us)
        yield from _rows("µs over TLS, one at a time, median", alone)
        yield from _tails("µs over TLS, one at a time, p99", alone)
        own = list(_logged_us(log.read_bytes()[read:]))
        yield from _tails("µs in the webhook, one at a time, p99", {"podsla, by its own log": own})


def bench_memory(review: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Resident memory of a replica's two processes, each pod another; what they share counts in each."""
    with TemporaryDirectory() as made:
        folder, port, done = Path(made), _free_port(), 0
        crt, key, ca = _write_pair(folder)
        log = folder / "podsla.log"
        with serving(_ours(port, crt, key), port, log) as pid, Caller(port, ca, _others(_dump(review))) as caller:
            for reviews in REVIEWS:
                for _ in range(done, reviews):
                    caller.call(caller.opened[0])
                done = reviews
                yield f"memory after {reviews} reviews", f"{resident_mib(pid):.1f} MiB", "", ""


def _dump(review: Mapping[str, Any]) -> bytes:
    return orjson.dumps({**review, "request": {**review["request"], "uid": UID.decode()}})


def _ours(port: int, crt: str, key: str) -> list[str]:
    options = {"--address": HOST, "--port": str(port), "--tls-cert": crt, "--tls-key": key}
    return [*PYTHON, "podsla", "webhook", *chain.from_iterable(options.items())]


def _logged_us(lines: bytes) -> Iterator[float]:
    """Read how long reviews took, alike or not, from when their body was there until the answer was written."""
    for line in lines.splitlines():
        yield orjson.loads(line)["duration_us"]


def _write_class(folder: Path) -> None:
    answer = orjson.loads((folder / "answer.json").read_bytes())
    patch = orjson.loads(b64decode(answer["response"]["patch"]))
    (folder / "class.json").write_bytes(orjson.dumps(fixed_class(patch, DOMAIN)))


def _others(alike: bytes) -> Iterator[bytes]:
    for pps in count(600_000):
        yield alike.replace(b'"1500000"', b'"%d"' % pps)


def _rounds(callers: Mapping[str, Caller], work: Callable[[Caller], list[float]]) -> dict[str, list[float]]:
    """Every caller once a round; a first round warms all up."""
    found: dict[str, list[float]] = {name: [] for name in callers}
    for number in range(ROUNDS + 1):
        for name, caller in callers.items():
            found[name] += work(caller) if number else work(caller)[:0]
    return found


def _rows(what: str, found: Mapping[str, list[float]]) -> Iterator[tuple[str, str, str, str]]:
    constant = statistics.median(found["constant"])  # through Flask
    for name, values in found.items():
        median = statistics.median(values)
        note = f"{median / constant:.0%} of the constant's" if name != "constant" else ""
        yield f"{what}: {name}", f"{median:.0f}", f"{min(values):.0f}", note


def _tails(what: str, found: Mapping[str, list[float]]) -> Iterator[tuple[str, str, str, str]]:
    for name, values in found.items():
        yield f"{what}: {name}", f"{statistics.quantiles(values, n=100)[98]:.0f}", "", ""


def _write_pair(folder: Path) -> tuple[str, str, Path]:
    now = datetime.now(UTC)
    ca = issue_ca(now)
    leaf = issue_leaf(ca, [HOST], now)
    files = {"tls.crt": leaf.cert_pem, "tls.key": leaf.key_pem, "ca.crt": ca.cert_pem}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return str(folder / "tls.crt"), str(folder / "tls.key"), folder / "ca.crt"

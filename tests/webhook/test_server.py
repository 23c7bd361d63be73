"""The real server over TLS on loopback, as the API server would call it."""

import http.client
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import jsonpatch
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from catalog.problems import InvalidError
from catalog.yamltext import parse_documents
from tests.builders import UID, catalog_text, pod, review
from webhook.app import MAX_REVIEW_BYTES
from webhook.server import Listen, Settings, check, read_namespaces, serve_files

START_S: Final = 20.0
STOP_S: Final = 10.0
JSON: Final = {"Content-Type": "application/json"}
TRACE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACED: Final = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
HEAD: Final = b"POST /mutate?timeout=10s HTTP/1.1\r\nHost: podsla\r\nContent-Type: application/json\r\n"
PROGRAM: Final = """
import sys
from pathlib import Path
from webhook.queue import Queue
from webhook.server import Listen, Settings, serve_files
folder, port, options = Path(sys.argv[1]), int(sys.argv[2]), eval(sys.argv[3])
options = {"body_timeout_s": 3, "certificate_poll_s": 600, "handover_s": 1, **options}
serve_files(
    Settings((folder / "catalog.yaml",), "kubernetes", folder / "namespaces.yaml"),
    Listen("127.0.0.1", port, folder / "tls.crt", folder / "tls.key", **options),
)
"""
NAMESPACES: Final = """
apiVersion: v1
kind: List
items:
- {kind: Namespace, metadata: {name: team-a}}
- {kind: Namespace, metadata: {name: team-b, labels: {podsla.io/default-class: net}}}
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A server process: where it is, and how to reach it."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "tls.crt"))

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context(), timeout=START_S)

    def raw(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=START_S)
        return self.context().wrap_socket(plain, server_hostname="127.0.0.1")

    def log(self) -> str:
        return (self.folder / "log").read_text()


def write_certificate(folder: Path, serial: int = 1) -> None:
    """Make a certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"podsla-webhook-{serial}")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), serial)
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = builder.add_extension(address, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(key.private_bytes(*pem))


def start(folder: Path, options: str = "{}") -> Running:
    """Start a server; *options* are further fields of `Listen`, as a literal of Python."""
    write_certificate(folder)
    (folder / "catalog.yaml").write_text(catalog_text())
    (folder / "namespaces.yaml").write_text(NAMESPACES)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, "-c", PROGRAM, str(folder), str(port), options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, cwd=Path(__file__).parents[2], env={**os.environ}
        )
    running = Running(process, folder, port)
    until(lambda: ready(running), "the server to be ready", running)
    return running


def ready(running: Running) -> bool:
    assert running.process.poll() is None, running.log()
    try:
        with closing(running.connect()) as connection:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
    except OSError:
        return False


def until(condition: Callable[[], bool], what: str, running: Running, timeout_s: float = START_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}:\n{running.log()}"
        select.select([], [], [], 0.05)


def stop(running: Running) -> None:
    if running.process.poll() is None:
        running.process.terminate()
        try:
            running.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start(tmp_path_factory.mktemp("server"))
    yield running
    stop(running)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that waits longer for a body than anybody here waits for an answer."""
    running = start(tmp_path_factory.mktemp("patient"), f"{{'body_timeout_s': {3 * START_S}}}")
    yield running
    stop(running)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Running]:
    """A server that a test may stop or break."""
    running = start(tmp_path)
    yield running
    stop(running)


def post(connection: http.client.HTTPSConnection, body: bytes, path: str = "/mutate") -> tuple[int, bytes]:
    connection.request("POST", path, body, JSON)
    answer = connection.getresponse()
    return answer.status, answer.read()


def read_answer(connection: ssl.SSLSocket) -> tuple[int, bytes]:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read()


def has_answer(connection: ssl.SSLSocket) -> bool:
    """Whether something has come, or the connection was closed; a session's ticket, which comes too, is neither."""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except ssl.SSLWantReadError:
        return False
    return True


def body_of(**request: Any) -> bytes:
    return json.dumps(review(**request)).encode()


def size_of(answer: tuple[int, bytes]) -> str:
    status, body = answer
    assert status == 200, body
    size: str = json.loads(body)["response"]["auditAnnotations"]["podsla-size"]
    return size


@pytest.mark.wire
def test_reviews_over_one_kept_connection_are_answered_with_patches_that_apply(server: Running) -> None:
    with closing(server.connect()) as connection:
        for version in ("v1", "v1beta1"):
            for sla_class in ("net", "steady", "general"):
                found = pod(sla_class)
                status, body = post(connection, body_of(found=found, version=version), "/mutate?timeout=10s")
                answer = json.loads(body)
                after = jsonpatch.apply_patch(found, json.loads(b64decode(answer["response"]["patch"])))

                assert status == 200
                assert (answer["apiVersion"], answer["response"]["uid"]) == (f"admission.k8s.io/{version}", UID)
                assert after["metadata"]["labels"]["podsla.io/size"] in ("small", "medium")
        local = connection.sock
        assert local is not None, "the server closed a connection that shall be kept"


@pytest.mark.wire
def test_namespaces_come_from_their_file(server: Running) -> None:
    with closing(server.connect()) as connection:
        assert size_of(post(connection, body_of(found=pod(None), namespace="team-b"))) == "medium"
        assert b"podsla-size" not in post(connection, body_of(found=pod(None), namespace="team-a"))[1]
        assert b"podsla-size" not in post(connection, body_of(found=pod(None), namespace="unlisted"))[1]


@pytest.mark.wire
def test_a_body_of_7_mib_is_answered_and_one_byte_more_is_not(server: Running) -> None:
    """Seen to fail where the length is not looked at before the body comes: it is waited for."""
    with closing(server.connect()) as connection:
        assert size_of(post(connection, body_of().ljust(MAX_REVIEW_BYTES))) == "medium"
    with closing(server.raw()) as raw:
        raw.sendall(HEAD + f"Content-Length: {MAX_REVIEW_BYTES + 1}\r\n\r\n".encode())  # refused before the body comes
        assert read_answer(raw) == (413, b"the body is larger than 7 MiB\n")


@pytest.mark.wire
def test_a_body_in_chunks_is_read_within_the_same_limit(server: Running) -> None:
    """Seen to fail where chunks are not summed up: more is waited for."""
    with closing(server.connect()) as connection:
        body = body_of()
        connection.request("POST", "/mutate", iter([body[:50], body[50:]]), JSON, encode_chunked=True)
        answer = connection.getresponse()
        assert size_of((answer.status, answer.read())) == "medium"
    with closing(server.raw()) as raw:
        raw.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        size = 1 << 20
        for _ in range(7):
            raw.sendall(f"{size:x}\r\n".encode() + b" " * size + b"\r\n")
        raw.sendall(b"1\r\n \r\n")
        assert read_answer(raw) == (413, b"the body is larger than 7 MiB\n")


@pytest.mark.wire
@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"Content-Length: 5000\r\n\r\n{", id="a length that lies"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", id="chunks that never end"),
        pytest.param(b"X-Never-", id="headers that never end"),
    ],
)
def test_callers_that_never_finish_hold_up_nobody_else(head: bytes, patient: Running) -> None:
    """Whoever comes after them is answered before them. Seen to fail where one body is read after the other."""
    with ExitStack() as opened:
        stalled = [opened.enter_context(closing(patient.raw())) for _ in range(20)]
        for each in stalled:
            each.sendall(HEAD + head)
        with closing(patient.connect()) as connection:
            assert size_of(post(connection, body_of())) == "medium"
        assert not any(map(has_answer, stalled))


@pytest.mark.wire
def test_a_body_that_never_ends_is_given_up(server: Running) -> None:
    """Seen to fail without the time limit: nothing is answered."""
    with closing(server.raw()) as raw:
        raw.sendall(HEAD + b"Content-Length: 5000\r\n\r\n{")
        assert read_answer(raw) == (408, b"the body did not come in time\n")


@pytest.mark.wire
def test_bad_json_is_answered_on_a_connection_that_lives_on(server: Running) -> None:
    with closing(server.connect()) as connection:
        assert post(connection, b"{") == (400, b"the body is not JSON (character 1); send an AdmissionReview\n")
        assert size_of(post(connection, body_of())) == "medium"


@pytest.mark.wire
def test_a_client_that_goes_away_in_the_middle_leaves_the_server_whole(server: Running) -> None:
    """Seen to fail where that is not expected: tracebacks fill the log."""
    for _ in range(20):
        raw = server.raw()
        raw.sendall(HEAD + b"Content-Length: 5000\r\n\r\n{")
        raw.close()
    with closing(server.connect()) as connection:
        assert size_of(post(connection, body_of())) == "medium"
    assert "Traceback" not in server.log()


@pytest.mark.wire
def test_every_decision_is_one_line_of_json(server: Running) -> None:
    """Seen to fail with the object in it."""
    with closing(server.connect()) as connection:
        connection.request("POST", "/mutate", body_of(uid="a-uid-to-find", name="x\ny"), {**JSON, **TRACED})
        connection.getresponse().read()
    until(lambda: "a-uid-to-find" in server.log(), "the log line", server)
    [line] = [line for line in server.log().splitlines() if "a-uid-to-find" in line]
    fields = json.loads(line)

    assert fields.pop("duration_us") > 0
    assert fields.pop("time").endswith("+00:00")
    assert fields == {
        "level": "info",
        "message": "decided",
        "uid": "a-uid-to-find",
        "endpoint": "mutate",
        "outcome": "sized",
        "namespace": "team-a",
        "name": "x\ny",
        "class": "net",
        "size": "medium",
        "trace_id": TRACE_ID,
    }


@pytest.mark.wire
def test_sigterm_answers_the_call_in_flight_and_exits_in_time(own_server: Running) -> None:
    body = body_of()
    with closing(own_server.connect()) as idle, closing(own_server.raw()) as raw:
        post(idle, body)  # a kept connection that does nothing must not hold the exit up
        raw.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:100])
        until(lambda: "decided" in own_server.log(), "the first answer", own_server)
        own_server.process.terminate()
        select.select([], [], [], 0.5)
        raw.sendall(body[100:])

        assert size_of(read_answer(raw)) == "medium"
    assert own_server.process.wait(STOP_S) == 0, own_server.log()


@pytest.mark.wire
def test_sighup_takes_over_a_new_catalogue_and_certificate_and_keeps_the_last_good_one(own_server: Running) -> None:
    def size() -> str | None:
        try:
            with closing(own_server.connect()) as connection:
                return size_of(post(connection, body_of()))
        except (OSError, http.client.HTTPException):
            return None

    assert size() == "medium"
    catalog = own_server.folder / "catalog.yaml"
    write_certificate(own_server.folder, serial=2)
    catalog.write_text(catalog_text().replace("medium", "middle"))
    own_server.process.send_signal(signal.SIGHUP)
    until(lambda: size() == "middle", "the new catalogue, over the new certificate", own_server)

    catalog.write_text("kind: SpecCatalog\n")
    until(lambda: "replaced the worker" in own_server.log(), "the first reload to end", own_server)
    own_server.process.send_signal(signal.SIGHUP)
    until(lambda: "reload refused" in own_server.log(), "the refusal", own_server)
    assert size() == "middle"


@pytest.mark.wire
def test_a_renewed_certificate_is_taken_over_without_a_signal_once_its_key_is_there(tmp_path: Path) -> None:
    """Seen to fail where it is not looked whether both belong together: a worker is tried on them."""
    running = start(tmp_path, '{"certificate_poll_s": 0.1}')
    try:
        old_key = (tmp_path / "tls.key").read_bytes()
        write_certificate(tmp_path, serial=2)
        new_key = (tmp_path / "tls.key").read_bytes()
        (tmp_path / "tls.key").write_bytes(old_key)
        select.select([], [], [], 1)
        assert "the worker" not in running.log()
        (tmp_path / "tls.key").write_bytes(new_key)
        until(lambda: ready(running), "an answer under the new certificate", running)
    finally:
        stop(running)


def test_nothing_is_started_on_a_catalogue_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InvalidError):
        serve_files(Settings((tmp_path / "missing.yaml",)), Listen(port=0))


def test_namespaces_are_read_one_by_one_and_in_lists() -> None:
    text = NAMESPACES + "---\n{kind: Namespace, metadata: {name: team-c, labels: {a: b}}}\n"

    assert read_namespaces(parse_documents(text, "ns.yaml")) == {
        "team-a": {},
        "team-b": {"podsla.io/default-class": "net"},
        "team-c": {"a": "b"},
    }


def test_a_file_of_namespaces_with_something_else_in_it_is_refused() -> None:
    text = "kind: List\nitems:\n- {kind: Pod, metadata: {name: x}}\n"
    with pytest.raises(InvalidError) as raised:
        read_namespaces(parse_documents(text, "ns.yaml"))

    assert str(raised.value) == "ns.yaml:3: items[0]: is no Namespace with a name; list Namespaces only"


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        pytest.param(
            Listen("300.1.1.1", 8443),
            "300.1.1.1:8443: is no IP address to listen on; write one as 0.0.0.0",
            id="no address",
        ),
        pytest.param(
            Listen("127.0.0.1", 1, Path("no.crt"), Path("no.key")),
            "no.crt: and no.key are no certificate and its private key, both PEM; name a pair",
            id="no certificate",
        ),
    ],
)
def test_what_would_fail_in_the_worker_is_told_before_it_starts(listen: Listen, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check(listen)

    assert str(caught.value) == message


def test_a_port_that_is_taken_is_told_before_the_start() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken, pytest.raises(InvalidError) as caught:
        check(Listen("127.0.0.1", taken.getsockname()[1]))

    assert str(caught.value).endswith("cannot be listened on: Address already in use")

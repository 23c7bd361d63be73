"""Other people's mutating webhooks, before and after ours: the record explains the pod that is stored."""

import json
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from attach.api import Type
from attach.placeholder import CONTAINER, placeholder, read_pod
from catalog.keys import GPU_SEATS, PLACEHOLDER, RECORD, SIZE
from kube.api import Object, Resource
from kube.kinds import MUTATING_WEBHOOKS, PODS
from tests.answering import JsonHandler
from tests.cluster import binaries
from tests.cluster.network import LOOPBACK, free_ports
from tests.cluster.pki import Authority, write_pair
from tests.cluster.processes import start, stop, wait_ready
from tests.cluster.state import Cluster
from tests.controller.borrowing import Agent, Lending, ended
from tests.system.user import User, save_catalogs
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

LIMIT_RANGES: Final = Resource("v1", "limitranges")
SIDECAR: Final = "webhook-added-sidecar"  # as agnhost of the Kubernetes tests calls it
Operations = list[dict[str, Any]]
ORDERS: Final = [
    pytest.param("a-other", id="before ours, by name"),
    pytest.param("z-other", id="after ours, by name"),
]


@dataclass(frozen=True)
class Other:
    """Somebody else's webhook server, reached from the API server."""

    url: str
    ca: bytes

    def configuration(self, name: str, path: str, namespace: str, policy: str) -> dict[str, Any]:
        """Call it for the pods of one namespace that are created."""
        hook = {
            "name": "other.example.com",
            "clientConfig": {"url": self.url + path, "caBundle": b64encode(self.ca).decode()},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "reinvocationPolicy": policy,
        }
        return {"metadata": {"name": name}, "webhooks": [hook]}


@pytest.fixture(scope="module")
def agnhost(beside: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Other]:
    """The webhook of the Kubernetes tests; it adds a sidecar that asks for nothing."""
    folder, authority = tmp_path_factory.mktemp("agnhost"), Authority.create("other-ca")
    write_pair(folder, "tls", authority.issue("other", addresses=[LOOPBACK]))
    port = free_ports(["agnhost"], [])["agnhost"]
    files = [f"--tls-cert-file={folder / 'tls.crt'}", f"--tls-private-key-file={folder / 'tls.key'}"]
    argv: list[str | Path] = [
        binaries.find("agnhost"),
        "webhook",
        *files,
        f"--port={port}",
        "--sidecar-image=example.com/sidecar:1",
    ]
    process = start(beside, "agnhost", argv)
    wait_ready(beside, "agnhost listens", lambda: _listens(port), process)
    yield Other(f"https://{LOOPBACK}:{port}", authority.pair.certificate)
    stop(process)


def _listens(port: int) -> bool:
    with socket.create_connection((LOOPBACK, port), timeout=1):
        return True


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Callable[[Object], Operations]], Other]]:
    """Run webhooks that answer each pod with the operations that a function gives."""
    servers: list[ThreadingHTTPServer] = []

    def run(judge: Callable[[Object], Operations]) -> Other:
        authority = Authority.create("other-ca")
        write_pair(tmp_path, "other", authority.issue("other", addresses=[LOOPBACK]))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "other.crt", tmp_path / "other.key")
        server = ThreadingHTTPServer((LOOPBACK, 0), _handler(judge))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return Other(f"https://{LOOPBACK}:{server.server_port}", authority.pair.certificate)

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def _handler(judge: Callable[[Object], Operations]) -> type[BaseHTTPRequestHandler]:
    class Handler(JsonHandler, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operations = judge(review["request"]["object"])
            patch = {"patch": b64encode(json.dumps(operations).encode()).decode(), "patchType": "JSONPatch"}
            answer = {"uid": review["request"]["uid"], "allowed": True, **(patch if operations else {})}
            self.answer(200, {**review, "request": None, "response": answer})

    return Handler


@pytest.fixture
def install(user: User) -> Iterator[Callable[..., None]]:
    """Install a configuration, and wait until the API server calls it."""
    made: list[str] = []

    def run(configuration: dict[str, Any], namespace: str, effect: Callable[[Object], bool]) -> None:
        user.api.create(MUTATING_WEBHOOKS, configuration)
        made.append(configuration["metadata"]["name"])
        eventually(lambda: effect(create(user, namespace, pod("probe"), dry_run=True)), "the other webhook is called")

    yield run
    for name in made:
        user.api.delete(MUTATING_WEBHOOKS, name)


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    """A pod of class net-intensive whose one container asks for half a CPU."""
    annotations = {"podsla.io/class": "net-intensive"}
    resources = {"requests": {"cpu": "500m", "memory": "1Gi"}}
    container = {"name": "app", "image": "example.com/app:1", "resources": resources}
    return {"metadata": {"name": name, "annotations": annotations, **metadata}, "spec": {"containers": [container]}}


def create(user: User, namespace: str, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
    """Create a pod, or let the API server do all but store it."""
    return user.api.call("POST", PODS.path(namespace), {"dryRun": "All"} if dry_run else {}, body)


def as_sent(stored: Object, name: str) -> dict[str, Any]:
    """Take from a stored pod what a person would copy into a new one."""
    metadata = {key: stored["metadata"][key] for key in ("labels", "annotations")}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": stored["spec"]}


def record_of(stored: Object) -> dict[str, Any]:
    """Read a pod's record."""
    record: dict[str, Any] = json.loads(stored["metadata"]["annotations"][RECORD])
    return record


def assert_explained(user: User, namespace: str, stored: Object, folder: Path) -> None:
    """Check that the record's input is this very pod, and that nothing is left to write, here and offline."""
    spec, record = stored["spec"], record_of(stored)
    names = [container["name"] for container in (*spec.get("initContainers", ()), *spec["containers"])]
    assert [container["name"] for container in record["input"]["containers"]] == names
    assert stored["metadata"]["labels"][SIZE] == record["size"]

    again = create(user, namespace, as_sent(stored, "again"), dry_run=True)
    assert again["spec"] == stored["spec"]
    assert again["metadata"]["annotations"] == stored["metadata"]["annotations"]

    file = folder / "stored.json"
    file.write_text(json.dumps(as_sent(stored, "stored")))
    done = user.podsla("admit", "-f", str(file), "--catalog", str(save_catalogs(user.api, folder)), "-o", "patch")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def reserved(stored: Object) -> tuple[str, str]:
    """Say what is asked of vCPU and memory."""
    dimensions = record_of(stored)["dimensions"]
    return dimensions["vcpu"]["ask"], dimensions["memory"]["ask"]


# --- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.usefixtures("catalogs")
def test_a_sidecar_that_the_kubernetes_tests_inject_is_part_of_the_pod(
    name: str,
    user: User,
    agnhost: Other,
    install: Callable[..., None],
    namespace: Callable[..., str],
    tmp_path: Path,
) -> None:
    """It asks for nothing; the API server's LimitRange then fills in requests, after either webhook was called."""
    made = namespace()
    usual = {"type": "Container", "defaultRequest": {"cpu": "200m", "memory": "64Mi"}}
    user.api.create(LIMIT_RANGES, {"metadata": {"name": "usual"}, "spec": {"limits": [usual]}}, made)
    configuration = agnhost.configuration(name, "/mutating-pods-sidecar", made, "IfNeeded")
    install(configuration, made, lambda found: len(found["spec"]["containers"]) == 2)

    stored = create(user, made, pod("web"))
    sidecar = next(c for c in stored["spec"]["containers"] if c["name"] == SIDECAR)
    assert sidecar["resources"] == {"requests": {"cpu": "200m", "memory": "64Mi"}}
    assert reserved(stored) == ("700m", "1088Mi")
    assert_explained(user, made, stored, tmp_path)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.usefixtures("catalogs")
def test_a_native_sidecar_with_requests_is_part_of_the_pod(
    name: str,
    user: User,
    serve: Callable[[Callable[[Object], Operations]], Other],
    install: Callable[..., None],
    namespace: Callable[..., str],
    tmp_path: Path,
) -> None:
    """A mesh's proxy: it is put in front of the pod's own containers, and called once only."""
    made = namespace()
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
    proxy = {"name": "proxy", "image": "example.com/p:1", "restartPolicy": "Always", "resources": resources}

    def inject(found: Object) -> Operations:
        if found["spec"].get("initContainers"):
            return []
        return [{"op": "add", "path": "/spec/initContainers", "value": [proxy]}]

    configuration = serve(inject).configuration(name, "/", made, "Never")
    install(configuration, made, lambda found: "initContainers" in found["spec"])

    stored = create(user, made, pod("web"))
    assert stored["spec"]["initContainers"][0]["resources"] == resources
    assert reserved(stored) == ("2500m", "2Gi")
    assert_explained(user, made, stored, tmp_path)


@pytest.mark.usefixtures("catalogs")
def test_requests_that_another_sets_after_ours_are_the_new_ask(
    user: User,
    serve: Callable[[Callable[[Object], Operations]], Other],
    install: Callable[..., None],
    namespace: Callable[..., str],
    tmp_path: Path,
) -> None:
    """As the vertical pod autoscaler does: it sets requests by what the pod used before."""
    made = namespace()

    def resize(found: Object) -> Operations:
        return [{"op": "replace", "path": "/spec/containers/0/resources/requests/cpu", "value": "9"}]

    configuration = serve(resize).configuration("z-other", "/", made, "IfNeeded")
    install(configuration, made, lambda found: found["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "9")

    stored = create(user, made, pod("web"))
    assert reserved(stored) == ("9", "1Gi")
    assert record_of(stored)["input"]["containers"][0]["requests"] == {"cpu": "9", "memory": "1Gi"}
    assert_explained(user, made, stored, tmp_path)


OURS: Final = ("/spec/affinity", "/spec/containers/0/resources/limits", "/metadata/annotations/podsla.io~1record")


@pytest.mark.usefixtures("catalogs")
def test_what_another_takes_out_after_ours_is_written_again(
    user: User,
    serve: Callable[[Callable[[Object], Operations]], Other],
    install: Callable[..., None],
    namespace: Callable[..., str],
    tmp_path: Path,
) -> None:
    """Seen to fail without `reinvocationPolicy: IfNeeded` in the manifests: nothing is written again."""
    made = namespace()
    before = create(user, made, pod("before"))
    calls: list[int] = []

    def strip(found: Object) -> Operations:
        calls.append(1)
        if "affinity" not in found["spec"]:
            return []
        requests = "/spec/containers/0/resources/requests/podsla.io~1pps"
        return [{"op": "remove", "path": path} for path in (*OURS, requests, "/metadata/labels/podsla.io~1size")]

    server = serve(strip)
    install(server.configuration("z-other", "/", made, "Never"), made, lambda _: bool(calls))
    calls.clear()

    stored = create(user, made, pod("web"))
    assert len(calls) == 1
    assert stored["spec"]["affinity"] == before["spec"]["affinity"]
    assert stored["spec"]["containers"][0]["resources"] == before["spec"]["containers"][0]["resources"]
    assert record_of(stored) == record_of(before)
    assert_explained(user, made, stored, tmp_path)


@pytest.mark.usefixtures("catalogs")
def test_a_dry_run_stores_nothing_and_gives_the_same_pod(user: User, namespace: Callable[..., str]) -> None:
    """Seen to fail where a dry run is left alone: it shows no size."""
    made = namespace()
    tried = create(user, made, pod("web"), dry_run=True)
    assert list(user.api.list(PODS, made)) == []

    stored = create(user, made, pod("web"))
    assert tried["metadata"]["annotations"] == stored["metadata"]["annotations"]
    assert tried["metadata"]["labels"] == stored["metadata"]["labels"]
    assert without_token(tried["spec"]) == without_token(stored["spec"])


def without_token(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the service account's token, whose volume has a random name."""
    containers = [{**container, "volumeMounts": None} for container in spec["containers"]]
    return {**spec, "volumes": None, "containers": containers}


# --- the placeholder of an attachment ---------------------------------------------------------------------------------

PROXY: Final = {"name": "proxy", "image": "example.com/p:1"}
BESIDE: Final[Operations] = [{"op": "add", "path": "/spec/containers/-", "value": PROXY}]
BEFORE: Final[Operations] = [
    {"op": "add", "path": "/spec/initContainers", "value": [{**PROXY, "restartPolicy": "Always"}]}
]


def keys(found: Object, of: str) -> dict[str, str]:
    """Read labels or annotations, but those of its node's place, which the API server puts on pods that are bound."""
    said: Mapping[str, str] = found["metadata"].get(of) or {}
    return {key: text for key, text in said.items() if not key.startswith("topology.kubernetes.io/")}


def injecting(operations: Operations, opted_out: Callable[[Object], bool]) -> Callable[[Object], Operations]:
    """An injector of sidecars that leaves pods alone which have one already, or opt out in its own words."""

    def judge(found: Object) -> Operations:
        return [] if "proxy" in str(found["spec"]) or opted_out(found) else operations

    return judge


def is_within(sent: object, stored: object) -> bool:
    """Tell whether all that was sent is stored as it was; the API server fills in the rest."""
    match sent, stored:
        case dict(), dict():
            return all(key in stored and is_within(value, stored[key]) for key, value in sent.items())
        case list(), list():
            return len(sent) == len(stored) and all(map(is_within, sent, stored))
    return sent == stored


@pytest.fixture
def borrowing(user: User, namespace: Callable[..., str], install: Callable[..., None]) -> Callable[[Other], Lending]:
    """A pod that may borrow, in a namespace with a default class where another's webhook is called after ours."""

    def run(server: Other) -> Lending:
        made = namespace(default_class="general")
        install(server.configuration("z-other", "/", made, "IfNeeded"), made, lambda f: "proxy" in str(f["spec"]))
        stored = create(user, made, pod("borrower", annotations={"podsla.io/class": "gpu-on-demand"}))
        assert "proxy" in str(stored["spec"]), "it does inject"
        assert stored["spec"]["containers"][0]["resources"]["limits"][GPU_SEATS] == "1"
        lending = Lending(user.api, user.api, user, made)
        eventually(lambda: user.api.get(PODS, "borrower", made)["status"]["phase"] == "Running", "it runs")  # type: ignore[index]
        return lending

    return run


@pytest.mark.parametrize(
    "opted_out",
    [
        pytest.param(lambda f: keys(f, "labels").get("sidecar.istio.io/inject") == "false", id="Istio, by label"),
        pytest.param(lambda f: keys(f, "annotations").get("sidecar.istio.io/inject") == "false", id="by annotation"),
        pytest.param(lambda f: keys(f, "annotations").get("linkerd.io/inject") == "disabled", id="Linkerd"),
    ],
)
@pytest.mark.usefixtures("catalogs")
def test_a_default_class_and_an_injector_of_sidecars_leave_a_placeholder_as_it_was_written(
    opted_out: Callable[[Object], bool],
    serve: Callable[[Callable[[Object], Operations]], Other],
    borrowing: Callable[[Other], Lending],
) -> None:
    """
    It gets no size and no sidecar, reserves the GPU, and its attachment goes on.

    Seen to fail where `attach.placeholder._metadata` leaves out the class `none` (the default class has no size with a
    GPU, so it is refused), and where it leaves out the words for Istio and Linkerd (nothing reserves).
    """
    lending = borrowing(serve(injecting(BESIDE, opted_out)))

    lending.ask("evaluate", "borrower")

    attachment = lending.until_reason("evaluate", "Scheduled")
    stored, target = lending.placeholder(attachment), lending.api.get(PODS, "borrower", lending.namespace)
    assert stored is not None
    assert target is not None
    sent = placeholder(attachment, read_pod(target), stored["spec"]["containers"][0]["image"])
    assert is_within(sent, stored)
    assert {of: keys(stored, of) for of in ("labels", "annotations")} == {
        of: sent["metadata"][of] for of in ("labels", "annotations")
    }
    assert stored["spec"]["containers"][0]["resources"]["requests"]["nvidia.com/gpu"] == "1"
    assert stored["spec"]["nodeName"] == target["spec"]["nodeName"]
    assert "initContainers" not in stored["spec"]
    with Agent(lending, {}).working():
        lending.until("evaluate", Type.RESERVED)
        lending.release("evaluate")
        ended(lending, "evaluate", Type.RELEASED, "Released")


@pytest.mark.parametrize(
    ("operations", "changed"),
    [
        pytest.param(BESIDE, f"containers {CONTAINER}, proxy, and was sent with {CONTAINER}", id="beside"),
        pytest.param(BEFORE, "init containers proxy, and was sent with none", id="a native sidecar"),
    ],
)
@pytest.mark.usefixtures("catalogs")
def test_an_injector_that_heeds_no_word_ends_the_attachment_and_nothing_is_left_of_it(
    operations: Operations,
    changed: str,
    serve: Callable[[Callable[[Object], Operations]], Other],
    borrowing: Callable[[Other], Lending],
) -> None:
    """Seen to fail where `attach.placeholder.mutation` finds nothing: the attachment goes on to Scheduled."""
    lending = borrowing(serve(injecting(operations, lambda _: False)))

    lending.ask("evaluate", "borrower")

    ended(lending, "evaluate", Type.FAILED, "PlaceholderMutated")
    said = lending.read("evaluate").status.condition(Type.FAILED)["message"]
    assert f": it came back with {changed}; another webhook changed it" in said
    assert list(lending.api.list(PODS, lending.namespace, labelSelector=PLACEHOLDER)) == []

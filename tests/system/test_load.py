"""Pods and nodes by the hundred: none fails and none is left out, however long each of them takes."""

import json
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPSConnection
from itertools import repeat
from threading import Event
from typing import Any, Final

import pytest

from bench.cluster.load import Server, Stored, back_to_back, create_pods, stored
from bench.cluster.plan import Created, evenly, failures, is_sized
from bench.cluster.stand import OURS, pod_of
from catalog.dimension import PPS
from catalog.load import DEFAULT_TARGET, SHIPPED_CATALOG, load_catalog, load_target
from catalog.quantity import parse_integer
from kube.kinds import NODES, PODS
from tests.cluster.network import LOOPBACK
from tests.cluster.nodes import nodes
from tests.cluster.probe import unchecked
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually
from tests.webhook.test_server import HEAD
from webhook.queue import MAX_CALLS

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

JOINING: Final = 200
TOGETHER: Final = 20
FLOOD: Final = 10 * MAX_CALLS
WAIT_S: Final = 120.0


@pytest.mark.parametrize(
    ("due_s", "connections"),
    [
        pytest.param(lambda: [0.0] * 84, 84, id="84 pods at the same moment"),
        pytest.param(lambda: evenly(340, 20.0), 8, id="17 pods a second for 20 s, as in a minute of 1,000"),
        pytest.param(lambda: back_to_back(10.0), 8, id="as many as 8 clients can create in 10 s"),
    ],
)
def test_under_load_every_pod_is_created_and_has_a_size(
    user: User, namespace: Callable[..., str], due_s: Callable[[], Iterable[float]], connections: int
) -> None:
    """
    The answer and what is stored agree; each connection creates at least one pod.

    Seen to fail, with more pods than may wait at once, where a place in the queue is not given back.
    """
    where, pod = namespace(), pod_of(OURS)
    serves(user, where)
    made = create_pods(Server.of(user.kubeconfig), where, repeat(pod), due_s(), connections)
    assert failures(made) == []
    assert [one for one in made if not one.sized] == []
    assert len(made) >= connections
    assert stored(user.api, where) == Stored(pods=len(made), unmutated=0)


def serves(user: User, where: str) -> None:
    """Wait until pods of the bench's class can be created there."""
    create = ("create", "--namespace", where, "--dry-run=server", "-f", "-")
    text = json.dumps(pod_of(OURS))
    eventually(lambda: user.kubectl(*create, text=text).returncode == 0, "podsla serves the class")


@contextmanager
def full(port: int) -> Iterator[None]:
    """Have as many calls wait as there is room for: their bodies have begun, and do not end."""
    context = unchecked()
    with ExitStack() as opened:
        calls = []
        for _ in range(MAX_CALLS):
            plain = opened.enter_context(socket.create_connection((LOOPBACK, port)))
            calls.append(opened.enter_context(context.wrap_socket(plain)))
        for call in calls:  # each ends 10 s after its head, so all of them begin together
            call.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        yield


def test_a_pod_that_finds_the_queue_full_is_sent_again_by_the_api_server_and_gets_its_size(
    user: User, beside: Cluster, namespace: Callable[..., str]
) -> None:
    """Nobody who creates a pod sees that podsla had too much to do. Seen to fail without `Retry-After`."""
    where = namespace()
    serves(user, where)

    def waiting() -> float:
        return user.metrics(beside, "webhook")["podsla_admission_waiting"]

    before = overloaded(user, beside)
    with ThreadPoolExecutor(1) as pool:
        with full(beside.ports["podsla-webhook"]):
            eventually(lambda: waiting() >= MAX_CALLS, "the queue is full")
            asked = pool.submit(user.api.call, "POST", PODS.path(where), {}, pod_of(OURS))
            eventually(lambda: overloaded(user, beside) > before, "it is told to come again")
        assert is_sized(asked.result())


def flood(user: User, beside: Cluster, where: str, pods: int) -> tuple[list[Created], set[int]]:
    """Create so many pods at once while the queue is full; what became of them, and how probes were answered then."""
    port, before, probed = beside.ports["podsla-webhook"], overloaded(user, beside), set[int]()
    connected, begun = Event(), Event()

    def moments() -> Iterator[float]:
        connected.set()
        begun.wait(WAIT_S)
        yield from [0.0] * pods

    with ThreadPoolExecutor(1) as pool:
        server = Server.of(user.kubeconfig)
        creating = pool.submit(create_pods, server, where, repeat(pod_of(OURS)), moments(), pods)
        connected.wait(WAIT_S)
        with full(port):
            begun.set()
            eventually(
                lambda: overloaded(user, beside) >= before + min(pods, MAX_CALLS), "they are told to come again", WAIT_S
            )
            probed.add(probe(port))
        while not creating.done():
            probed.add(probe(port))
    return creating.result(), probed


def probe(port: int) -> int:
    """The status of /readyz, however long it takes."""
    with closing(HTTPSConnection(LOOPBACK, port, context=unchecked(), timeout=WAIT_S)) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().status


def overloaded(user: User, beside: Cluster) -> float:
    """How many calls were told that too many wait."""
    return user.metrics(beside, "webhook")['podsla_admission_errors_total{kind="overloaded"}']


def test_pods_that_find_the_queue_full_together_are_all_created(
    user: User, beside: Cluster, namespace: Callable[..., str]
) -> None:
    """They come again together, too. Seen to fail without `Retry-After`."""
    where = namespace()
    serves(user, where)
    made, _ = flood(user, beside, where, TOGETHER)
    assert failures(made) == []
    assert stored(user.api, where) == Stored(pods=TOGETHER, unmutated=0)


def test_ten_times_as_many_pods_at_once_as_may_wait_leave_it_whole(
    user: User, beside: Cluster, namespace: Callable[..., str]
) -> None:
    """
    Where not all can be answered while the API server waits, the rest fail and say so; nothing else comes of it.

    Seen to fail where probes wait in the queue like reviews: it is not ready while it is full.
    """
    where, further = namespace(), namespace()
    serves(user, where)
    made, probed = flood(user, beside, where, FLOOD)
    print(f"{sum(one.failed for one in made)} of {FLOOD} failed")  # by how fast the machine is: 5 s, and no more
    assert probed == {200}, "it is ready all the time"
    assert all('failed calling webhook \\"pods.podsla.io\\"' in one.message for one in made if one.failed)
    assert stored(user.api, where) == Stored(pods=sum(one.sized for one in made), unmutated=0)
    again = create_pods(Server.of(user.kubeconfig), further, repeat(pod_of(OURS)), [0.0] * 84, 84)
    assert failures(again) == [], "it goes on as before"


@pytest.fixture
def joining(user: User) -> Iterator[list[dict[str, Any]]]:
    """Nodes that come at once, of twelve sizes; DaemonSets and other tests' pods keep off them."""
    written = [_apart(node) for node in nodes(JOINING, load_catalog([SHIPPED_CATALOG]), load_target(DEFAULT_TARGET))]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda node: user.api.create(NODES, node), written))
    yield written
    query = {"labelSelector": "type=joining"}
    user.api.send("DELETE", NODES.path(), query, read_timeout_s=WAIT_S).drain_conn()


def _apart(node: dict[str, Any]) -> dict[str, Any]:
    metadata = node["metadata"]
    labels = {**metadata["labels"], "type": "joining"}
    taint = {"key": "example.com/joining", "effect": "NoSchedule"}
    return {
        **node,
        "metadata": {**metadata, "name": f"joining-{metadata['name']}", "labels": labels},
        "spec": {"taints": [taint]},
    }


def test_nodes_that_come_by_the_hundred_all_carry_their_capacity(user: User, joining: list[dict[str, Any]]) -> None:
    """Each has the packets/s of its size, less the share that the target keeps back."""
    target = load_target(DEFAULT_TARGET)
    percent = {
        size.name: (size.figures[PPS.index] or 0) * target.capacity_percent // 100
        for size in load_catalog([SHIPPED_CATALOG]).sizes
    }
    expected = {
        node["metadata"]["name"]: percent[node["metadata"]["labels"]["node.kubernetes.io/instance-type"]]
        for node in joining
    }
    assert all(expected.values())

    def offered() -> dict[str, int]:
        found = user.api.list(NODES, labelSelector="type=joining")
        return {
            node["metadata"]["name"]: parse_integer(node["status"]["allocatable"].get(PPS.resource, "0"))
            for node in found
        }

    eventually(lambda: offered() == expected, f"all {JOINING} nodes carry their packets/s", WAIT_S)

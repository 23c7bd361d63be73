"""Pods and nodes by the hundred: none fails and none is left out, however long each of them takes."""

import json
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import repeat
from typing import Any, Final

import pytest

from bench.cluster.load import Server, Stored, back_to_back, create_pods, stored
from bench.cluster.plan import evenly, failures, is_sized
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
    """The answer and what is stored agree; each connection creates at least one pod."""
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
    """Nobody who creates a pod sees that podsla had too much to do."""
    where = namespace()
    serves(user, where)

    def refused() -> float:
        return user.metrics(beside, "webhook")['podsla_admission_errors_total{kind="overloaded"}']

    def waiting() -> float:
        return user.metrics(beside, "webhook")["podsla_admission_waiting"]

    before = refused()
    with ThreadPoolExecutor(1) as pool:
        with full(beside.ports["podsla-webhook"]):
            eventually(lambda: waiting() >= MAX_CALLS, "the queue is full")
            asked = pool.submit(user.api.call, "POST", PODS.path(where), {}, pod_of(OURS))
            eventually(lambda: refused() > before, "it is told to come again")
        assert is_sized(asked.result())


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

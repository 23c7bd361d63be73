"""`make soak`, cut short: everything that can happen, once, in random order; and the start from nothing after it."""

import random
import select
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final

import pytest

from catalog.keys import CLASS, SIZE
from kube.api import ApiError, Object, Resource
from kube.kinds import LEASES, NODES, PODS
from tests.builders import container, pod, template, workload
from tests.cluster.install import NAMESPACE
from tests.soak.events import publish
from tests.soak.report import lines
from tests.soak.soak import PER_S, soak
from tests.soak.stand import HOME, WAIT_S, Stand, stand
from tests.waiting import eventually
from tests.webhook.test_lifecycle import running
from tests.webhook.test_server import body_of, post, size_of

pytestmark = pytest.mark.cluster

POOL_S: Final = 90.0  # for which the API server keeps an idle connection
DEPLOYMENTS: Final = Resource("apps/v1", "deployments")
SMALL: Final = [container(requests={"cpu": "100m", "memory": "64Mi"})]


@pytest.fixture(scope="module")
def made() -> Iterator[Stand]:
    """What everything happens to."""
    with stand("podsla-soak-test", lambda _: None) as made:
        yield made


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[tuple[bool, str]]]:
    """A connection to another server: whether it was closed while nothing came on it for so long, and what came then."""
    with (
        running(tmp_path_factory.mktemp("idle"), "{}") as server,
        closing(server.connect()) as connection,
        ThreadPoolExecutor(1) as beside,
    ):

        def wait() -> tuple[bool, str]:
            post(connection, body_of())
            assert connection.sock is not None
            closed, _, _ = select.select([connection.sock], [], [], POOL_S + 5.0)
            return bool(closed), size_of(post(connection, body_of()))

        yield beside.submit(wait)


@pytest.mark.usefixtures("idle")
def test_whatever_happens_no_planned_event_fails_a_pod_and_no_pod_goes_without_its_size(made: Stand) -> None:
    """A replica that is killed takes the calls with it that were under way or sent before its endpoint left."""
    seed = random.SystemRandom().randrange(10_000)
    said: list[str] = [f"seed {seed}"]
    told = soak(made, 60.0, seed, 20.0, said.append)
    text = "\n".join([*said, *lines(told)])
    print(text)

    assert sum(not one.failed for one in told.made) > 60 * PER_S / 2, text
    assert told.failed(planned=True) == [], text
    assert told.unmutated == 0, text
    assert told.unpublished == set(), text
    assert told.revisions, text
    assert told.grew == [], text
    assert len(told.failed(planned=False)) <= PER_S * 10, text


def test_row_24_an_idle_connection_is_kept_for_longer_than_the_api_server_keeps_it(
    idle: Future[tuple[bool, str]],
) -> None:
    """Else a pod would be sent on one that is being closed, and nobody repeats it. It waits while the soak goes on."""
    assert idle.result(POOL_S + WAIT_S) == (False, "medium")


def named(name: str, namespace: str, sla_class: str | None) -> dict[str, Any]:
    """A pod."""
    return pod(sla_class, containers=SMALL, metadata={"name": name, "namespace": namespace})


def deployment(name: str, sla_class: str | None) -> dict[str, Any]:
    """A Deployment of one pod."""
    labels = {"app": name}
    made = template(sla_class, labels=labels, containers=SMALL)
    metadata = {"name": name, "namespace": None}
    document = workload(metadata=metadata, template=made, replicas=1, selector={"matchLabels": labels})
    return {"apiVersion": "apps/v1", **document}


def pods_of(made: Stand, namespace: str, name: str) -> list[Object]:
    """The pods of a Deployment."""
    return list(made.api.list(PODS, namespace, labelSelector=f"app={name}"))


def test_row_26_a_cluster_that_was_down_as_a_whole_comes_back_by_itself(made: Stand) -> None:
    """What podsla needs to start waits for nobody, and what waits for podsla goes on once it is there."""
    publish(made)
    made.lose_everything()
    api = made.api
    assert all(made.bundles()), "the cluster is still told to ask podsla"

    api.create(NODES, {"metadata": {"name": "cold-1"}})
    api.create(LEASES, {"metadata": {"name": "cold-1"}}, "kube-node-lease")
    api.create(PODS, named("cold-dns", "kube-system", "general"), "kube-system")
    api.create(PODS, named("cold-plain", HOME, None), HOME)
    api.create(DEPLOYMENTS, deployment("cold-own", None), NAMESPACE)
    eventually(lambda: pods_of(made, NAMESPACE, "cold-own"), "a pod of podsla's own namespace is created", WAIT_S)
    with pytest.raises(ApiError, match="failed calling webhook"):
        api.create(PODS, named("cold-sized", HOME, "general"), HOME)
    api.create(DEPLOYMENTS, deployment("cold-waits", "general"), HOME)

    for start in (made.start_controller, made.start_replica, made.start_replica):
        start()
    (waited,) = eventually(lambda: pods_of(made, HOME, "cold-waits"), "what waited is created", WAIT_S)
    assert waited["metadata"]["annotations"][CLASS] == "general"
    assert SIZE in waited["metadata"]["labels"]

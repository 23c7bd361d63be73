"""Certificates that several keep at once: there is one CA, and no replica serves what a bundle would not have accepted.

Only who leads keeps them, and one at a time does; most of what is shown here holds without that.
"""

import os
import signal
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from http.client import CONFLICT
from threading import Barrier, BrokenBarrierError, Event
from typing import Final, TypeVar

import pytest
from cryptography import x509

from controller.certificates import CA_SECRET, LEAF_SECRET, SERVICE, Certificates
from controller.metrics import Metrics
from controller.world import WEBHOOKS, World
from kube.api import Api, ApiError, Object, Resource
from kube.kinds import SECRETS
from kube.watch import Watched
from tests.cluster.install import PODSLA, ROOT, service_account_kubeconfig
from tests.cluster.network import LOOPBACK, free_ports
from tests.cluster.processes import is_alive, start
from tests.cluster.state import Process, load_cluster
from tests.controller.test_crashes import NAMESPACE
from tests.waiting import eventually
from tests.webhook.test_certificate import accepts, certificates

pytestmark = pytest.mark.cluster

AT_ONCE: Final = 3
WAIT_S: Final = 60.0
NAME: Final = f"{SERVICE}.{NAMESPACE}.svc"
T = TypeVar("T")
UNREADABLE: Final = {"tls.crt": "AA==", "tls.key": "AA=="}


class Paused(Api):
    """A connection of somebody who looks at what is stored, and does nothing more until *pause* returns."""

    def __init__(self, api: Api, pause: Callable[[], object]) -> None:
        super().__init__(api.client)
        self.pause = pause

    def get(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        found = super().get(resource, name, namespace)
        if name == LEAF_SECRET:  # which is looked at last
            self.pause()
        return found


class History:
    """Every version of the Secrets and of the configurations, in the order in which the API server took them."""

    def __init__(self, api: Api) -> None:
        self.api, self.seen = api, dict[int, Object]()
        self.watched = [
            Watched(api, SECRETS, namespace=NAMESPACE, keep=self._note),
            *(Watched(api, kind, selectors=named(name), keep=self._note) for kind, name in WEBHOOKS),
        ]
        for each in self.watched:
            each.start()
        eventually(lambda: all(each.synced for each in self.watched), "everything is watched", WAIT_S)

    def _note(self, thing: Object) -> Object:
        self.seen[version_of(thing)] = thing
        return thing

    def _stored(self) -> list[Object]:
        return [
            *self.api.list(SECRETS, NAMESPACE),
            *(self.api.call("GET", kind.path(name=name)) for kind, name in WEBHOOKS),
        ]

    def trusted(self) -> set[x509.Certificate]:
        """The CAs that ever were in a bundle; each leaf is accepted by all bundles at any time, or this fails."""
        eventually(lambda: self.seen.keys() >= {version_of(thing) for thing in self._stored()}, "all was seen", WAIT_S)
        leaf, by_uid, found = "", dict[str, set[str]](), set[x509.Certificate]()
        for _, thing in sorted(self.seen.items()):
            if "webhooks" in thing:
                by_uid[thing["metadata"]["uid"]] = bundles_of(thing)
            elif thing["metadata"]["name"] == LEAF_SECRET:
                leaf = thing["data"]["tls.crt"]
            bundles = set().union(*by_uid.values())
            found |= {one for bundle in bundles for one in certificates(bundle)}
            assert not leaf or all(accepts(bundle, leaf, NAME, datetime.now(UTC)) for bundle in bundles)
        return found


def version_of(thing: Object) -> int:
    return int(thing["metadata"]["resourceVersion"])


def named(name: str) -> dict[str, str]:
    return {"fieldSelector": f"metadata.name={name}"}


def bundles_of(configuration: Object) -> set[str]:
    return {hook["clientConfig"].get("caBundle", "") for hook in configuration["webhooks"]}


def bundles(api: Api) -> set[str]:
    """The bundles of all entries, "" where one has none."""
    return set().union(*(bundles_of(api.call("GET", kind.path(name=name))) for kind, name in WEBHOOKS))


def is_installed(api: Api) -> bool:
    return api.get(SECRETS, LEAF_SECRET, NAMESPACE) is not None and len(bundles(api)) == 1 and "" not in bundles(api)


@pytest.fixture
def history(bare: Api, uncertified: None) -> Iterator[History]:
    """Of a cluster in which there is neither a CA nor a leaf, and no bundle."""
    made = History(bare)
    yield made
    for each in made.watched:
        each.stop()


@pytest.fixture
def keeper() -> Iterator[Callable[[Api], Certificates]]:
    """Make reconcilers that ask nobody whether they lead."""
    worlds: list[World] = []

    def make(api: Api) -> Certificates:
        world = World(api, NAMESPACE, lambda: None)
        worlds.append(world)
        for each in world.webhooks:
            each.start()
        eventually(lambda: all(each.synced for each in world.webhooks), "the configurations are known", WAIT_S)
        return Certificates(world, Metrics(lambda: True))

    yield make
    for world in worlds:
        for each in world.webhooks:
            each.stop()


def look(one: Certificates) -> None:
    """Reconcile once; whoever comes too late is refused, and looks again."""
    try:
        one.reconcile()
    except ApiError as error:
        if error.status != CONFLICT:
            raise


def look_until(condition: Callable[[], T], one: Certificates) -> T:
    """Reconcile again and again."""

    def met() -> T:
        look(one)
        return condition()

    return eventually(met, "certificates are kept", WAIT_S)


def test_three_that_look_at_the_same_moments_make_one_ca(
    bare: Api, history: History, keeper: Callable[[Api], Certificates]
) -> None:
    """All have read, each time, before anybody writes. Seen to fail where a CA is published before it is kept."""
    barrier = Barrier(AT_ONCE)

    def meet() -> None:
        with suppress(BrokenBarrierError):  # somebody had nothing to look at
            barrier.wait(1.0)

    keepers = [keeper(Paused(bare, meet)) for _ in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:

        def all_look() -> bool:
            barrier.reset()
            list(pool.map(look, keepers))
            return is_installed(bare)

        eventually(all_look, "there is a leaf, and a bundle", WAIT_S)
        all_look()
    assert len(history.trusted()) == 1


def nothing(api: Api, first: Certificates) -> None:
    """There is nothing yet."""


def unreadable(api: Api, first: Certificates) -> None:
    """There is a CA, which cannot be read any more."""
    look_until(lambda: is_installed(api), first)
    api.patch(SECRETS, CA_SECRET, {"data": UNREADABLE}, namespace=NAMESPACE)


@pytest.mark.parametrize(
    ("before", "earlier"), [pytest.param(nothing, 0, id="created"), pytest.param(unreadable, 1, id="replaced")]
)
def test_who_has_looked_long_ago_puts_no_other_ca_in_place_of_one_that_is_published(
    before: Callable[[Api, Certificates], None],
    earlier: int,
    bare: Api,
    history: History,
    keeper: Callable[[Api], Certificates],
) -> None:
    """
    It stood still between its look and its write, and another has published a CA meanwhile.

    Seen to fail where what is there is overwritten, whatever its version: by its name, or without resourceVersion.
    """
    looked, awake = Event(), Event()

    def stand_still() -> None:
        looked.set()
        awake.wait(WAIT_S)

    first, late = keeper(bare), keeper(Paused(bare, stand_still))
    before(bare, first)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(late.reconcile)
        try:
            assert looked.wait(WAIT_S)
            published = look_until(lambda: published_everywhere(bare, earlier + 1), first)
        finally:
            awake.set()
        refused = writing.exception()
    for _ in range(3):
        look(late)
        look(first)
    assert history.trusted() == published
    assert isinstance(refused, ApiError)
    assert refused.status == CONFLICT


def published_everywhere(api: Api, number: int) -> set[x509.Certificate]:
    """The CAs of the bundle, once all entries have the same and there are so many in it; else nothing."""
    found = bundles(api)
    trusted = {one for bundle in found for one in certificates(bundle)}
    return trusted if len(found) == 1 and len(trusted) == number else set()


# --- as processes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def started(bare: Api, history: History) -> Iterator[Callable[[str, str], list[int]]]:
    """Start programs of podsla at once, each on a port of its own; they are ended afterwards."""
    cluster = load_cluster("podsla-controller")
    if cluster is None:
        pytest.skip("processes beside a cluster are started by the project's own launcher, not by kind")
    running: list[Process] = []

    def run(name: str, *arguments: str) -> list[int]:
        ports = free_ports([f"{name}-{number}" for number in range(AT_ONCE)], cluster.ports.values())
        config = str(service_account_kubeconfig(cluster, f"podsla-{name}"))
        for made, port in ports.items():
            argv = [str(PODSLA), name, "--kubeconfig", config, "--port", str(port), *arguments]
            running.append(start(cluster, made, argv, cwd=ROOT))
        return list(ports.values())

    yield run
    for process in running:
        os.kill(process.pid, signal.SIGTERM)
    eventually(lambda: not any(map(is_alive, running)), "all have ended", WAIT_S)


def served(port: int) -> str:
    """The certificate that a replica shows, in the base64 of Secrets."""
    return b64encode(ssl.get_server_certificate((LOOPBACK, port)).encode()).decode()


def test_controllers_and_replicas_that_start_at_once_agree(
    bare: Api, history: History, started: Callable[..., list[int]]
) -> None:
    """
    Three of each, in a cluster in which there is nothing: every API server accepts every replica.

    Without the Lease it held, too: what fails without its protection stands above.
    """
    started("controller")
    replicas = started("webhook", "--address", LOOPBACK)

    shown = [eventually(lambda port=port: served(port), f"{port} serves", WAIT_S) for port in replicas]  # type: ignore[misc]

    assert is_installed(bare)
    for leaf in shown:
        assert all(accepts(bundle, leaf, NAME, datetime.now(UTC)) for bundle in bundles(bare))
    assert len(history.trusted()) == 1

"""Karpenter's overlays follow the catalogue, on a real API server, with no more rights than the manifests give."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from controller.metrics import Metrics
from controller.overlays import LOOK_EVERY_S, Overlays
from controller.process import reconcilers
from controller.serving import Serving
from controller.world import World
from kube.api import Api, ApiError, Object
from kube.kinds import CONFIG_MAPS, EVENTS, NODE_OVERLAYS
from tests.cluster.binaries import find
from tests.cluster.install import NAMESPACE, PODSLA, service_account_kubeconfig
from tests.cluster.own import own_cluster
from tests.cluster.pins import KARPENTER_CRDS
from tests.cluster.state import load_cluster
from tests.controller.test_crashes import publish, taken_names
from tests.manifests.kubectl import MANIFESTS, run
from tests.system.rights import check_least, granted, used
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

GROUP: Final = "karpenter.sh"
CRD: Final = f"nodeoverlays.{GROUP}"
TARGET: Final = (
    "apiVersion: podsla.io/v1beta1\nkind: Target\nmetadata: {name: lab}\n"
    "spec: {consumers: [{by: reservation}], autoscaler: {karpenter: %s}}\n"
)


class Controller:
    """Podsla's controller with the rights of its service account; time passes when the test says so."""

    def __init__(self, api: Api) -> None:
        self.world = World(api, NAMESPACE, lambda: None).start()
        self.now_s = 0.0
        self.tasks = [
            task for task in reconcilers(self.world, Metrics(lambda: True)) if task.name in ("target", "catalogs")
        ]
        self.overlays = Overlays(self.world, Serving(self.world), lambda: self.now_s)

    def settle(self, done: Callable[[], object], what: str) -> None:
        """Go on, look after look, until it is done."""

        def step() -> object:
            for task in self.tasks:
                with taken_names():  # the write before was not seen here yet
                    task.reconcile()
            self.now_s += LOOK_EVERY_S
            while not self.overlays.reconcile():
                pass
            return done()

        eventually(step, what)


@pytest.fixture(scope="module")
def user(request: pytest.FixtureRequest) -> Iterator[User]:
    """An API server with podsla's manifests, without the component for Karpenter, and without Karpenter."""
    with own_cluster(request, "podsla-overlays", "control-plane") as cluster:
        user = User(cluster, PODSLA)
        run(user, "apply", "--server-side", "-k", str(MANIFESTS / "overlays" / "outside"))
        run(user, "wait", "--for=condition=Established", "crd/speccatalogs.podsla.io", "--timeout=30s")
        yield user


@pytest.fixture
def controller(user: User) -> Iterator[Controller]:
    found = load_cluster(user.cluster.name)
    if found is None:
        pytest.skip(
            "a token of the controller's account is made by the project's own launcher, and kind is in its place"
        )
    made = Controller(Api.connect(service_account_kubeconfig(found, "podsla-controller")))
    eventually(lambda: made.world.synced, "everything is listed")
    yield made
    made.world.stop()


def ask(user: User, karpenter: str) -> None:
    data = {"data": {"target.yaml": TARGET % karpenter}}
    try:
        user.api.create(CONFIG_MAPS, {"metadata": {"name": "podsla-target"}, **data}, NAMESPACE)
    except ApiError:
        user.api.patch(CONFIG_MAPS, "podsla-target", data, namespace=NAMESPACE)


def allow(user: User) -> None:
    run(user, "apply", "-f", str(MANIFESTS / "components" / "karpenter" / "rbac.yaml"))


def forbid(user: User) -> None:
    run(user, "delete", "-f", str(MANIFESTS / "components" / "karpenter" / "rbac.yaml"))


def install_karpenter(user: User) -> None:
    """Its own CRD, which is all of it that the controller meets."""
    run(user, "apply", "--server-side", "-f", str(find(KARPENTER_CRDS) / "karpenter.sh_nodeoverlays.yaml"))
    run(user, "wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=30s")


def make_overlay(user: User, name: str, instance_type: str, pps: str) -> None:
    """An overlay of somebody else."""
    requirement = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [instance_type]}
    body = {"apiVersion": "karpenter.sh/v1alpha1", "kind": "NodeOverlay", "metadata": {"name": name}}
    spec = {"requirements": [requirement], "capacity": {"podsla.io/pps": pps}}
    user.api.create(NODE_OVERLAYS, {**body, "spec": spec})


def events(user: User) -> Iterator[Object]:
    yield from user.api.list(EVENTS, NAMESPACE, fieldSelector="regarding.name=podsla-target")


def told(user: User) -> set[str]:
    return {event["reason"] for event in events(user)}


def notes(user: User) -> str:
    return " ".join(event["note"] for event in events(user))


def lab(large: str, small: str) -> dict[str, Any]:
    figures = {"lab.c.large": large, "lab.c.small": small}
    return {
        "sizes": [
            {"name": n, "vcpu": "4", "memory": "8Gi", "network": {"pps": pps}} for n, pps in figures.items() if pps
        ]
    }


def standing(user: User) -> dict[str, str]:
    """What overlays say, by type: packets/s."""
    return {
        name: overlay["spec"]["capacity"]["podsla.io/pps"]
        for overlay in user.api.list(NODE_OVERLAYS)
        for name in overlay["spec"]["requirements"][0]["values"]
    }


def test_overlays_follow_the_catalogue_once_the_target_asks(user: User, controller: Controller) -> None:
    """Rights, Karpenter and the wish come in any order, and each that is missing is told of by name."""
    publish(user.api, "lab", lab("2M", "1M"))
    ask(user, "true")
    controller.settle(lambda: "ExportNotAllowed" in told(user), "an event says that the right is missing")

    allow(user)
    controller.settle(lambda: "KarpenterMissing" in told(user), "an event says that Karpenter is missing")

    install_karpenter(user)
    make_overlay(user, "theirs", "b", "7")
    controller.settle(
        lambda: standing(user) == {"lab.c.large": "1900000", "lab.c.small": "950000", "b": "7"},
        "both sizes are told of",
    )

    publish(user.api, "lab", lab("3M", ""))
    controller.settle(lambda: standing(user) == {"lab.c.large": "2850000", "b": "7"}, "the edit is followed")

    user.api.delete(NODE_OVERLAYS, "podsla-lab.c.large")
    controller.settle(lambda: "lab.c.large" in standing(user), "what was deleted by hand comes back")

    def priced() -> bool:
        spec = (user.api.get(NODE_OVERLAYS, "podsla-lab.c.large") or {})["spec"]
        return (spec.get("price"), spec.get("weight")) == ("4", 7)

    ask(user, "true, price: true, weight: 7")
    controller.settle(priced, "they say what an export by hand can say")

    forbid(user)
    ask(user, "false")
    controller.settle(lambda: "kubectl delete nodeoverlays -l podsla.io/overlay" in notes(user), "it says what is left")
    assert "lab.c.large" in standing(user)

    allow(user)
    controller.settle(lambda: standing(user) == {"b": "7"}, "not asked for any more: ours go, theirs stays")
    assert told(user) == {"ExportNotAllowed", "KarpenterMissing"}


def test_a_name_that_somebody_else_has_is_told_and_left(user: User, controller: Controller) -> None:
    allow(user)
    install_karpenter(user)
    make_overlay(user, "podsla-lab.c.large", "c", "8")
    publish(user.api, "lab", lab("3M", "1M"))
    ask(user, "true")

    controller.settle(lambda: "OverlayNameTaken" in told(user), "an event names it")
    controller.settle(lambda: "lab.c.small" in standing(user), "the other one is written")

    found = standing(user)
    assert (found["lab.c.small"], found["c"], "lab.c.large" in found) == ("950000", "8", False)


@pytest.mark.usefixtures("controller")
def test_every_right_that_the_component_gives_was_used_above_and_no_other(user: User) -> None:
    """From the audit log of what the tests before made the controller do."""
    cluster = load_cluster(user.cluster.name)
    assert cluster is not None
    rights = {right for right in granted(user) if right.group == GROUP}

    assert rights
    check_least(rights, {right for right in used(cluster) if right.group == GROUP})

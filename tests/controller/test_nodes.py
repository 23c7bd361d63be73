"""Nodes that come, go and change, while a controller works with no more than its own rights, and while none does."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
import yaml

from catalog.keys import FAMILY, INSTANCE_TYPE
from controller.metrics import Metrics
from controller.process import Controller, reconcilers
from kube.api import Api, Object, Resource
from kube.kinds import NODES, PODS, SPEC_CATALOGS
from nodes.export import STARTUP_TAINT
from tests.builders import container
from tests.cluster.install import service_account_kubeconfig
from tests.cluster.state import load_cluster
from tests.controller.test_crashes import NAMESPACE, publish, snapshot
from tests.manifests.kubectl import MANIFESTS
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

WAVE: Final = 60
PPS, MHZ = "podsla.io/pps", "podsla.io/base-mhz"
OWN: Final = {"cpu": "4", "memory": "8Gi", "pods": "110"}
THEIRS: Final = {"example.com/fpga": "3", "nvidia.com/gpu": "4", "podsla.io/other": "7"}
# By type: published packets/s and base clock, and what a node says of the packets/s, 5 per cent less.
TYPES: Final = {
    "waves.a.large": ("1M", 2500, "950k"),
    "waves.b.large": ("2M", 2600, "1900k"),
    "waves.c.large": ("3M", 2700, "2850k"),
    "waves.d.large": ("4M", 2800, "3800k"),
    "waves.e.large": ("5M", 2900, "4750k"),
}
NOTHING: Final = (None, None, None)
SAID: Final = "nodes of types that no catalogue has"


def sizes(**pps: str) -> dict[str, Any]:
    """The catalogue, with other packets/s for some types: a="9M" is of waves.a.large."""
    figures = {name: (pps.get(name.split(".")[1], own), mhz) for name, (own, mhz, _) in TYPES.items()}
    return {
        "sizes": [
            {"name": name, "vcpu": "4", "memory": "8Gi", "network": {"pps": text}, "cpu": {"baseMHz": mhz}}
            for name, (text, mhz) in figures.items()
        ]
    }


def create(api: Api, name: str, instance_type: str, figures: dict[str, str] | None = None, **labels: str) -> None:
    """Register a node, which publishes some figures already."""
    status = {**OWN, **(figures or {})}
    metadata = {"name": name, "labels": {"waves": "true", INSTANCE_TYPE: instance_type, **labels}}
    api.create(NODES, {"metadata": metadata, "status": {"capacity": status, "allocatable": status}})


def relabel(api: Api, name: str, instance_type: str) -> None:
    api.patch(NODES, name, {"metadata": {"labels": {INSTANCE_TYPE: instance_type}}})


def found(api: Api, name: str) -> Object:
    return api.call("GET", NODES.path(name=name))


def says(node: Object) -> tuple[str | None, str | None, str | None]:
    """What a node publishes: packets/s, which scheduler and kubelet must see alike, base clock, and family."""
    figures = [node["status"][group].get(PPS) for group in ("capacity", "allocatable")]
    assert figures[0] == figures[1]
    labels = node["metadata"]["labels"]
    return figures[0], labels.get(MHZ), labels.get(FAMILY)


def followed(api: Api) -> str:
    """What the status says of what nodes publish."""
    thing = api.call("GET", SPEC_CATALOGS.path(name="waves"))
    return str({one["type"]: one for one in thing["status"]["conditions"]}["Followed"]["message"])


def offered(instance_type: str) -> tuple[str, str, str]:
    """What a node of a type has to say."""
    _, mhz, figure = TYPES[instance_type]
    return figure, str(mhz), instance_type.rpartition(".")[0]


def clear(api: Api) -> None:
    """Delete every node of these tests in one call."""
    api.send("DELETE", NODES.path(), {"labelSelector": "waves=true"}, read_timeout_s=30).drain_conn()
    eventually(lambda: not list(api.list(NODES, labelSelector="waves=true")), "the nodes are gone")


Working = Callable[[], Any]


@pytest.fixture
def working(bare: Api) -> Iterator[Working]:
    """Let a controller work for a while, as its service account; its catalogue and nodes are taken away at the end."""
    cluster = load_cluster("podsla-controller")
    if cluster is None:
        pytest.skip("a token of the controller's account is made by the project's own launcher, not by kind")
    account = Api.connect(service_account_kubeconfig(cluster, "podsla-controller"))

    @contextmanager
    def run() -> Iterator[Controller]:
        made = Controller(account, NAMESPACE, "test-nodes")
        thread = threading.Thread(target=made.run)
        thread.start()
        try:
            yield made
        finally:
            made.stop()
            thread.join(60)
            made.world.stop()
            assert not thread.is_alive(), "the controller does not end"

    publish(bare, "waves", sizes())
    yield run
    clear(bare)
    bare.delete(SPEC_CATALOGS, "waves")


def test_nodes_that_come_in_waves_all_carry_what_their_type_offers(bare: Api, working: Working) -> None:
    """A name that comes again is another node, of another type: nothing of the first one is remembered."""
    types = list(TYPES)
    with working():
        for wave in range(2):
            wanted = {f"wave-{number}": types[(number + wave) % len(types)] for number in range(WAVE)}
            for name, instance_type in wanted.items():
                create(bare, name, instance_type)
            expected = {name: offered(instance_type) for name, instance_type in wanted.items()}

            def published() -> dict[str, Any]:
                listed = bare.list(NODES, labelSelector="waves=true")
                return {node["metadata"]["name"]: says(node) for node in listed}

            eventually(lambda: published() == expected, f"all nodes of wave {wave} carry capacity", 90)  # noqa: B023
            clear(bare)


def test_what_others_publish_on_a_node_is_left_alone_whatever_becomes_of_its_type(bare: Api, working: Working) -> None:
    create(bare, "theirs", "waves.a.large", THEIRS, **{"example.com/rack": "7", "podsla.io/team": "edge"})

    def untouched() -> None:
        node = found(bare, "theirs")
        for group in ("capacity", "allocatable"):
            assert {key: text for key, text in node["status"][group].items() if key != PPS} == {**OWN, **THEIRS}
        assert node["metadata"]["labels"].items() >= {"example.com/rack": "7", "podsla.io/team": "edge"}.items()

    with working():
        for instance_type in ("waves.a.large", "waves.b.large", "nobody.knows", "waves.c.large"):
            relabel(bare, "theirs", instance_type)
            expected = offered(instance_type) if instance_type in TYPES else NOTHING
            eventually(lambda: says(found(bare, "theirs")) == expected, instance_type)  # noqa: B023
            untouched()


def test_types_that_no_catalogue_has_are_told_once(
    bare: Api, working: Working, caplog: pytest.LogCaptureFixture
) -> None:
    """However often their nodes change; another type that is unknown is told of anew."""
    caplog.set_level(logging.INFO, "controller.capacity")

    def told() -> list[Any]:
        return [record.fields["types"] for record in caplog.records if record.msg == SAID]  # type: ignore[attr-defined]

    with working():
        create(bare, "strange", "nobody.knows")
        eventually(lambda: ("nobody.knows",) in told(), "it is told")
        for number in range(5):  # each wakes the controller, which has written when the next one comes
            create(bare, f"known-{number}", "waves.a.large")
            bare.patch(NODES, "strange", {"metadata": {"labels": {"example.com/tick": str(number)}}})
            name = f"known-{number}"
            eventually(lambda: says(found(bare, name)) == offered("waves.a.large"), name)  # noqa: B023
        create(bare, "stranger", "nobody.else")
        eventually(lambda: ("nobody.else",) in told(), "the other is told")
        bare.delete(NODES, "stranger")
        create(bare, "known-last", "waves.b.large")
        eventually(lambda: says(found(bare, "known-last")) == offered("waves.b.large"), "it goes on")

    assert told() == [("nobody.knows",), ("nobody.else",)]
    assert says(found(bare, "strange")) == NOTHING


def test_what_went_stale_while_no_controller_worked_is_put_right_when_one_starts(bare: Api, working: Working) -> None:
    """Figures, types and the catalogue itself changed meanwhile; a node that went is no trouble."""
    with working():
        for name, instance_type in (("raised", "waves.a.large"), ("moved", "waves.b.large"), ("gone", "waves.c.large")):
            create(bare, name, instance_type)
        eventually(lambda: says(found(bare, "moved")) == offered("waves.b.large"), "it works")
        eventually(lambda: says(found(bare, "gone")) == offered("waves.c.large"), "it works")

    publish(bare, "waves", sizes(a="6M"))
    relabel(bare, "moved", "waves.d.large")
    bare.delete(NODES, "gone")
    stale = {PPS: "77"}
    create(bare, "stale", "waves.e.large", stale, **{FAMILY: "old", MHZ: "1"})
    create(bare, "left-over", "nobody.knows", stale, **{FAMILY: "old", MHZ: "1"})

    with working():
        eventually(lambda: says(found(bare, "raised")) == ("5700k", "2500", "waves.a"), "the edit is followed")
        eventually(lambda: says(found(bare, "moved")) == offered("waves.d.large"), "the new type is followed")
        eventually(lambda: says(found(bare, "stale")) == offered("waves.e.large"), "what was wrong is put right")
        eventually(lambda: says(found(bare, "left-over")) == NOTHING, "what nobody offers is withdrawn")


def test_what_a_pod_asks_for_by_hand_stays_on_its_node_for_as_long_as_it_does(bare: Api, working: Working) -> None:
    """It has no size of ours, and would be failed by its kubelet all the same when that one starts again."""
    create(bare, "leant-on", "waves.a.large")
    asks = container(requests={PPS: "800k"}, limits={PPS: "800k"})
    by_hand = {"nodeName": "leant-on", "nodeSelector": {MHZ: "2500"}, "containers": [asks]}
    with working():
        eventually(lambda: says(found(bare, "leant-on")) == offered("waves.a.large"), "it works")
        bare.create(PODS, {"metadata": {"name": "by-hand"}, "spec": by_hand}, "default")
        spec = sizes(a="500k")
        spec["sizes"][0]["cpu"]["baseMHz"] = 2400
        create(bare, "free", "waves.a.large")
        eventually(lambda: says(found(bare, "free")) == offered("waves.a.large"), "so does another")
        publish(bare, "waves", spec)
        eventually(lambda: says(found(bare, "free")) == ("475k", "2400", "waves.a"), "the edit is followed")
        eventually(
            lambda: says(found(bare, "leant-on")) == ("800k", "2500", "waves.a"), "down to what the pod asks for"
        )
        held = (
            "1 node publishes more than offered, for pods that are bound there and need it: "
            "leant-on has podsla.io/base-mhz 2500, 2400 is offered; leant-on has podsla.io/pps 800k, 475k is offered"
        )
        eventually(lambda: followed(bare) == held, "the status says so")

        bare.call("DELETE", PODS.path("default", "by-hand"), body={"gracePeriodSeconds": 0})
        bare.patch(NODES, "leant-on", {"metadata": {"annotations": {"heartbeat": "1"}}})
        eventually(lambda: says(found(bare, "leant-on")) == ("475k", "2400", "waves.a"), "and once it is gone, whole")
        eventually(lambda: followed(bare) == "every node publishes what its size offers", "the status says that, too")


def without_status(api: Api) -> None:
    gone = dict.fromkeys(("revision", "serving", "observedGeneration", "conditions"))
    api.patch(SPEC_CATALOGS, "waves", {"status": gone}, subresource="status")


def created_again(api: Api) -> None:
    """As a backup brings it back: another object, without what was kept of it."""
    api.delete(SPEC_CATALOGS, "waves")
    publish(api, "waves", sizes())


@pytest.mark.parametrize("lose", [without_status, created_again])
def test_a_catalogue_that_comes_back_without_its_status_has_no_node_withdrawn_or_lowered(
    bare: Api, working: Working, lose: Callable[[Api], None]
) -> None:
    """Neither before it is judged again, nor in the round in which it is, whose word is not seen here yet."""
    create(bare, "restored", "waves.a.large")
    with working():
        eventually(lambda: says(found(bare, "restored")) == offered("waves.a.large"), "it works")
    lose(bare)

    for task in reconcilers(snapshot(bare), Metrics(lambda: True)):
        task.reconcile()
        assert says(found(bare, "restored")) == offered("waves.a.large"), task.name
    publish(bare, "waves", sizes(a="6M"))
    with working():
        eventually(lambda: says(found(bare, "restored")) == ("5700k", "2500", "waves.a"), "it goes on")


RBAC: Final = "rbac.authorization.k8s.io/v1"
OURS: Final = {"key": STARTUP_TAINT, "value": "true", "effect": "NoSchedule"}
CORDON: Final = {"key": "example.com/burn-in", "effect": "NoSchedule"}


@pytest.fixture
def may_take_taints(bare: Api) -> Iterator[Callable[[], None]]:
    """Give the controller what the component gives; it is taken back at the end."""
    role, binding = yaml.safe_load_all((MANIFESTS / "components" / "cluster-autoscaler" / "rbac.yaml").read_text())
    kinds = ((Resource(RBAC, "clusterroles"), role), (Resource(RBAC, "clusterrolebindings"), binding))

    def give() -> None:
        for kind, body in kinds:
            bare.create(kind, body)

    yield give
    for kind, body in kinds:
        bare.delete(kind, body["metadata"]["name"])


def test_a_node_loses_its_startup_taint_once_its_capacity_stands_and_no_other_taint(
    bare: Api, working: Working, may_take_taints: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Without the right it keeps the taint, and the log says what to do; a node that is not up yet keeps it, too."""

    def taints(name: str) -> list[str]:
        keys = [taint["key"] for taint in found(bare, name)["spec"].get("taints") or ()]
        return [key for key in keys if not key.startswith("node.kubernetes.io/")]  # Kubernetes' own come and go

    both = {"spec": {"taints": [CORDON, OURS]}}
    with working():
        create(bare, "bought", "waves.a.large")
        bare.patch(NODES, "bought", both)
        labels = {"waves": "true", INSTANCE_TYPE: "waves.b.large"}
        bare.create(NODES, {"metadata": {"name": "booting", "labels": labels}, **both})
        eventually(lambda: says(found(bare, "bought")) == offered("waves.a.large"), "its capacity stands")
        eventually(lambda: "components/cluster-autoscaler" in str([vars(one) for one in caplog.records]), "it is told")
        assert taints("bought") == [CORDON["key"], STARTUP_TAINT]

        may_take_taints()
        eventually(lambda: taints("bought") == [CORDON["key"]], "it may take pods")
        assert taints("booting") == [CORDON["key"], STARTUP_TAINT]

        bare.patch(NODES, "booting", {"status": {"capacity": OWN, "allocatable": OWN}}, subresource="status")
        eventually(lambda: taints("booting") == [CORDON["key"]], "this one, too")
        assert says(found(bare, "booting")) == offered("waves.b.large")

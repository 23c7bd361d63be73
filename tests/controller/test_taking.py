"""What is taken from nodes, and what is not: by one round of a controller that has just begun, without a cluster."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from catalog.accept import Memo, judge
from catalog.keys import INSTANCE_TYPE
from catalog.stored import read_kept, revision_object
from catalog.verdict import status_of
from controller.capacity import Capacity
from controller.metrics import Metrics
from controller.overlays import Overlays
from controller.serving import Serving
from controller.targets import plan_target
from controller.world import World
from kube.api import Object, Resource
from kube.kinds import NODE_OVERLAYS
from nodes.bound import keep_promises, read_bound
from nodes.capacity import Held
from nodes.export import STARTUP_TAINT
from tests.builders import container
from tests.controller.test_handing_over import Watch
from tests.controller.test_usage import NOW

PPS, MHZ = "podsla.io/pps", "podsla.io/base-mhz"
TARGET: Final = "apiVersion: podsla.io/v1beta1\nkind: Target\nmetadata: {name: lab}\nspec: {%s}\n"
WHOLE: Final = "capacityPercent: 100, consumers: [{by: reservation}, {by: node-labels}]"


def size(name: str, pps: str, mhz: int = 2500) -> dict[str, Any]:
    return {"name": name, "vcpu": "4", "memory": "8Gi", "network": {"pps": pps}, "cpu": {"baseMHz": mhz}}


class Site:
    """An API server with two catalogues, a target, and nodes that publish by them; a controller sees all of it."""

    def __init__(self) -> None:
        specs = {"a": {"sizes": [size("lab.a.large", "1M")]}, "b": {"sizes": [size("lab.b.large", "2M")]}}
        self.catalogs: dict[str, dict[str, Any]] = {}
        self.revisions: list[dict[str, Any]] = []
        self.nodes: dict[str, dict[str, Any]] = {}
        self.overlays: dict[str, Object] = {}
        self.pods: list[dict[str, Any]] = []
        self.target = {"metadata": {"name": "podsla-target", "namespace": "podsla-system"}, "data": {}}
        for name, spec in specs.items():
            self.write(name, spec)
        self.aim(WHOLE)
        self.watches = SimpleNamespace(
            api=self,
            namespace="podsla-system",
            runtime_classes=Watch(),
            bound=list,  # no pod has a size
        )
        self.capacity = self.start()

    def bound(self, count: int) -> list[Any]:
        return list(read_bound(map(keep_promises, self.pods[:count])))

    def start(self) -> Capacity:
        """Begin as a controller that remembers nothing."""
        self.look()
        world = cast(World, self.watches)
        return Capacity(world, Metrics(lambda: True), Serving(world))

    def look(self) -> None:
        """See everything as it is."""
        self.watches.catalogs, self.watches.revisions = Watch(self.catalogs.values()), Watch(self.revisions)
        self.watches.nodes, self.watches.targets = Watch(self.nodes.values()), Watch([self.target])

    def write(self, name: str, spec: Mapping[str, Any]) -> None:
        """Write a catalogue, which is judged and accepted at once."""
        before = self.catalogs.get(name, {"metadata": {"name": name, "uid": name, "generation": 0}})
        generation = before["metadata"]["generation"] + 1
        self.catalogs[name] = {**before, "metadata": {**before["metadata"], "generation": generation}, "spec": spec}
        self.judge()

    def judge(self) -> None:
        """Do what a round for catalogues does."""
        for verdict in judge([*self.catalogs.values()], read_kept(self.revisions), Memo()):
            thing = self.catalogs[verdict.catalog]
            if verdict.keep is not None:
                self.revisions.append(revision_object(thing, verdict.keep.revision, verdict.keep.number, "x"))
            thing["status"] = {**thing.get("status", {}), **status_of(verdict, thing, NOW).get("status", {})}

    def aim(self, text: str) -> None:
        """Write a target, which is accepted at once if it is right."""
        self.target["data"] = {"target.yaml": TARGET % text}
        if (made := plan_target(self.target, self.revisions).create) is not None:
            self.revisions.append(made)

    def node(self, name: str, instance_type: str) -> None:
        own = {"cpu": "4", "memory": "8Gi"}
        labels = {INSTANCE_TYPE: instance_type}
        status = {"capacity": own, "allocatable": own}
        self.nodes[name] = {"metadata": {"name": name, "labels": labels, "resourceVersion": "1"}, "status": status}

    def pod(self, name: str, node: str, pps: str) -> None:
        """Bind a pod without a size that asks for packets/s by hand."""
        asks = container(requests={PPS: pps}, limits={PPS: pps})
        metadata = {"namespace": "team", "name": name}
        self.pods.append({"metadata": metadata, "spec": {"nodeName": node, "containers": [asks]}})

    def list(self, resource: Resource, **_: str) -> list[Object]:
        return [*self.overlays.values()] if resource == NODE_OVERLAYS else [*self.pods]

    def create(self, _resource: object, body: Object) -> None:
        """Write an overlay."""
        self.overlays[body["metadata"]["name"]] = body

    def replace(self, _resource: object, body: Object) -> None:
        self.overlays[body["metadata"]["name"]] = body

    def delete(self, _resource: object, name: str) -> None:
        del self.overlays[name]

    def patch(self, _resource: object, name: str, body: Mapping[str, Any], **_: object) -> Object:
        """Write on a node; None takes a key away."""
        old = self.nodes[name]
        figures = body.get("status", {})
        status = {group: merged(old["status"][group], figures.get(group, {})) for group in ("capacity", "allocatable")}
        labels = merged(old["metadata"]["labels"], body["metadata"].get("labels", {}))
        version = str(int(old["metadata"]["resourceVersion"]) + 1)
        metadata = {"name": name, "labels": labels, "resourceVersion": version}
        self.nodes[name] = {**old, "metadata": metadata, "status": status}
        return self.nodes[name]

    def round(self) -> None:
        self.look()
        self.capacity.reconcile()

    def said(self) -> dict[str, tuple[str | None, str | None]]:
        """What each node publishes of packets/s and of its clock."""
        return {
            name: (thing["status"]["capacity"].get(PPS), thing["metadata"]["labels"].get(MHZ))
            for name, thing in self.nodes.items()
        }


def merged(old: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**old, **changes}.items() if value is not None}


@pytest.fixture
def site() -> Site:
    """Two nodes that publish all that they offer."""
    made = Site()
    made.node("n1", "lab.a.large")
    made.node("n2", "lab.b.large")
    made.round()
    assert made.said() == {"n1": ("1M", "2500"), "n2": ("2M", "2500")}
    return made


def without_status(site: Site, *names: str) -> None:
    for name in names or site.catalogs:
        del site.catalogs[name]["status"]


def without_history(site: Site) -> None:
    site.revisions.clear()


def recreated(site: Site) -> None:
    """As a backup without statuses is restored: other objects of the same names; the garbage collector comes later."""
    without_status(site)
    for thing in site.catalogs.values():
        thing["metadata"] = {"name": thing["metadata"]["name"], "uid": "another", "generation": 1}


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param([without_status], id="statuses"),
        pytest.param([lambda site: without_status(site, "b")], id="the status of one of them"),
        pytest.param([without_status, without_history], id="statuses, and all that was accepted"),
        pytest.param([recreated], id="statuses and identities"),
        pytest.param([recreated, without_history], id="statuses, identities, and all that was accepted"),
        pytest.param([without_history], id="all that was accepted, and no status"),
    ],
)
def test_what_a_restore_leaves_out_is_taken_from_no_node(site: Site, lost: list[Any]) -> None:
    before = site.said()
    for lose in lost:
        lose(site)

    site.capacity = site.start()
    site.round()
    assert site.said() == before
    assert site.capacity.held == (), "nobody is told of what is only not judged yet"

    site.judge()
    site.aim(WHOLE)
    site.round()
    assert site.said() == before
    site.write("b", {"sizes": []})
    site.round()
    assert site.said() == {"n1": ("1M", "2500"), "n2": (None, None)}, "what is withdrawn by an edit goes"


def test_what_karpenter_was_told_stands_until_every_catalogue_is_judged(site: Site) -> None:
    def overlays() -> set[str]:
        site.look()
        assert Overlays(world, Serving(world), lambda: 0.0).reconcile()
        return set(site.overlays)

    world = cast(World, site.watches)
    site.aim(f"{WHOLE}, autoscaler: {{karpenter: true}}")
    told = {"podsla-lab.a.large", "podsla-lab.b.large"}
    assert overlays() == told
    without_status(site, "b")
    assert overlays() == told
    site.judge()
    assert overlays() == told
    site.write("b", {"sizes": []})
    assert overlays() == {"podsla-lab.a.large"}


def test_a_node_keeps_its_startup_taint_until_it_is_known_that_it_has_nothing_to_offer(site: Site) -> None:
    without_status(site, "b")
    for name, instance_type in (("n3", "lab.b.large"), ("n4", "nobody.knows")):
        site.node(name, instance_type)
        site.nodes[name]["spec"] = {"taints": [{"key": STARTUP_TAINT, "effect": "NoSchedule"}]}
    site.round()
    assert not site.capacity.started

    site.judge()
    site.round()
    assert [one.node for one in site.capacity.started] == ["n4"]
    assert site.said()["n3"] == ("2M", "2500")


def test_a_catalogue_that_nobody_judged_yet_keeps_no_node_from_what_the_others_offer(site: Site) -> None:
    site.catalogs["new"] = {"metadata": {"name": "new", "uid": "new", "generation": 1}, "spec": {}}
    site.node("n3", "lab.a.large")
    site.round()
    assert site.said()["n3"] == ("1M", "2500")


def test_a_target_that_was_never_right_leaves_the_shipped_one_to_serve(site: Site) -> None:
    without_history(site)
    without_status(site)
    site.judge()
    site.aim("capacityPercent: 200")
    site.capacity = site.start()
    site.round()
    assert site.said() == {"n1": ("950k", "2500"), "n2": ("1900k", "2500")}


def test_what_nodes_hold_for_pods_that_ask_by_hand_is_told_like_what_they_hold_for_others(site: Site) -> None:
    site.pod("by-hand", "n1", "800k")
    site.write("a", {"sizes": [size("lab.a.large", "500k")]})
    for _ in range(3):
        site.round()

    assert site.said()["n1"] == ("800k", "2500")
    assert site.capacity.held == (Held("n1", "lab.a.large", PPS, "500k", "800k"),)

    site.pods.clear()
    site.nodes["n1"]["metadata"]["resourceVersion"] = "7"  # its kubelet reports
    for _ in range(2):
        site.round()
    assert site.said()["n1"] == ("500k", "2500")
    assert not site.capacity.held

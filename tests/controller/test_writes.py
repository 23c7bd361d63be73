"""Every write that stands in the controller's code was the last one of some controller, and the next one got there."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import yaml

from attach.budget import KEY, LEDGER
from catalog.keys import TARGET
from catalog.stored import KEPT
from controller.metrics import Metrics
from controller.process import reconcilers
from controller.targets import KEPT as KEPT_TARGETS
from controller.world import World
from kube.api import Api, ApiError, Resource
from kube.kinds import CONFIG_MAPS, CONTROLLER_REVISIONS, NODE_OVERLAYS, NODES, SECRETS, SPEC_CATALOGS
from nodes.export import STARTUP_TAINT
from tests.cluster.binaries import find
from tests.cluster.pins import KARPENTER_CRDS
from tests.controller.sites import Site, modules, writes
from tests.controller.test_crashes import NAMESPACE, lives, publish, taken_names
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

NODE: Final = "writes-1"
CRD: Final = "nodeoverlays.karpenter.sh"
CRDS: Final = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
TARGET_TEXT: Final = """
apiVersion: podsla.io/v1beta1
kind: Target
metadata: {name: lab}
spec: {consumers: [{by: reservation}, {by: node-labels}], %s}
"""


def spec(pps: int, *more: str) -> dict[str, Any]:
    names = ["writes.a.large", *more]
    return {"sizes": [{"name": n, "vcpu": "4", "memory": "8Gi", "network": {"pps": f"{pps}k"}} for n in names]}


def ask(api: Api, text: str) -> None:
    """Write the target."""
    body = {"data": {"target.yaml": TARGET_TEXT % text}}
    try:
        api.patch(CONFIG_MAPS, "podsla-target", body, namespace=NAMESPACE)
    except ApiError:
        api.create(CONFIG_MAPS, {"metadata": {"name": "podsla-target"}, **body}, NAMESPACE)


def settle(api: Api, done: Callable[[], object], what: str) -> None:
    """Let one controller work that lives on."""
    world = World(api, NAMESPACE, lambda: None).start()
    eventually(lambda: world.synced, "everything is listed")
    tasks = reconcilers(world, Metrics(lambda: True))

    def step() -> object:
        before = done()
        for task in tasks:
            with taken_names():  # the write before was not seen here yet
                task.reconcile()
        return before  # a whole round after: that it serves is noted too

    try:
        eventually(step, what)
    finally:
        world.stop()


def accepted(api: Api) -> str:
    """What the status says of the newest edit."""
    thing = api.get(SPEC_CATALOGS, "writes") or {}
    found = {one["type"]: one for one in thing["status"]["conditions"]}["Accepted"]
    assert found["observedGeneration"] == thing["metadata"]["generation"]
    return str(found["status"])


def published(api: Api) -> str | None:
    """What the node says of packets/s."""
    found: str | None = (api.get(NODES, NODE) or {})["status"]["capacity"].get("podsla.io/pps")
    return found


def overlays(api: Api) -> dict[str, str]:
    """What overlays say of packets/s of the types of this test."""
    return {
        name: overlay["spec"]["capacity"]["podsla.io/pps"]
        for overlay in api.list(NODE_OVERLAYS)
        for name in overlay["spec"]["requirements"][0]["values"]
        if name.startswith("writes.")
    }


def install_karpenter(api: Api) -> None:
    """Its CRD for overlays, which is all of it that the controller meets."""
    api.create(CRDS, yaml.safe_load((find(KARPENTER_CRDS) / "karpenter.sh_nodeoverlays.yaml").read_text()))

    def served() -> bool:
        return bool(api.send("GET", NODE_OVERLAYS.path()).status == 200)

    eventually(served, "overlays can be listed")


@pytest.fixture
def clean(bare: Api) -> Iterator[Api]:
    """The cluster, which afterwards has nothing of the test, and no target."""
    labels = {"node.kubernetes.io/instance-type": "writes.a.large"}
    own = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    taints = [{"key": STARTUP_TAINT, "effect": "NoSchedule"}]
    status = {"capacity": own, "allocatable": own}
    bare.create(NODES, {"metadata": {"name": NODE, "labels": labels}, "spec": {"taints": taints}, "status": status})
    yield bare
    bare.delete(CRDS, CRD)
    bare.delete(CONFIG_MAPS, "podsla-target", NAMESPACE)
    for thing in bare.list(CONTROLLER_REVISIONS, NAMESPACE, labelSelector=TARGET):
        bare.delete(CONTROLLER_REVISIONS, thing["metadata"]["name"], NAMESPACE)
    bare.delete(SPEC_CATALOGS, "writes")
    bare.delete(NODES, NODE)


def test_every_write_in_the_code_is_one_that_a_controller_died_after(clean: Api) -> None:
    """A write that is added has to be reached here; those of attachments have a test of their own."""
    api, sites = clean, set[Site]()

    for name in ("podsla-webhook-tls", "podsla-ca"):
        api.delete(SECRETS, name, NAMESPACE)
    api.patch(CONFIG_MAPS, LEDGER, {"data": None}, namespace=NAMESPACE)
    publish(api, "writes", spec(100))
    list(lives(api, sites))
    assert published(api) == "95k"
    assert (api.get(CONFIG_MAPS, LEDGER, NAMESPACE) or {})["data"].keys() == {KEY}, "a day begins in the ledger"
    api.patch(SECRETS, "podsla-ca", {"data": {"tls.crt": ""}}, namespace=NAMESPACE)
    list(lives(api, sites))
    assert (api.get(SECRETS, "podsla-ca", NAMESPACE) or {})["data"]["tls.crt"], "the CA is made anew"

    for number in range(1, KEPT + 1):  # more than are kept, the last of them and a way back under deaths
        publish(api, "writes", spec(100 * number))
        settle(api, lambda n=number: published(api) == f"{95 * n}k", "the edit is followed")  # type: ignore[misc]
    publish(api, "writes", spec(2000))
    list(lives(api, sites))
    publish(api, "writes", spec(500))
    list(lives(api, sites))
    assert published(api) == "475k"
    publish(api, "writes", {**spec(900), "classes": [{"name": "net", "fallback": ["nobody"]}]})
    list(lives(api, sites))
    assert (accepted(api), published(api)) == ("False", "475k"), "what was refused changes nothing"

    for percent in range(90, 90 + KEPT_TARGETS):
        ask(api, f"capacityPercent: {percent}")
        settle(api, lambda p=percent: published(api) == f"{5 * p}k", "the target is followed")  # type: ignore[misc]
    ask(api, "capacityPercent: 200")
    list(lives(api, sites))
    ask(api, "capacityPercent: 80, autoscaler: {karpenter: true}")
    list(lives(api, sites))  # Karpenter is not there
    assert published(api) == "400k"

    install_karpenter(api)
    publish(api, "writes", spec(1000, "writes.b.large"))
    list(lives(api, sites))
    assert overlays(api) == {"writes.a.large": "800000", "writes.b.large": "800000"}
    publish(api, "writes", spec(2000, "writes.b.large"))
    list(lives(api, sites))
    assert overlays(api) == {"writes.a.large": "1600000", "writes.b.large": "1600000"}
    ask(api, "capacityPercent: 80")
    list(lives(api, sites))
    assert overlays(api) == {}

    others = [module for module in modules() if module not in ("attachments", "warm")]
    assert [write for write in writes(*others) if not write.is_among(sites)] == []

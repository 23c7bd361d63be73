"""A node whose kubelet may give a quarantined GPU to anybody takes no new pods until that is over."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest
import yaml

from attach.api import Attachment, Condition, Type, merge_conditions
from catalog.keys import QUARANTINED
from controller.taints import Quarantine
from controller.world import World
from kube.api import Api, Resource
from kube.kinds import EVENTS, GPU_ATTACHMENTS, NODES, PODS
from tests.controller.borrowing import GPUS, SYSTEM, TWO, Agent, Lending, controlling
from tests.controller.test_crashes import Crash, Mortal
from tests.manifests.kubectl import MANIFESTS
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

RBAC: Final = "rbac.authorization.k8s.io/v1"
THEIRS: Final = {"key": "example.com/burn-in", "effect": "NoSchedule"}
OURS: Final = {"key": "podsla.io/quarantined", "effect": "NoSchedule"}
QUARANTINE: Final = (
    Condition(Type.ATTACHED, False, "NotLooked", ""),
    Condition(Type.QUARANTINED, True, "NotLooked", ""),
)
END: Final = (Condition(Type.QUARANTINED, False, "Forced", ""), Condition(Type.RELEASED, True, "Forced", ""))


@pytest.fixture
def rights(lending: Lending) -> Iterator[None]:
    """What the component gives the controller; the node is left as it was."""
    role, binding = yaml.safe_load_all((MANIFESTS / "components" / "gpu-attach" / "controller.yaml").read_text())
    kinds = ((Resource(RBAC, "clusterroles"), role), (Resource(RBAC, "clusterrolebindings"), binding))
    for kind, body in kinds:
        lending.api.create(kind, body)
    yield
    for kind, body in kinds:
        lending.api.delete(kind, body["metadata"]["name"])
    lending.api.patch(NODES, TWO, {"spec": {"taints": None}})


def taints(api: Api) -> list[dict[str, Any]]:
    """Read those that are not Kubernetes' own."""
    found = (api.get(NODES, TWO) or {})["spec"].get("taints") or ()
    return [taint for taint in found if not taint["key"].startswith("node.kubernetes.io/")]


def say(lending: Lending, name: str, conditions: tuple[Condition, ...]) -> None:
    """Write conditions, as the agent does."""
    now = lending.read(name)
    merged = merge_conditions(now.status.conditions, conditions, now.generation, datetime.now(UTC))
    body = {"metadata": {"resourceVersion": now.version}, "status": {"conditions": merged}}
    lending.api.patch(GPU_ATTACHMENTS, name, body, namespace=lending.namespace, subresource="status")


def quarantined(lending: Lending) -> Attachment:
    """Lend a GPU of the node of two, and know no more whether it is free; its agent says nothing more."""
    lending.pod("a", TWO)
    with controlling(lending), Agent(lending, GPUS).working():
        lending.ask("a", "a")
        lending.until("a", Type.ATTACHED)
    say(lending, "a", QUARANTINE)
    return lending.read("a")


def delete_by_force(lending: Lending, name: str) -> None:
    lending.api.call("DELETE", PODS.path(lending.namespace, name), body={"gracePeriodSeconds": 0})


def plain(lending: Lending, name: str) -> None:
    """Ask for a GPU of the node of two without podsla."""
    gpu = {"nvidia.com/gpu": "1"}
    container = {"name": "c", "image": "x", "resources": {"requests": gpu, "limits": gpu}}
    there = {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [TWO]}]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": there}}
    body = {"metadata": {"name": name}, "spec": {"affinity": affinity, "containers": [container]}}
    lending.api.create(PODS, body, lending.namespace)


def why(lending: Lending, name: str) -> str:
    """Say why a pod is on no node."""
    status = (lending.api.get(PODS, name, lending.namespace) or {}).get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    return str(conditions.get("PodScheduled", {}).get("message", ""))


@pytest.mark.usefixtures("rights")
def test_nobody_new_comes_to_a_node_while_a_quarantined_gpu_there_is_reserved_by_nothing(lending: Lending) -> None:
    """Neither a plain pod nor an attachment's placeholder; other taints stay, and so does all that runs."""
    attachment = quarantined(lending)
    lending.api.patch(NODES, TWO, {"spec": {"taints": [THEIRS]}})
    lending.pod("b", TWO, tolerations=[{"key": THEIRS["key"], "operator": "Exists"}])
    with controlling(lending):
        threading.Event().wait(2)
        assert taints(lending.api) == [THEIRS], "it is reserved still"

        delete_by_force(lending, attachment.reserving)
        eventually(lambda: taints(lending.api) == [THEIRS, OURS], "the node is tainted")
        lending.api.patch(NODES, TWO, {"spec": {"taints": [OURS]}})  # whoever gave it the other takes that back
        plain(lending, "plain")
        lending.ask("b", "b")
        eventually(lambda: "untolerated taint" in why(lending, "plain"), "the scheduler keeps a plain pod off")
        eventually(lambda: "untolerated taint" in said(lending, "b"), "and a placeholder, and this is told")
        about = {"fieldSelector": f"regarding.name={TWO},reason=ReservationLost"}
        (event,) = eventually(lambda: list(lending.api.list(EVENTS, "default", **about)), "it is told of the node")
        assert f"{lending.namespace}/a" in event["note"]
        assert taints(lending.api) == [OURS]
        lending.release("b")
        eventually(lambda: not lending.read("b").finalized, "it waits no more", 60)

        say(lending, "a", END)
        eventually(lambda: taints(lending.api) == [], "the node is free")
        eventually(lambda: (lending.api.get(PODS, "plain", lending.namespace) or {})["spec"].get("nodeName"), "it runs")
        eventually(lambda: not lending.read("a").finalized, "nothing holds it")


def said(lending: Lending, name: str) -> str:
    """Read what is said of a reservation."""
    return str(lending.read(name).status.condition(Type.RESERVED).get("message", ""))


def life(api: Api) -> str:
    """One life of a controller, up to its first write, which is named."""
    mortal = Mortal(api.client)
    world = World(mortal, SYSTEM, lambda: None).start()
    try:
        eventually(lambda: world.synced, "everything is listed")
        Quarantine(world).reconcile()
    except Crash as crash:
        return str(crash)
    finally:
        world.stop()
    return ""


@pytest.mark.usefixtures("rights")
def test_a_controller_that_dies_or_sleeps_in_between_leaves_nothing_half_done(lending: Lending) -> None:
    """Whoever comes next goes on; and who wakes up late taints no node that another has freed since."""
    attachment = quarantined(lending)
    node = f"PATCH {NODES.path(name=TWO)}"
    assert life(lending.controller) == ""

    delete_by_force(lending, attachment.reserving)
    late = World(lending.controller, SYSTEM, lambda: None).start()
    eventually(lambda: late.synced, "everything is listed")
    late.stop()
    assert life(lending.controller) == node
    assert taints(lending.api) == [OURS]
    assert life(lending.controller) == "", "once is enough"

    say(lending, "a", END)
    assert life(lending.controller) == node
    assert taints(lending.api) == []
    assert life(lending.controller) == ""

    Quarantine(late).reconcile()
    assert taints(lending.api) == []
    with controlling(lending):
        eventually(lambda: not lending.read("a").finalized, "nothing holds it")


def test_without_the_right_nodes_stay_as_they_are_and_the_log_says_what_to_do(
    lending: Lending, caplog: pytest.LogCaptureFixture
) -> None:
    attachment = quarantined(lending)
    delete_by_force(lending, attachment.reserving)

    with controlling(lending):
        eventually(lambda: "components/gpu-attach" in str([vars(one) for one in caplog.records]), "it is told")
        say(lending, "a", END)
        eventually(lambda: not lending.read("a").finalized, "nothing holds it")
    assert QUARANTINED not in str(taints(lending.api))

"""GPUs are lent on a real API server, scheduler and quota; every attachment ends with a reason, and nothing is left."""

import json
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import click
import pytest

from attach.api import Type, placeholder_name
from attach.budget import day_of
from controller.attachments import Attachments
from controller.budgets import KEY
from controller.metrics import Metrics
from controller.serving import Serving
from controller.world import LEDGER, World
from kube.api import Api, Object, PatchKind, Resource
from kube.kinds import CONFIG_MAPS, EVENTS, GPU_ATTACHMENTS, NAMESPACES, PODS, SPEC_CATALOGS
from podsla.commands.uninstall import detach_all
from tests.cluster.install import PODSLA, service_account_kubeconfig
from tests.cluster.own import own_cluster
from tests.cluster.state import load_cluster
from tests.controller.borrowing import SYSTEM, Agent, Lending, controlling
from tests.controller.sites import Site, writes
from tests.controller.test_crashes import Crash, Mortal
from tests.manifests.kubectl import MANIFESTS, run
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

NAME: Final = "podsla-attachments"
ONE, TWO = "gpu-one", "gpu-two"
GPUS: Final = {ONE: 1, TWO: 2}
QUOTAS: Final = Resource("v1", "resourcequotas")
_numbers = count()


@pytest.fixture(scope="module")
def lent(request: pytest.FixtureRequest) -> Iterator[Lending]:
    """Two nodes, of one and of two GPUs."""
    with own_cluster(request, NAME, "control-plane+kwok=1") as cluster:
        user = User(cluster, PODSLA)
        run(user, "apply", "--server-side", "-k", str(MANIFESTS / "overlays" / "outside"))
        # Nobody answers for the webhook here; that it leaves placeholders alone is shown in tests/attach.
        run(user, "delete", "mutatingwebhookconfiguration/podsla", "validatingwebhookconfiguration/podsla-templates")
        run(user, "wait", "--for=condition=Established", "crd/gpuattachments.podsla.io", "--timeout=30s")
        running = load_cluster(NAME)
        assert running is not None
        lending = Lending(user.api, Api.connect(service_account_kubeconfig(running, "podsla-controller")))
        for name, gpus in GPUS.items():
            lending.node(name, gpus)
        yield lending


@pytest.fixture
def lending(lent: Lending) -> Iterator[Lending]:
    """A namespace of its own; what is left in it afterwards is a leak."""
    lent.namespace = namespace(lent)
    yield lent
    left = [thing["metadata"]["name"] for thing in lent.api.list(PODS) if "podsla.io/placeholder" in labels(thing)]
    held = [thing for thing in lent.api.list(GPU_ATTACHMENTS) if "finalizers" in thing["metadata"]]
    for thing in held:
        where = thing["metadata"]["namespace"]
        lent.api.patch(GPU_ATTACHMENTS, thing["metadata"]["name"], {"metadata": {"finalizers": None}}, namespace=where)
    for name in left:
        lent.api.call("DELETE", PODS.path(lent.namespace, name), body={"gracePeriodSeconds": 0})
    for thing in lent.api.list(PODS, lent.namespace):
        lent.api.delete(PODS, thing["metadata"]["name"], lent.namespace)
    assert not left
    assert not held


def namespace(lending: Lending) -> str:
    name = f"team-{next(_numbers)}"
    lending.api.create(NAMESPACES, {"metadata": {"name": name}})
    eventually(lambda: lending.api.get(Resource("v1", "serviceaccounts"), "default", name), "the service account")
    return name


def gone_for_good(lending: Lending, name: str) -> None:
    eventually(lambda: lending.api.get(GPU_ATTACHMENTS, name, lending.namespace) is None, f"{name} is gone", 60)


def labels(thing: Object) -> Object:
    found: Object = thing["metadata"].get("labels") or {}
    return found


def ended(lending: Lending, name: str, kind: Type, reason: str, where: str = "", timeout_s: float = 30.0) -> None:
    """The attachment ends so, and nothing is left of it but the object."""
    attachment = lending.until(name, kind, where, timeout_s)
    assert attachment.status.condition(kind)["reason"] == reason
    eventually(lambda: lending.read(name, where).status.queue_position == 0, "it waits no more")
    eventually(lambda: lending.placeholder(attachment) is None, "the placeholder is gone")
    eventually(lambda: not lending.read(name, where).finalized, "the finalizer is gone")


def test_a_gpu_is_lent_to_one_after_the_other_and_taken_back(lending: Lending) -> None:
    for name in ("a", "b"):
        lending.pod(name, ONE)
    agent = Agent(lending, GPUS)
    with controlling(lending), agent.working():
        lending.ask("first", "a")
        first = lending.until("first", Type.ATTACHED)
        assert (first.status.node, first.status.container, first.owned) == (ONE, "worker", True)
        lending.ask("second", "b")
        second = lending.until_reason("second", "Queued")
        eventually(lambda: lending.read("second").status.queue_position == 1, "it is next")
        assert not second.status.has(Type.RESERVED)
        lending.release("first")
        ended(lending, "first", Type.RELEASED, "Released")
        lending.until("second", Type.ATTACHED)
        lending.api.delete(GPU_ATTACHMENTS, "second", lending.namespace)
        eventually(lambda: lending.api.get(GPU_ATTACHMENTS, "second", lending.namespace) is None, "it is gone")
    assert agent.most == {ONE: 1}
    told = {(e["regarding"]["kind"], e["reason"]) for e in lending.api.list(EVENTS, lending.namespace)}
    assert {("GPUAttachment", "Queued"), ("Pod", "Queued")} <= told


def test_uninstall_takes_back_what_is_lent_before_it_stops_the_controller(lending: Lending) -> None:
    lending.pod("a", ONE)
    agent = Agent(lending, GPUS)
    with controlling(lending), agent.working():
        lending.ask("first", "a")
        placeholder = lending.placeholder(lending.until("first", Type.ATTACHED))

        detach_all(lending.api, force=False)

    assert placeholder is not None
    assert list(lending.api.list(GPU_ATTACHMENTS)) == []
    assert lending.api.get(PODS, placeholder["metadata"]["name"], lending.namespace) is None


def test_uninstall_names_what_nobody_takes_back_and_gives_it_up_by_force_alone(
    lending: Lending, capsys: pytest.CaptureFixture[str]
) -> None:
    lending.pod("a", ONE)
    agent = Agent(lending, GPUS)
    with controlling(lending), agent.working():
        lending.ask("first", "a")
        placeholder = placeholder_name(lending.until("first", Type.ATTACHED).uid)

    with pytest.raises(click.exceptions.Exit) as left:
        detach_all(lending.api, force=False, patience_s=2)

    assert left.value.exit_code == 1
    said = f"GPUAttachment {lending.namespace}/first of pod a is not over (Attached: "
    assert said in " ".join(capsys.readouterr().err.split())
    assert lending.read("first").finalized

    detach_all(lending.api, force=True, patience_s=2)

    assert list(lending.api.list(GPU_ATTACHMENTS)) == []
    assert f"{lending.namespace}/first of pod a given up" in " ".join(capsys.readouterr().err.split())
    lending.api.call("DELETE", PODS.path(lending.namespace, placeholder), body={"gracePeriodSeconds": 0})


def test_a_namespace_that_floods_the_queue_waits_behind_its_own(lending: Lending) -> None:
    other = namespace(lending)
    for name in ("a", "b", "c"):
        lending.pod(name, ONE)
        lending.pod(name, ONE, other)
    agent = Agent(lending, GPUS)
    with controlling(lending), agent.working():
        lending.ask("a", "a")
        lending.until("a", Type.ATTACHED)
        lending.ask("b", "b")
        eventually(lambda: lending.read("b").status.placeholder, "b is next: its age may be c's, to the second")
        lending.ask("c", "c")
        lending.ask("late", "a", other)
        eventually(lambda: lending.read("late", other).status.queue_position == 2, "it overtakes c")
        eventually(lambda: lending.read("c").status.queue_position == 3, "c falls back")
        for name, where in (("a", ""), ("b", ""), ("late", other), ("c", "")):
            lending.until(name, Type.ATTACHED, where)
            lending.release(name, where)
            ended(lending, name, Type.RELEASED, "Released", where)
    assert agent.most == {ONE: 1}


def test_two_that_race_for_the_last_gpu_get_it_one_after_the_other(lending: Lending) -> None:
    for name in ("a", "b"):
        lending.pod(name, TWO)
    agent = Agent(lending, GPUS)
    with controlling(lending), agent.working():
        lending.ask("a", "a", count=2)
        lending.ask("b", "b", count=2)
        waiting = {"a", "b"}
        for _ in range(2):
            (got,) = eventually(lambda: [n for n in waiting if lending.read(n).status.has(Type.ATTACHED)], "one has it")
            waiting.discard(got)
            lending.release(got)
            ended(lending, got, Type.RELEASED, "Released")
    assert agent.most == {TWO: 2}


@pytest.mark.parametrize("how", ["release", "delete", "target"])
def test_one_that_waits_can_go_at_any_time(lending: Lending, how: str) -> None:
    """Waiting in the queue, or next with a placeholder that finds no node."""
    for name in ("a", "b", "c"):
        lending.pod(name, ONE)
    with controlling(lending), Agent(lending, GPUS).working():
        lending.ask("a", "a")
        lending.until("a", Type.ATTACHED)
        lending.ask("b", "b")
        lending.until_reason("b", "Queued")
        lending.ask("c", "c")
        eventually(lambda: lending.read("c").status.queue_position == 2, "c waits behind b")
        for name in ("b", "c"):
            if how == "release":
                lending.release(name)
                ended(lending, name, Type.RELEASED, "Released")
            else:
                gone = (GPU_ATTACHMENTS, name) if how == "delete" else (PODS, name)
                lending.api.delete(gone[0], gone[1], lending.namespace)
                gone_for_good(lending, name)
        assert lending.read("a").status.has(Type.ATTACHED)
        lending.release("a")
        ended(lending, "a", Type.RELEASED, "Released")


def test_quota_refuses_says_so_and_holds_up_nobody(lending: Lending) -> None:
    other = namespace(lending)
    quota = {"metadata": {"name": "gpus"}, "spec": {"hard": {"requests.nvidia.com/gpu": "0"}}}
    lending.api.create(QUOTAS, quota, lending.namespace)
    eventually(lambda: lending.api.get(QUOTAS, "gpus", lending.namespace)["status"]["hard"], "quota counts")  # type: ignore[index]
    lending.pod("a", ONE)
    lending.pod("b", ONE, other)
    with controlling(lending), Agent(lending, GPUS).working():
        lending.ask("a", "a")
        refused = lending.until_reason("a", "QuotaExceeded")
        assert "requested: requests.nvidia.com/gpu=1" in refused.status.condition(Type.RESERVED)["message"]
        assert refused.status.placeholder is None
        lending.ask("b", "b", other)
        lending.until("b", Type.ATTACHED, other)
        lending.release("b", other)
        ended(lending, "b", Type.RELEASED, "Released", other)
        lending.api.delete(QUOTAS, "gpus", lending.namespace)
        lending.until("a", Type.ATTACHED)
        lending.release("a")
        ended(lending, "a", Type.RELEASED, "Released")


def budget(lending: Lending, minutes: int) -> None:
    """Publish how much this namespace may hold a day."""
    head = {"apiVersion": "podsla.io/v1beta1", "kind": "SpecCatalog", "metadata": {"name": "budgets"}}
    own = {"matchLabels": {"kubernetes.io/metadata.name": lending.namespace}}
    body = {**head, "spec": {"gpuBudgets": [{"namespaces": own, "minutesPerDay": minutes}]}}
    lending.api.patch(SPEC_CATALOGS, "budgets", body, kind=PatchKind.APPLY)


def ledger(lending: Lending) -> dict[str, Any]:
    """Read what the controller has noted."""
    found = lending.api.get(CONFIG_MAPS, LEDGER, SYSTEM)
    assert found is not None
    return dict(json.loads((found.get("data") or {}).get(KEY, "{}")))


def test_a_namespace_holds_its_gpu_minutes_of_a_day_and_no_more(lending: Lending) -> None:
    """What it holds past them is taken back, what it asks waits, and deleting what was held gives nothing back."""
    other = namespace(lending)
    lending.pod("a", TWO)
    lending.pod("b", TWO)
    lending.pod("c", TWO, other)
    before = {"earlier": 52}  # of another attachment, which is gone
    noted = json.dumps({"day": day_of(time.time()), "held": {lending.namespace: before}})
    lending.api.patch(CONFIG_MAPS, LEDGER, {"data": {KEY: noted}}, namespace=SYSTEM)
    budget(lending, 1)
    agent = Agent(lending, GPUS)
    with controlling(lending), agent.working():
        lending.ask("a", "a", count=2)
        uid = lending.until("a", Type.ATTACHED).uid
        lending.ask("b", "b")
        ended(lending, "a", Type.RELEASED, "Released")
        waits = lending.until_reason("b", "BudgetSpent")
        said = waits.status.condition(Type.RESERVED)["message"]
        assert said.startswith(f"in namespace {lending.namespace} 1 of its 1 GPU-minutes of today are used; ")
        assert (waits.status.placeholder, waits.status.queue_position) == (None, 0)
        lending.ask("c", "c", other, count=2)
        lending.until("c", Type.ATTACHED, other)
        lending.release("c", other)
        ended(lending, "c", Type.RELEASED, "Released", other)
        lending.api.delete(GPU_ATTACHMENTS, "a", lending.namespace)
        gone_for_good(lending, "a")
        held = ledger(lending)["held"][lending.namespace]
        assert held == {**before, uid: held[uid]}
        assert held[uid] >= 8
        assert not lending.read("b").status.has(Type.RESERVED)
        budget(lending, 600)
        lending.until("b", Type.ATTACHED)
        lending.release("b")
        ended(lending, "b", Type.RELEASED, "Released")
    lending.api.delete(SPEC_CATALOGS, "budgets")
    told = {(e["regarding"]["kind"], e["regarding"]["name"]) for e in lending.api.list(EVENTS, lending.namespace)
            if e["reason"] == "BudgetSpent"}  # fmt: skip
    assert told == {("GPUAttachment", "a"), ("Pod", "a"), ("GPUAttachment", "b"), ("Pod", "b")}


@pytest.mark.parametrize(
    ("spec", "reason", "said"),
    [
        pytest.param({"podName": "nobody"}, "TargetNotFound", "there is no pod nobody in namespace", id="no such pod"),
        pytest.param(
            {"podName": "a", "podUID": "x"}, "TargetReplaced", "and was to be x", id="another pod of the name"
        ),
        pytest.param({"podName": "a", "container": "wroker"}, "NoSuchContainer", "did you mean worker?", id="a typo"),
        pytest.param({"podName": "a", "count": 2}, "NoGPU", "has 1 nvidia.com/gpu, and 2 are asked", id="too many"),
        pytest.param({"podName": "a", "resource": "amd.com/gpu"}, "NoGPU", "has 0 amd.com/gpu", id="another vendor's"),
        pytest.param({"podName": "done"}, "TargetFinished", "its phase is Succeeded", id="a pod that has ended"),
    ],
)
def test_what_can_never_be_had_fails_with_its_reason(
    lending: Lending, spec: dict[str, Any], reason: str, said: str
) -> None:
    for name in ("a", "done"):
        lending.pod(name, ONE)
    body = {"status": {"phase": "Succeeded"}}
    eventually(lambda: lending.api.get(PODS, "done", lending.namespace)["status"]["phase"] == "Running", "it runs")  # type: ignore[index]
    lending.api.patch(PODS, "done", body, namespace=lending.namespace, subresource="status")
    with controlling(lending):
        lending.ask("bad", spec.pop("podName"), **spec)
        ended(lending, "bad", Type.FAILED, reason)
    assert said in lending.read("bad").status.condition(Type.FAILED)["message"]


def test_a_pod_that_is_created_anew_is_another_pod(lending: Lending) -> None:
    lending.pod("blocker", ONE)
    lending.pod("a", ONE)
    with controlling(lending), Agent(lending, GPUS).working():
        lending.ask("blocking", "blocker")
        lending.until("blocking", Type.ATTACHED)
        lending.ask("a", "a")
        first = lending.until_reason("a", "Queued").status.pod_uid
        owners: dict[str, Any] = {"metadata": {"ownerReferences": None}}  # a borrower may take these away
        lending.api.patch(GPU_ATTACHMENTS, "a", owners, namespace=lending.namespace)
        lending.api.call("DELETE", PODS.path(lending.namespace, "a"), body={"gracePeriodSeconds": 0})
        eventually(lambda: lending.api.get(PODS, "a", lending.namespace) is None, "the pod is gone")
        second = lending.pod("a", ONE)
        attachment = lending.until("a", Type.FAILED)
        assert attachment.status.condition(Type.FAILED)["reason"] in ("TargetReplaced", "TargetGone")
        assert (attachment.status.pod_uid, second) == (first, second)
        assert first != second
        lending.release("blocking")
        ended(lending, "blocking", Type.RELEASED, "Released")
        ended(lending, "a", Type.FAILED, attachment.status.condition(Type.FAILED)["reason"])


def test_a_pod_that_has_the_name_of_the_placeholder_is_none(lending: Lending) -> None:
    lending.pod("a", ONE)
    lending.ask("a", "a")
    lending.pod(placeholder_name(lending.read("a").uid), ONE)
    with controlling(lending):
        attachment = lending.until("a", Type.FAILED)
        assert attachment.status.condition(Type.FAILED)["reason"] == "PlaceholderForged"
        eventually(lambda: not lending.read("a").finalized, "nothing holds it")
    assert lending.placeholder(attachment) is not None
    lending.api.delete(PODS, placeholder_name(attachment.uid), lending.namespace)


def test_one_that_ended_long_enough_ago_is_removed(lending: Lending) -> None:
    with controlling(lending):
        lending.ask("gone", "nobody", ttlSecondsAfterFinished=0)
        eventually(lambda: lending.api.get(GPU_ATTACHMENTS, "gone", lending.namespace) is None, "it is removed")


SITES: Final = set[Site]()


def life(lending: Lending) -> str:
    """One life of a controller, up to its first write, which is named."""
    mortal, woken = Mortal(lending.controller.client, SITES), threading.Event()
    world = World(mortal, SYSTEM, woken.set).start()
    try:
        eventually(lambda: world.synced, "everything is listed")
        Attachments(world, Metrics(lambda: True), Serving(world)).reconcile()
    except Crash as crash:
        return str(crash)
    finally:
        world.stop()
    return ""


def test_a_controller_that_dies_after_every_write_gets_there(lending: Lending) -> None:
    lending.pod("a", ONE)
    lending.ask("a", "a")
    agent, wrote = Agent(lending, GPUS), list[str]()
    for _ in range(40):
        wrote.append(life(lending))
        agent.look()
        attachment = lending.read("a")
        pods = [p for p in lending.api.list(PODS, lending.namespace) if "podsla.io/placeholder" in labels(p)]
        assert len(pods) <= 1
        assert not pods or attachment.finalized
        if attachment.status.has(Type.ATTACHED) and not attachment.spec.release:
            lending.release("a")
        if attachment.is_finished and not attachment.finalized:
            break
    ended(lending, "a", Type.RELEASED, "Released")
    kinds = {what.split()[0] + (" status" if "status" in what else "") for what in wrote if what}
    assert {"PATCH", "PATCH status", "POST", "DELETE"} <= kinds, wrote
    assert [write for write in writes("attachments") if not write.is_among(SITES)] == []
    assert agent.most == {ONE: 1}

"""What is not lent: a bad ask, more than a quota or a budget has; each told with its reason and what to do."""

import json
import time
from typing import Any, Final

import pytest

from attach.api import Type
from attach.budget import KEY, LEDGER, day_of
from kube.api import ApiError, PatchKind, Resource
from kube.kinds import CONFIG_MAPS, DEVICE_CLASSES, EVENTS, GPU_ATTACHMENTS, PODS, SPEC_CATALOGS
from tests.controller.bad_asks import BAD_ASKS, TAKEN, answer, make_room
from tests.controller.borrowing import (
    GPUS,
    NONE,
    ONE,
    SYSTEM,
    TWO,
    Agent,
    Lending,
    controlling,
    ended,
    gone_for_good,
    look,
    namespace,
)
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

QUOTAS: Final = Resource("v1", "resourcequotas")


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
        table = [line.split() for line in lending.user.podsla("gpu", "budget").stdout.splitlines()]
        assert [lending.namespace, "1", "min!", "1", "min"] in table
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
        pytest.param({"podName": "bare"}, "NoGPU", "has 0 nvidia.com/gpu, and 1 are asked", id="on another node"),
        pytest.param(
            {"podName": "a", "models": ["T4"]}, "NoSuchModel", "asked is T4; give the pod", id="another model"
        ),
        pytest.param({"podName": "done"}, "TargetFinished", "its phase is Succeeded", id="a pod that has ended"),
    ],
)
def test_what_can_never_be_had_fails_with_its_reason_at_the_first_look(
    lending: Lending, spec: dict[str, Any], reason: str, said: str
) -> None:
    for name, node in (("a", ONE), ("done", ONE), ("bare", NONE)):
        lending.pod(name, node)
    body = {"status": {"phase": "Succeeded"}}
    eventually(lambda: lending.api.get(PODS, "done", lending.namespace)["status"]["phase"] == "Running", "it runs")  # type: ignore[index]
    lending.api.patch(PODS, "done", body, namespace=lending.namespace, subresource="status")
    lending.ask("bad", spec.pop("podName"), **spec)
    look(lending)
    failed = lending.read("bad").status.condition(Type.FAILED)
    assert (failed.get("status"), failed.get("reason")) == ("True", reason)
    assert said in failed["message"]
    with controlling(lending):
        ended(lending, "bad", Type.FAILED, reason)


def test_bad_input_is_refused_at_apply_or_told_by_a_condition_with_reason_and_sentence(lending: Lending) -> None:
    """How soon is measured by `python -m bench.commands`, on the same table."""
    make_room(lending.api, lending.namespace, ONE)
    with controlling(lending):
        for what, ask in BAD_ASKS.items():
            said = answer(ask, "", lending.api, lending.namespace, lending.user.kubectl)
            assert ask.reason in said, what
            assert ask.said in said, what
            stands = lending.api.get(GPU_ATTACHMENTS, ask.name, lending.namespace)
            assert (stands is not None) == (ask.taken or ask.name == TAKEN), what
        active = lending.read(TAKEN)
        assert (active.spec.pod_name, active.is_finished) == ("pending", False), "the first of the name is as it was"
        lending.api.delete(GPU_ATTACHMENTS, TAKEN, lending.namespace)
        gone_for_good(lending, TAKEN)


def test_what_only_drivers_have_is_left_to_the_scheduler(lending: Lending) -> None:
    """A DeviceClass stands for the resource, so no node publishes it; nor is it known that it can't be had."""
    spec = {"extendedResourceName": "drivers.example.com/gpu"}
    lending.api.create(DEVICE_CLASSES, {"metadata": {"name": "drivers"}, "spec": spec})
    lending.pod("a", ONE)
    lending.ask("dynamic", "a", resource=spec["extendedResourceName"])
    with controlling(lending):
        eventually(lambda: lending.read("dynamic").status.placeholder, "a pod is to reserve it")
        lending.release("dynamic")
        ended(lending, "dynamic", Type.RELEASED, "Released")
    lending.api.delete(DEVICE_CLASSES, "drivers")


def test_what_a_device_plugin_has_yet_to_publish_is_waited_for(lending: Lending) -> None:
    """After a boot, or a start of the kubelet, its resource stands at 0 until the plugin has registered."""
    lending.publish(ONE, 0)
    lending.pod("a", ONE)
    with controlling(lending), Agent(lending, GPUS).working():
        lending.ask("early", "a")
        eventually(lambda: "Insufficient nvidia.com/gpu" in queued_because(lending, "early"), "the scheduler says why")
        lending.publish(ONE, GPUS[ONE])
        lending.until("early", Type.ATTACHED)
        lending.release("early")
        ended(lending, "early", Type.RELEASED, "Released")


def queued_because(lending: Lending, name: str) -> str:
    """What an attachment that waits says."""
    return str(lending.read(name).status.condition(Type.RESERVED).get("message", ""))


def test_which_model_a_node_has_is_not_said_before_it_is_known_what_serves(lending: Lending) -> None:
    """The target names the label that tells; a revision that a status names may be seen after it."""
    lending.pod("a", ONE)
    body = {"apiVersion": "podsla.io/v1beta1", "kind": "SpecCatalog", "metadata": {"name": "unseen"}, "spec": {}}
    lending.api.create(SPEC_CATALOGS, body)
    status = {"status": {"serving": f"sha256:{0:064}"}}
    lending.api.patch(SPEC_CATALOGS, "unseen", status, subresource="status")
    lending.ask("early", "a", models=["T4"])
    look(lending)
    assert lending.read("early").status.conditions == ()
    lending.api.delete(SPEC_CATALOGS, "unseen")
    look(lending)
    assert lending.read("early").status.condition(Type.FAILED)["reason"] == "NoSuchModel"
    lending.api.delete(GPU_ATTACHMENTS, "early", lending.namespace)
    with controlling(lending):
        gone_for_good(lending, "early")


def test_a_name_is_taken_until_what_has_it_is_gone(lending: Lending) -> None:
    """Also while that is being deleted: the GPU is its own until it is given back."""
    lending.pod("a", ONE)
    agent = Agent(lending, GPUS)
    with controlling(lending):
        with agent.working():
            lending.ask("twice", "a")
            first = lending.until("twice", Type.ATTACHED)
        with pytest.raises(ApiError, match='"twice" already exists'):
            lending.ask("twice", "a")
        lending.api.delete(GPU_ATTACHMENTS, "twice", lending.namespace)
        with pytest.raises(ApiError, match=r'object is being deleted: .* "twice" already exists'):
            lending.ask("twice", "a")
        assert lending.read("twice").uid == first.uid
        with Agent(lending, GPUS).working():
            gone_for_good(lending, "twice")
            lending.ask("twice", "a")
            assert lending.until("twice", Type.ATTACHED).uid != first.uid
            lending.release("twice")
            ended(lending, "twice", Type.RELEASED, "Released")

"""GPUs are lent on a real API server, scheduler and quota; every attachment ends with a reason, and nothing is left."""

import threading
from contextlib import suppress
from typing import Any, Final

import click
import pytest

from attach.api import Type, placeholder_name
from controller.attachments import Attachments
from controller.metrics import Metrics
from controller.serving import Serving
from controller.warm import Warm
from controller.world import World
from kube.api import ApiError
from kube.kinds import EVENTS, GPU_ATTACHMENTS, PODS
from podsla.commands.uninstall import detach_all
from tests.controller.borrowing import (
    GPUS,
    ONE,
    SYSTEM,
    TWO,
    Agent,
    Lending,
    controlling,
    ended,
    gone_for_good,
    labels,
    namespace,
)
from tests.controller.sites import Site, writes
from tests.controller.test_crashes import Crash, Mortal
from tests.waiting import eventually

pytestmark = pytest.mark.cluster


def test_a_gpu_is_lent_to_one_after_the_other_and_taken_back(lending: Lending) -> None:
    for name in ("a", "b"):
        lending.pod(name, ONE)
    agent = Agent(lending, GPUS)
    with controlling(lending) as metrics, agent.working():
        lending.ask("first", "a")
        first = lending.until("first", Type.ATTACHED)
        assert (first.status.node, first.status.container, first.owned) == (ONE, "worker", True)
        has = {"node": ONE, "gpu": "GPU-1", "namespace": lending.namespace}
        eventually(lambda: metrics.registry.get_sample_value("podsla_gpu_lent", has) == 1, "who has it is told")
        lending.ask("second", "b")
        second = lending.until_reason("second", "Queued")
        eventually(lambda: lending.read("second").status.queue_position == 1, "it is next")
        assert not second.status.has(Type.RESERVED)
        lending.release("first")
        ended(lending, "first", Type.RELEASED, "Released")
        lending.until("second", Type.ATTACHED)
        lending.api.delete(GPU_ATTACHMENTS, "second", lending.namespace)
        eventually(lambda: lending.api.get(GPU_ATTACHMENTS, "second", lending.namespace) is None, "it is gone")
        by_agent = {(kind, reason) for kind in ("GPUAttachment", "Pod") for reason in ("Attached", "Released")}
        eventually(lambda: by_agent <= told(lending), "what the agent did is told, on both objects")
    assert agent.most == {ONE: 1}
    assert metrics.registry.get_sample_value("podsla_gpu_wait_seconds_count") == 2
    assert metrics.registry.get_sample_value("podsla_gpu_use_seconds_total", {"use": "lent"})
    assert {("GPUAttachment", "Queued"), ("Pod", "Queued")} <= told(lending)


def told(lending: Lending) -> set[tuple[str, str]]:
    """Events of the namespace, by kind and reason."""
    return {(e["regarding"]["kind"], e["reason"]) for e in lending.api.list(EVENTS, lending.namespace)}


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
    with suppress(ApiError):  # whoever collects what has no owner any more may have been faster
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
        metrics, serving = Metrics(lambda: True), Serving(world)
        attachments = Attachments(world, metrics, serving)
        attachments.reconcile()
        Warm(world, metrics, serving, attachments).reconcile()
    except Crash as crash:
        return str(crash)
    finally:
        world.stop()
    return ""


def lives(lending: Lending, agent: Agent, name: str) -> list[str]:
    """Controllers, one after the other, until an attachment has come and gone; what each wrote last."""
    wrote = list[str]()
    for _ in range(40):
        wrote.append(life(lending))
        agent.look()
        attachment = lending.read(name)
        pods = [p for p in lending.api.list(PODS, lending.namespace) if "podsla.io/placeholder" in labels(p)]
        assert len(pods) <= 1
        assert not pods or labels(pods[0])["podsla.io/placeholder"] == "warm" or attachment.finalized
        if attachment.status.has(Type.ATTACHED) and not attachment.spec.release:
            lending.release(name)
        if attachment.is_finished and not attachment.finalized:
            break
    return wrote


def test_a_controller_that_dies_after_every_write_gets_there(lending: Lending) -> None:
    """Whether the GPU is reserved for the attachment, or was kept ready and is handed over."""
    lending.pod("a", ONE)
    lending.ask("a", "a")
    agent = Agent(lending, GPUS)
    wrote = lives(lending, agent, "a")
    ended(lending, "a", Type.RELEASED, "Released")
    kinds = {what.split()[0] + (" status" if "status" in what else "") for what in wrote if what}
    assert {"PATCH", "PATCH status", "POST", "DELETE"} <= kinds, wrote

    lending.borrower("b", ONE)
    lending.keep_ready("1")
    eventually(lambda: life(lending) == "" and lending.warm(), "one is ready", 60)
    (kept,) = lending.warm()
    lending.keep_ready("0")  # what it has is handed over first, and then there is to be none
    lending.ask("b", "b")
    wrote = lives(lending, agent, "b")
    handed = lending.read("b").status.placeholder
    assert handed is not None
    assert handed.name == kept, wrote
    ended(lending, "b", Type.RELEASED, "Released")

    lending.keep_ready("1")
    eventually(lambda: life(lending) == "" and lending.warm(), "another is ready", 60)
    lending.keep_ready(None)
    eventually(lambda: life(lending) == "" and not lending.warm(), "it is given back", 60)
    lending.until_cold()

    lending.ask("late", "nobody", ttlSecondsAfterFinished=0)
    eventually(
        lambda: life(lending) == "" and lending.api.get(GPU_ATTACHMENTS, "late", lending.namespace) is None,
        "one that has ended is removed",
        60,
    )
    assert [write for write in writes("attachments", "warm") if not write.is_among(SITES)] == []
    assert agent.most == {ONE: 1}

"""What a namespace keeps ready, on a real API server, scheduler and quota: held, handed over, and never in the way."""

import pytest

from attach.api import Attachment, Type
from kube.api import Resource
from kube.kinds import PODS
from podsla.commands.uninstall import delete_warm
from tests.controller.borrowing import GPUS, ONE, TWO, Agent, Lending, controlling, ended
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

QUOTAS = Resource("v1", "resourcequotas")


def reserving(attachment: Attachment) -> tuple[str, str]:
    assert attachment.status.placeholder is not None
    return attachment.status.placeholder.name, attachment.status.placeholder.uid


def test_what_is_kept_ready_is_handed_to_one_of_two_and_made_anew(lending: Lending) -> None:
    lending.borrower("a", TWO)
    lending.borrower("b", TWO)
    lending.keep_ready("1")
    agent = Agent(lending, GPUS)
    with controlling(lending), agent.working():
        eventually(lending.warm, "one is ready", 30)
        (kept,) = lending.warm()
        before = lending.api.get(PODS, kept, lending.namespace)
        assert before is not None

        lending.ask("first", "a")
        lending.ask("second", "b")
        both = [reserving(lending.until(name, Type.ATTACHED)) for name in ("first", "second")]

        assert (kept, before["metadata"]["uid"]) in both
        assert len({uid for _, uid in both}) == 2
        assert lending.warm() == [], "whoever may borrow has one, and none is to be kept"
        for name in ("first", "second"):
            lending.release(name)
            ended(lending, name, Type.RELEASED, "Released")
        eventually(lambda: lending.warm() not in ([], [kept]), "another is ready", 30)
    assert agent.most == {TWO: 2}

    assert len(lending.warm()) == 1
    delete_warm(lending.api)
    assert lending.warm() == [], "nobody else would end it once podsla is uninstalled"
    lending.until_cold()


def test_an_attachment_comes_before_what_its_namespace_keeps_ready(lending: Lending) -> None:
    """One that needs both GPUs of the node is not made to wait for one that stands by for nobody."""
    lending.borrower("a", TWO)
    lending.keep_ready("auto")
    with controlling(lending), Agent(lending, GPUS).working():
        lending.ask("one", "a")
        lending.until("one", Type.ATTACHED)
        lending.release("one")
        ended(lending, "one", Type.RELEASED, "Released")
        eventually(lending.warm, "as many are ready as were asked for within a minute", 30)
        assert len(lending.warm()) == 1

        lending.ask("two", "a", count=2)
        lending.until("two", Type.ATTACHED)

        assert lending.warm() == []
        lending.until_cold()
        lending.release("two")
        ended(lending, "two", Type.RELEASED, "Released")
        lending.until_cold()


def test_quota_bounds_what_is_kept_ready_and_an_attachment_elsewhere_gets_it(lending: Lending) -> None:
    quota = {"metadata": {"name": "gpus"}, "spec": {"hard": {"requests.nvidia.com/gpu": "1"}}}
    lending.api.create(QUOTAS, quota, lending.namespace)
    eventually(lambda: lending.api.get(QUOTAS, "gpus", lending.namespace)["status"]["hard"], "quota counts")  # type: ignore[index]
    lending.borrower("a", TWO)
    lending.borrower("b", TWO)
    lending.pod("c", ONE)
    lending.keep_ready("2")
    with controlling(lending), Agent(lending, GPUS).working():
        eventually(lending.warm, "one is ready", 30)

        lending.ask("c", "c")
        refused = lending.until_reason("c", "QuotaExceeded")
        assert "used: requests.nvidia.com/gpu=1" in refused.status.condition(Type.RESERVED)["message"]
        lending.until("c", Type.ATTACHED)
        assert lending.warm() == []

        lending.release("c")
        ended(lending, "c", Type.RELEASED, "Released")
        lending.until_cold()

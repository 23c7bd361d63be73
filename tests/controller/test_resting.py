"""The controller pauses between rounds, but not for who waits for a GPU; no cluster."""

import threading

import pytest
from kubernetes.client import ApiClient, Configuration

import controller.process
from controller.process import Controller, Task
from controller.world import World
from kube.api import Api
from kube.lease import Election


@pytest.fixture
def ran() -> list[str]:
    """Names of reconcilers in the order in which they ran."""
    return []


@pytest.fixture
def resting(monkeypatch: pytest.MonkeyPatch, ran: list[str]) -> Controller:
    """One that leads, knows all, has two reconcilers, and pauses for longer than any test."""
    monkeypatch.setattr(Election, "leading", True)
    monkeypatch.setattr(World, "synced", True)
    monkeypatch.setattr(controller.process, "AT_MOST_EVERY_S", 60.0)
    made = Controller(Api(ApiClient(Configuration())), "podsla-system", "me")

    def hurried() -> bool:
        ran.append("attachments")
        if len(ran) == 2:
            made.stop()
        else:
            made.world.attachments._source.on_sync()  # what was just written is seen here
        return True

    def slow() -> bool:
        ran.append("capacity")
        return True

    made.tasks = [Task("capacity", slow), Task("attachments", hurried, hurries=True)]
    return made


def test_who_asks_in_a_pause_is_served_in_it_and_nobody_else_is(resting: Controller, ran: list[str]) -> None:
    asks = threading.Timer(0.01, resting.world.placeholders._source.on_sync)
    asks.start()

    resting.rest()

    assert ran == ["attachments", "attachments"]
    assert resting.woken.is_set(), "the others look at it after the pause"


def test_who_asks_during_a_round_or_before_it_is_served_before_what_comes_next(
    resting: Controller, ran: list[str]
) -> None:
    """Seen to fail where a round runs as it is ordered: "capacity" comes first, which may take long."""
    resting.hurry()

    resting.attempt_all(resting.tasks)

    assert ran == ["attachments", "capacity", "attachments"]


def test_what_nodes_report_waits_for_the_end_of_the_pause(
    resting: Controller, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller.process, "AT_MOST_EVERY_S", 0.05)
    resting.world.nodes._source.on_sync()

    resting.rest()

    assert ran == []
    assert resting.woken.is_set()


def test_those_hurry_that_somebody_waits_for_or_that_keep_a_device_from_being_given_twice() -> None:
    made = Controller(Api(ApiClient(Configuration())), "podsla-system", "me")

    assert [task.name for task in made.tasks if task.hurries] == ["attachments", "quarantine"]

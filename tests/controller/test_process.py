"""The loop of the process, with an election that is decided beforehand; nobody is called."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration

from attach.api import parse_attachment
from controller.process import Controller, Task
from kube.api import Api, ApiError
from kube.kinds import NODES
from tests.attach.test_api import attachment


def controller() -> Controller:
    return Controller(Api(ApiClient(Configuration())), "podsla-system", "one")


class Election:
    """Says of each round whether it leads; after the last one the process is stopped."""

    def __init__(self, made: Controller, rounds: Iterator[bool]) -> None:
        self.made, self.rounds = made, rounds

    @property
    def leading(self) -> bool:
        self.made.woken.set()
        leads = next(self.rounds, None)
        if leads is None:
            self.made.stop()
        return bool(leads)

    def start(self) -> None: ...

    def stop(self) -> None: ...


def test_who_leads_no_more_forgets_before_it_leads_again() -> None:
    """Seen to fail where only those who lead do anything."""
    made, done = controller(), list[str]()
    stub: Any = SimpleNamespace(synced=True, start=lambda: None, forget_bound=lambda: None)
    made.world, made.election = stub, Election(made, iter([True, False, True]))  # type: ignore[assignment]

    def reconcile() -> bool:
        done.append("reconcile")
        return True

    made.tasks = [Task("one", reconcile, forget=lambda: done.append("forget"))]
    made.woken.set()
    made.run()

    assert done[:3] == ["reconcile", "forget", "reconcile"]


def test_who_does_not_lead_writes_nothing_whatever_is_under_way() -> None:
    """Seen to fail where the reconcilers write through a connection that does not ask the election."""
    with pytest.raises(ApiError, match="not the leader any more"):
        controller().world.api.create(NODES, {"metadata": {"name": "n1"}})


def test_a_gpu_that_was_given_while_another_led_is_not_told_of_again() -> None:
    """Seen to fail where attachments are kept in mind: the wait is counted twice."""
    (task,) = (task for task in controller().tasks if task.name == "attachments")
    attachments: Any = task.reconcile.__self__  # type: ignore[attr-defined]
    attachments._read = {"u1": ({}, parse_attachment(attachment({})))}

    task.forget()

    assert attachments.all() == ()

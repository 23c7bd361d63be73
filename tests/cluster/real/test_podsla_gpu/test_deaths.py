"""Agent and controllers die at every step of theirs, in their pods; the judge is the device, as two pods open it."""

from itertools import count
from typing import Final

import pytest

from attach.journal import decode
from attach.store import JOURNAL
from kube.kinds import LEASES, PODS
from tests.cluster.gpus import STATE
from tests.cluster.install import NAMESPACE as SYSTEM
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.borrow import MOVES_S, Gpus, create_attachment, lend, take_back, wait_condition
from tests.cluster.real.faults import dying_at, dying_controllers
from tests.cluster.real.pods import NAMESPACE
from tests.cluster.real.windows import watching
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes

MOMENTS: Final = 10  # both an attach and a release have more
WRITES: Final = 12  # likewise: of two attachments


def test_an_agent_that_dies_at_every_step_gives_a_device_from_one_to_the_other(
    installed: User, gpus: Gpus, borrower: str, rival: str
) -> None:
    """At the n-th moment of the n-th attach, and of its release, until both come to their ends before that."""
    (gpu,), turns = gpus[HOST], list[str]()
    with watching(installed, gpu, {borrower: NAMESPACE, rival: NAMESPACE}) as seen:
        for number in count(1):
            turns.append((borrower, rival)[number % 2])
            with dying_at(number) as attaching:
                lend(installed, f"death-{number}", turns[-1], HOST)
                died = attaching.obeyed
            with dying_at(number) as releasing:
                take_back(installed, f"death-{number}")
                eventually(lambda: not in_journal(), "the agent has done with it", MOVES_S)
                died_again = releasing.obeyed
            if not died and not died_again:
                break

    assert number > MOMENTS
    assert seen.turns() == turns


def in_journal() -> list[str]:
    """Name the attachments that the agent of this machine has in its journal."""
    return sorted(decode((STATE / JOURNAL).read_bytes()).entries)


def test_controllers_that_die_after_every_write_lend_a_device_to_one_and_then_to_the_other(
    installed: User, cluster: Cluster, gpus: Gpus, borrower: str, rival: str
) -> None:
    """Both of them; the one that has made a placeholder stays away, so that the other one leads amid the attach."""
    (gpu,), before = gpus[HOST], leaders(installed)
    with (
        watching(installed, gpu, {borrower: NAMESPACE, rival: NAMESPACE}) as seen,
        dying_controllers(cluster),
    ):
        lend(installed, "mortal", borrower, HOST)
        create_attachment(installed, "after-mortal", rival)
        take_back(installed, "mortal")
        wait_condition(installed, "after-mortal", "Attached")
        take_back(installed, "after-mortal")
        died = restarts(installed)

    assert seen.turns() == [borrower, rival]
    assert died >= WRITES
    assert leaders(installed) >= before + 2, "no other controller led while a device was on its way"


def restarts(user: User) -> int:
    """How often controllers were started again in their pods."""
    pods = user.api.list(PODS, SYSTEM, labelSelector="app.kubernetes.io/name=podsla-controller")
    return sum(one["restartCount"] for pod in pods for one in pod["status"].get("containerStatuses", ()))


def leaders(user: User) -> int:
    """How often another controller has come to lead."""
    lease = user.api.get(LEASES, "podsla-controller", SYSTEM)
    assert lease is not None
    return int(lease["spec"]["leaseTransitions"])

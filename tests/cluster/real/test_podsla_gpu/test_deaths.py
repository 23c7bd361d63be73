"""Agent and controllers die at every step of theirs, in their pods; the judge is the device, as two pods open it."""

from typing import Final

import pytest

from kube.kinds import LEASES, PODS
from tests.cluster.install import NAMESPACE as SYSTEM
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.borrow import Gpus, create_attachment, lend, take_back, wait_condition
from tests.cluster.real.faults import dying_at, dying_controllers
from tests.cluster.real.pods import NAMESPACE
from tests.cluster.real.windows import watching
from tests.cluster.state import Cluster
from tests.system.user import User

pytestmark = pytest.mark.nodes

MOMENTS: Final = range(20, 60)  # of a release and the attach after it
WRITES: Final = 8  # of two attachments, as far as kubelets have told by then


def test_an_agent_that_dies_at_every_step_gives_a_device_from_one_to_the_other(
    installed: User, gpus: Gpus, borrower: str, rival: str
) -> None:
    """
    At the first moment of a release or of the attach that waits for it, then at the second, until none is left.

    Seen to fail where the journal goes with the process.
    """
    (gpu,), turns = gpus[HOST], [rival]
    with watching(installed, gpu, {borrower: NAMESPACE, rival: NAMESPACE}) as seen:
        lend(installed, "death-0", rival, HOST)
        for number in range(1, MOMENTS.stop + 1):
            turns.append((rival, borrower)[number % 2])
            create_attachment(installed, f"death-{number}", turns[-1])
            with dying_at(number) as order:
                take_back(installed, f"death-{number - 1}")
                wait_condition(installed, f"death-{number}", "Attached")
                has_died = order.obeyed
            if not has_died:
                break
        take_back(installed, f"death-{number}")

    assert number in MOMENTS, "it died too seldom, or never came to an end"
    assert seen.turns() == turns


def test_controllers_that_die_after_every_write_lend_a_device_to_one_and_then_to_the_other(
    installed: User, cluster: Cluster, gpus: Gpus, borrower: str, rival: str
) -> None:
    """Both of them; the one that has made a placeholder stays away, so that the other one leads amid the attach."""
    (gpu,) = gpus[HOST]
    with (
        watching(installed, gpu, {borrower: NAMESPACE, rival: NAMESPACE}) as seen,
        dying_controllers(cluster),
    ):
        before = leaders(installed)
        lend(installed, "mortal", borrower, HOST)
        during = leaders(installed)
        create_attachment(installed, "after-mortal", rival)
        take_back(installed, "mortal")
        wait_condition(installed, "after-mortal", "Attached")
        take_back(installed, "after-mortal")
        died = restarts(installed)

    assert seen.turns() == [borrower, rival]
    assert died >= WRITES
    assert during > before, "no other controller led while a device was on its way"


def restarts(user: User) -> int:
    """How often controllers were started again in their pods."""
    pods = user.api.list(PODS, SYSTEM, labelSelector="app.kubernetes.io/name=podsla-controller")
    return sum(one["restartCount"] for pod in pods for one in pod["status"].get("containerStatuses", ()))


def leaders(user: User) -> int:
    """How often another controller has come to lead."""
    lease = user.api.get(LEASES, "podsla-controller", SYSTEM)
    assert lease is not None
    return int(lease["spec"]["leaseTransitions"])

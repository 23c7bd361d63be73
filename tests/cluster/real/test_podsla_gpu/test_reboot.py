"""A real node is started anew while a pod on it borrows a GPU."""

import pytest

from tests.cluster.nodeconfig import VM
from tests.cluster.real.borrow import (
    BORROWERS,
    MOVES_S,
    RIVALS,
    Gpus,
    boot_of,
    opens,
    take_back,
    wait_condition,
    why_released,
)
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes


def test_a_node_that_is_started_anew_has_taken_it_back_and_gives_it_to_the_next_one(
    installed: User, gpus: Gpus, reboot: str
) -> None:
    """
    As by the button of the machine, with nothing written down that was not.

    Containers and device rules are gone with the boot, and the placeholder's process too, so the kubelet frees the
    device; the journal says who had it.
    """
    (gpu,) = gpus[VM]
    eventually(lambda: boot_of(installed, VM) != reboot, "the node says that it was started anew", MOVES_S)
    got = wait_condition(installed, "after-reboot", "Attached")

    wait_condition(installed, "rebooted", "Released")  # of both, which is told first is chance
    assert why_released(installed, "rebooted") == "ReservationLost"
    pods = (BORROWERS[VM], RIVALS[VM])
    state = ["denied", "opens"]
    eventually(lambda: [opens(installed, pod, gpu) for pod in pods] == state, "the next one alone has it", MOVES_S)
    assert got["status"]["devices"] == [{"uuid": gpu["uuid"]}]
    take_back(installed, "after-reboot")

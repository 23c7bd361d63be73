"""Who gets the last GPU of a real node; beside these tests the virtual node is started anew."""

from typing import Final

import pytest

from attach.api import Type
from kube.api import Object
from kube.kinds import NODES
from tests.cluster.archives import PAUSE
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.borrow import (
    MOVES_S,
    Gpus,
    create_attachment,
    hold,
    lend,
    make_namespace,
    open_by,
    opens,
    read,
    take_back,
    wait_condition,
    wait_reason,
    why_released,
)
from tests.cluster.real.faults import unhealthy
from tests.cluster.real.pods import NAMESPACE, create_pod, wait_running
from tests.cluster.real.windows import watching
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.nodes, pytest.mark.usefixtures("reboot")]

RESOURCE: Final = "nvidia.com/gpu"
URGENT: Final = {"image": PAUSE, "resources": {"limits": {RESOURCE: "1"}}}


def open_in(user: User, gpu: Object, *pods: str) -> list[str]:
    """Name the pods that open a device."""
    return [pod for pod in pods if opens(user, pod, gpu) == "opens"]


def test_two_that_race_for_the_last_gpu_get_it_one_after_the_other(
    installed: User, gpus: Gpus, borrower: str, rival: str
) -> None:
    """Both ask before either has anything."""
    (gpu,), pods = gpus[HOST], {"race-a": borrower, "race-b": rival}
    for name, pod in pods.items():
        create_attachment(installed, name, pod)
    first = eventually(
        lambda: next((one for one in pods if read(installed, one).status.has(Type.ATTACHED)), ""), "one has it", MOVES_S
    )
    (second,) = pods.keys() - {first}
    wait_reason(installed, second, "Queued")
    assert open_in(installed, gpu, borrower, rival) == [pods[first]]

    take_back(installed, first)

    wait_condition(installed, second, "Attached")
    assert open_in(installed, gpu, borrower, rival) == [pods[second]]
    take_back(installed, second)
    assert open_in(installed, gpu, borrower, rival) == []


def test_a_pod_of_more_priority_gets_it_once_nobody_has_it_open(installed: User, gpus: Gpus, borrower: str) -> None:
    """The scheduler preempts the placeholder, which ends when nobody has the device open any more, and not before."""
    (gpu,), where = gpus[HOST], make_namespace(installed, "preempts")
    placeholder = lend(installed, "preempted", borrower, HOST, detachPolicy="Terminate")
    held = hold(installed, borrower, gpu)

    with watching(installed, gpu, {borrower: NAMESPACE}, placeholder) as seen:
        create_pod(installed, "urgent", HOST, URGENT, where, priorityClassName="system-cluster-critical")
        wait_running(installed, "urgent", where)

    assert seen.freed_s
    assert seen.window_s(borrower) == 0
    assert not held & open_by(gpu)
    assert opens(installed, borrower, gpu) == "denied"
    wait_condition(installed, "preempted", "Released")
    assert why_released(installed, "preempted") == "PlaceholderDeleted"
    assert installed.kubectl("-n", where, "delete", "pod", "urgent", "--now").returncode == 0


def test_a_device_that_falls_ill_stays_with_who_has_it_and_comes_to_nobody_else_before_it_is_well(
    installed: User, gpus: Gpus, borrower: str, rival: str
) -> None:
    """By the word of its device plugin; what the agent does where the driver says so, `test_plan.py` shows."""
    (gpu,) = gpus[HOST]
    lend(installed, "ill", borrower, HOST)

    with unhealthy(gpu):
        eventually(lambda: allocatable(installed) == "0", "the node offers none", MOVES_S)
        assert opens(installed, borrower, gpu) == "opens"
        take_back(installed, "ill")
        create_attachment(installed, "after-ill", rival)
        eventually(lambda: "Insufficient" in why_it_waits(installed, "after-ill"), "the scheduler has none", MOVES_S)
        assert open_in(installed, gpu, borrower, rival) == []

    wait_condition(installed, "after-ill", "Attached")
    assert open_in(installed, gpu, borrower, rival) == [rival]
    take_back(installed, "after-ill")


def allocatable(user: User) -> str:
    """How many GPUs the node of this machine offers."""
    found = user.api.get(NODES, HOST)
    return str(found["status"]["allocatable"][RESOURCE]) if found else ""


def why_it_waits(user: User, name: str) -> str:
    """What an attachment says of why its device is not reserved."""
    return str(read(user, name).status.condition(Type.RESERVED).get("message", ""))

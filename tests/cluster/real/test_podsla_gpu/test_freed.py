"""
The kubelet frees a device by force: the pod that had it can open it until its agent has heard of that.

How long that is, `-s` prints. Meanwhile nobody else gets it. Beside these tests the virtual node is started anew.
"""

from typing import Any, Final

import pytest

from kube.kinds import PODS
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.borrow import (
    MOVES_S,
    Gpus,
    create_attachment,
    lend,
    make_namespace,
    run_borrower,
    take_back,
    wait_condition,
    why_released,
)
from tests.cluster.real.pods import NAMESPACE
from tests.cluster.real.windows import GRACE_S, tell, watching
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.nodes, pytest.mark.usefixtures("reboot")]

SCRATCH: Final = 1 << 20


def test_a_placeholder_that_is_deleted_by_force(installed: User, gpus: Gpus, borrower: str, rival: str) -> None:
    """The kubelet kills it and frees its device, whatever its grace period is."""
    (gpu,) = gpus[HOST]
    placeholder = lend(installed, "forced", borrower, HOST, gracePeriodSeconds=GRACE_S)
    create_attachment(installed, "after-forced", rival)

    with watching(installed, gpu, {borrower: NAMESPACE, rival: NAMESPACE}, placeholder) as seen:
        forced = installed.kubectl("delete", "pod", placeholder, "--force", "--grace-period=0")
        assert forced.returncode == 0, forced.stderr
        wait_condition(installed, "after-forced", "Attached")
        take_back(installed, "after-forced")

    tell("deleted by force", seen, borrower)
    assert seen.turns() == [borrower, rival]
    assert why_released(installed, "forced") in ("PlaceholderDeleted", "ReservationLost")  # which of both it sees first


def test_a_placeholder_that_its_kubelet_evicts(installed: User, cluster: Cluster, gpus: Gpus, rival: str) -> None:
    """At once, as under pressure: here for what it has written, of which its namespace allows little."""
    (gpu,), where = gpus[HOST], make_namespace(installed, "evicts")
    pod = run_borrower(installed, "evicted", HOST, where)
    assert installed.apply(limit_range(where)).returncode == 0
    placeholder = lend(installed, "evicted", pod, HOST, where, gracePeriodSeconds=GRACE_S)
    create_attachment(installed, "after-evicted", rival)

    with watching(installed, gpu, {pod: where, rival: NAMESPACE}, placeholder) as seen:
        write_log(installed, cluster, where, placeholder)
        wait_condition(installed, "after-evicted", "Attached")
        take_back(installed, "after-evicted")

    tell("evicted by its kubelet", seen, pod)
    assert seen.turns() == [pod, rival]
    assert why_released(installed, "evicted", where) == "ReservationLost"
    gone = installed.api.get(PODS, placeholder, where)
    assert gone is None or gone["status"].get("reason") == "Evicted"


def limit_range(namespace: str) -> dict[str, Any]:
    """Allow containers that say nothing else to write no more than a little."""
    limit = {"type": "Container", "default": {"ephemeral-storage": str(SCRATCH)}}
    meta = {"name": "scratch", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": meta, "spec": {"limits": [limit]}}


def write_log(user: User, cluster: Cluster, namespace: str, pod: str) -> None:
    """Have a pod of this machine logged more than it may write."""
    found = eventually(lambda: user.api.get(PODS, pod, namespace), "the placeholder")
    assert found is not None
    folder = cluster.folder / "log" / "pods" / f"{namespace}_{pod}_{found['metadata']['uid']}"
    (log,) = eventually(lambda: list(folder.glob("*/0.log")), "it has begun", MOVES_S)
    with log.open("a") as file:
        file.write(("x" * 1023 + "\n") * (4 * SCRATCH >> 10))

"""
An etcd is restored from a snapshot, so what the API server says and what is so on a node disagree.

How long the pod that had the device can open it after the kubelet has freed it, `-s` prints.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kube.kinds import GPU_ATTACHMENTS
from tests.cluster import binaries, host, vm
from tests.cluster.control_plane import copy_etcd, restore_etcd
from tests.cluster.nodeconfig import HOST
from tests.cluster.pins import needed
from tests.cluster.real.borrow import (
    MOVES_S,
    Gpus,
    create_attachment,
    lend,
    opens,
    take_back,
    wait_condition,
)
from tests.cluster.real.pods import NAMESPACE
from tests.cluster.real.windows import GRACE_S, tell, watching
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes


@contextmanager
def restored(cluster: Cluster, copy: Path) -> Iterator[None]:
    """Have etcd restored, and kubelets restarted as its manual has it, after what is done meanwhile."""
    copy_etcd(cluster, copy)
    yield
    restore_etcd(cluster, copy, binaries.ensure(needed(cluster.profile)))
    host.restart_kubelet(cluster)
    if cluster.profile.vm:
        vm.restart_kubelet()


def test_an_etcd_that_is_restored_from_before_it_was_lent(
    installed: User, cluster: Cluster, gpus: Gpus, borrower: str, rival: str, tmp_path: Path
) -> None:
    """Nobody but the agent knows of it: whoever asks then waits until it is closed."""
    (gpu,), pods = gpus[HOST], {borrower: NAMESPACE, rival: NAMESPACE}
    with watching(installed, gpu, pods) as seen:
        with restored(cluster, tmp_path / "etcd"):
            seen.placeholder = lend(installed, "forgotten", borrower, HOST, gracePeriodSeconds=GRACE_S)
        create_attachment(installed, "after-restore", rival)
        wait_condition(installed, "after-restore", "Attached")
        take_back(installed, "after-restore")

    tell("etcd restored", seen, borrower)
    assert seen.turns() == [borrower, rival]
    assert installed.api.get(GPU_ATTACHMENTS, "forgotten", NAMESPACE) is None


def test_an_etcd_that_is_restored_from_when_another_had_it(
    installed: User, cluster: Cluster, gpus: Gpus, borrower: str, rival: str, tmp_path: Path
) -> None:
    """What the API server says and what is so on the node disagree about both."""
    (gpu,), pods = gpus[HOST], {borrower: NAMESPACE, rival: NAMESPACE}
    with watching(installed, gpu, pods) as seen:
        lend(installed, "had-it", borrower, HOST)
        with restored(cluster, tmp_path / "etcd"):
            take_back(installed, "had-it")
            lend(installed, "has-it", rival, HOST, gracePeriodSeconds=GRACE_S)
        eventually(lambda: opens(installed, rival, gpu) == "denied", "it is taken from who is not known", MOVES_S)
        take_back(installed, "had-it")
        lend(installed, "again", rival, HOST)
        take_back(installed, "again")

    tell("etcd restored from when another had it", seen, rival)
    assert seen.turns() in ([borrower, rival], [borrower, rival, borrower, rival])

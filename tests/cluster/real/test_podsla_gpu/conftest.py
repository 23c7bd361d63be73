"""
The devices of both nodes, and who borrows them; for all tests of this folder, in whose order they run.

Devices that every machine has stand for GPUs; a device plugin offers them to the kubelet, so scheduler and kubelet
count and give them as real ones. This machine has cgroup version 1 and cgroupfs, the virtual one version 2 and systemd;
it takes minutes to begin, and does so beside the tests of this one.
"""

from collections.abc import Iterator
from typing import Final

import pytest
import yaml

from tests.cluster import vm
from tests.cluster.demo_gpu import phases
from tests.cluster.gpus import offering, stand_ins, wait_for_gpus
from tests.cluster.nodeconfig import HOST, VM
from tests.cluster.real.borrow import (
    BORROWERS,
    RIVALS,
    VIRTUAL_JOB,
    Gpus,
    boot_of,
    create_attachment,
    create_borrower,
    lend,
    remove_namespaces,
    run_borrower,
)
from tests.cluster.real.phases import score
from tests.cluster.real.pods import wait_running
from tests.cluster.state import Cluster
from tests.system.user import User

NODES: Final = (HOST, VM)


@pytest.fixture(scope="package")
def gpus(installed: User, cluster: Cluster) -> Iterator[Gpus]:
    """The devices of each node, which its kubelet offers and its agent gives."""
    found: Gpus = {node: stand_ins(node)[:1] for node in NODES}
    with offering(cluster, found, dying=True):
        yield found
        _clear(installed)


def _clear(installed: User) -> None:
    """Take away what the tests of this folder made; other pods of the namespace are other tests' own."""
    left = phases(HOST)
    installed.kubectl("delete", "-f", "-", "--ignore-not-found", "--cascade=foreground", "--timeout=120s", text=left)
    installed.kubectl(
        "delete", "job", VIRTUAL_JOB, "score", "--ignore-not-found", "--cascade=foreground", "--timeout=120s"
    )
    installed.kubectl("delete", "gpuattachments", "--all", "--timeout=120s")
    own = (*BORROWERS.values(), *RIVALS.values())
    installed.kubectl("delete", "pods", *own, "--ignore-not-found", "--now", "--timeout=120s")
    remove_namespaces(installed)


@pytest.fixture(scope="package")
def borrower(installed: User, gpus: Gpus) -> str:
    """A running pod on this machine, to which nothing was lent yet."""
    return run_borrower(installed, BORROWERS[HOST], HOST)


@pytest.fixture(scope="package")
def rival(installed: User, gpus: Gpus) -> str:
    """Another one, that would have the same device."""
    return run_borrower(installed, RIVALS[HOST], HOST)


@pytest.fixture(scope="package")
def virtual_jobs(installed: User, cluster: Cluster, gpus: Gpus) -> None:
    """
    Jobs of the virtual node, begun here so that they run beside tests of this machine.

    One borrows in code, the other's phases are containers; the node has one device, and so they take turns.
    """
    wait_for_gpus(cluster, VM, 1)
    *things, job, _ = yaml.safe_load_all(phases(VM))
    job["metadata"]["name"] = VIRTUAL_JOB
    applied = installed.kubectl("apply", "-f", "-", text=yaml.safe_dump_all([*things, job]))
    assert applied.returncode == 0, applied.stderr
    phased = installed.apply(score(VM, gpus[VM][0], "borrower"))
    assert phased.returncode == 0, phased.stderr


@pytest.fixture(scope="package")
def reboot(installed: User, virtual_jobs: None) -> str:
    """
    Start the virtual node anew while a pod has its device and another one waits for it; which boot it was before.

    It takes minutes until both run again, so tests of this machine run meanwhile.
    """
    for pod in (BORROWERS[VM], RIVALS[VM]):
        create_borrower(installed, pod, VM)
    for pod in (BORROWERS[VM], RIVALS[VM]):
        wait_running(installed, pod)
    lend(installed, "rebooted", BORROWERS[VM], VM)
    create_attachment(installed, "after-reboot", RIVALS[VM])
    before = boot_of(installed, VM)
    vm.reset()
    return before

"""On the virtual node: systemd, cgroup version 2, and a machine that can be started anew."""

import os
from typing import Final

import pytest

from tests.cluster.install import kubectl
from tests.cluster.nodeconfig import VM
from tests.cluster.real.borrow import (
    BORROWERS,
    MOVES_S,
    RIVALS,
    SEEN,
    VIRTUAL_JOB,
    Gpus,
    lend,
    opens,
    run_borrower,
    take_back,
    told_by,
)
from tests.cluster.real.faults import allowed_by_systemd, reloading, set_property, wait_reload
from tests.cluster.real.phases import had_in_the_second_alone, lent, seen, wait_scored
from tests.cluster.real.pods import NAMESPACE
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes


CYCLES: Final = int(os.environ.get("PODSLA_RELOAD_CYCLES", "1"))


@pytest.mark.usefixtures("virtual_jobs")
def test_a_job_of_the_virtual_node_borrows_for_its_second_phase(installed: User, cluster: Cluster) -> None:
    """Under systemd, and by programs of cgroup version 2."""
    kubectl(cluster, "wait", "--for=condition=complete", f"job/{VIRTUAL_JOB}", f"--timeout={MOVES_S:.0f}s")

    assert told_by(installed, VIRTUAL_JOB) == SEEN


@pytest.mark.usefixtures("virtual_jobs")
def test_a_container_of_the_virtual_node_is_a_phase(installed: User, gpus: Gpus) -> None:
    """Likewise, by the annotation alone."""
    pod = wait_scored(installed, NAMESPACE)["metadata"]["name"]

    assert seen(installed, NAMESPACE, pod) == had_in_the_second_alone(gpus[VM][0])
    (one,) = lent(installed, NAMESPACE, pod)
    (other,) = (each for each in lent(installed, NAMESPACE) if each.spec.pod_name.startswith(VIRTUAL_JOB))
    assert one.spec.container == "infer"
    first, second = sorted((one, other), key=lambda each: each.status.attached_s or 0.0)
    assert first.status.devices == second.status.devices == (gpus[VM][0]["uuid"],)
    assert (first.finished_s or 0.0) <= (second.status.attached_s or 0.0)


@pytest.mark.usefixtures("virtual_jobs")
def test_a_systemd_that_reloads_all_the_time_takes_no_device_away_and_gives_none_back(
    installed: User, gpus: Gpus
) -> None:
    """On the virtual node, and to nobody else. `make soak-reload` does it a thousand times."""
    pod, rival = (run_borrower(installed, each[VM], VM) for each in (BORROWERS, RIVALS))
    (gpu,) = gpus[VM]
    before = allowed_by_systemd(installed, pod)
    with reloading():
        for number in range(CYCLES):
            assert opens(installed, pod, gpu) == "denied"
            lend(installed, f"reloaded-{number}", pod, VM)
            wait_reload()
            ours = f"{gpu['major']}:{gpu['minor']} "  # no repair tells systemd anew
            assert any(ours in line for line in allowed_by_systemd(installed, pod))
            eventually(lambda: opens(installed, pod, gpu) == "opens", "the device opens", MOVES_S)
            assert opens(installed, rival, gpu) == "denied"
            set_property(installed, pod)
            assert opens(installed, pod, gpu) == "opens"
            take_back(installed, f"reloaded-{number}")
        wait_reload()
    assert opens(installed, pod, gpu) == "denied"
    assert allowed_by_systemd(installed, pod) == before

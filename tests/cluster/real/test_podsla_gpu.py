"""
A pod borrows a GPU on a real node, whose agent runs in a pod.

On this machine (cgroup version 1, cgroupfs). Devices that every machine has stand for GPUs; a device plugin offers
them to the kubelet, so scheduler and kubelet count and give them as real ones.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest

from attach.api import parse_attachment
from kube.api import Object
from kube.kinds import GPU_ATTACHMENTS, PODS
from tests.cluster.demo_gpu import JOBS, attachments, phases, wait_for_jobs
from tests.cluster.gpus import AGENTS, METRICS, install_gpus, remove_gpus, run_in_container, stand_ins, wait_for_gpus
from tests.cluster.nodeconfig import HOST
from tests.cluster.processes import is_alive
from tests.cluster.real.borrow import (
    MOVES_S,
    create_attachment,
    create_borrower,
    opens,
    release,
    wait_condition,
)
from tests.cluster.real.pods import NAMESPACE, wait_running
from tests.cluster.state import Cluster, Process
from tests.system.rights import check_least, granted, used
from tests.system.user import User
from tests.waiting import eventually

NODES: Final = (HOST,)  # the virtual one is too slow for these waits as they stand: its engine is tested by itself
Gpus = dict[str, Sequence[dict[str, Any]]]

pytestmark = pytest.mark.nodes


def borrower_of(node: str) -> str:
    """The pod of a node that borrows."""
    return f"borrower-{node}"


@pytest.fixture(scope="module")
def gpus(installed: User, cluster: Cluster) -> Iterator[Gpus]:
    """The devices of each node, which its kubelet offers and its agent gives."""
    found: Gpus = {node: stand_ins(node)[:1] for node in NODES}
    install_gpus(cluster, found)
    wait_for_gpus(cluster, HOST, 1)
    yield found
    left = phases(HOST)
    installed.kubectl("delete", "-f", "-", "--ignore-not-found", "--cascade=foreground", "--timeout=120s", text=left)
    installed.kubectl("delete", "gpuattachments", "--all", "--timeout=120s")
    # Other pods of this namespace are other tests' own.
    installed.kubectl("delete", "pods", *map(borrower_of, NODES), "--ignore-not-found", "--now", "--timeout=120s")
    remove_gpus(cluster)


@pytest.fixture(scope="module")
def borrower(installed: User, gpus: Gpus) -> str:
    """A running pod on this machine, to which nothing was lent yet."""
    return run_borrower(installed, HOST)


def run_borrower(user: User, node: str) -> str:
    """Run the pod of a node that borrows."""
    name = borrower_of(node)
    create_borrower(user, name, node)
    wait_running(user, name)
    return name


def lend(user: User, name: str, pod: str, node: str, **spec: Any) -> str:
    """Attach the node's device to a pod, and wait until it is; the placeholder's name."""
    create_attachment(user, name, pod, **spec)
    status = wait_condition(user, name, "Attached")["status"]
    assert status["node"] == node
    return str(status["placeholder"]["name"])


def phase(user: User, pod: str) -> str:
    """The phase of a pod; "" where there is none."""
    found = user.api.get(PODS, pod, NAMESPACE)
    return str(found["status"]["phase"]) if found else ""


@contextmanager
def api_server_away(cluster: Cluster) -> Iterator[None]:
    """Let the API server stand still: connections open, and nothing answers."""
    processes = [made for made in cluster.journal.read() if isinstance(made, Process)]
    server = next(made for made in processes if made.name == "kube-apiserver" and is_alive(made))
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def take_back(user: User, name: str) -> Object:
    """Release an attachment, and wait until that is done."""
    release(user, name)
    return wait_condition(user, name, "Released")


def check_lending(user: User, pod: str, node: str, gpu: dict[str, Any]) -> None:
    """Denied, opened, denied; and the placeholder ends once nobody has access, and not before."""
    assert opens(user, pod, gpu) == "denied"

    holder = lend(user, f"lent-{node}", pod, node)

    assert opens(user, pod, gpu) == "opens"
    eventually(lambda: phase(user, holder) == "Running", "the placeholder runs", MOVES_S)

    told = take_back(user, f"lent-{node}")["status"]

    assert opens(user, pod, gpu) == "denied"
    assert told["devices"] == [{"uuid": gpu["uuid"]}]
    assert told["attachedAt"] < told["leaseExpiresAt"]
    eventually(lambda: phase(user, holder) in ("Succeeded", ""), "the placeholder has ended by itself", MOVES_S)


def test_a_pod_borrows_a_device_and_gives_it_back(installed: User, gpus: Gpus, borrower: str) -> None:
    """On this machine, where the agent also leaves what it counts, as node-exporter reads it."""
    check_lending(installed, borrower, HOST, gpus[HOST][0])
    figures = {'podsla_attach_transitions_total{to="Attached"} 1.0', 'podsla_attachments{state="Attached"} 0.0'}
    eventually(lambda: figures <= {*(METRICS / "podsla.prom").read_text().splitlines()}, "it is counted", MOVES_S)


def test_a_job_borrows_for_its_second_phase_while_the_next_one_waits(
    installed: User, cluster: Cluster, gpus: Gpus
) -> None:
    """In code, by the token of each pod: what `make demo-gpu` shows."""
    applied = installed.kubectl("apply", "-f", "-", text=phases(HOST))
    assert applied.returncode == 0, applied.stderr
    wait_for_jobs(cluster)

    for job in JOBS:
        assert installed.kubectl("logs", f"job/{job}").stdout.splitlines() == [
            "preprocess: the GPU does not open: No such file or directory",
            "inference: the GPU opens",
            "postprocess: the GPU does not open: No such file or directory",
        ]
    lent = [parse_attachment(each) for each in attachments(cluster) if each["spec"]["podName"].startswith(JOBS)]
    earlier, later = sorted(lent, key=lambda one: one.status.attached_s or 0.0)
    assert {one.status.devices for one in lent} == {(gpus[HOST][0]["uuid"],)}
    assert later.created_s < (earlier.finished_s or 0.0) <= (later.status.attached_s or 0.0)
    drawn = installed.podsla("gpu", "timeline").stdout
    assert all(f"pod {one.spec.pod_name}  waited" in drawn for one in lent)


def test_the_agent_is_killed_and_goes_on(installed: User, gpus: Gpus, borrower: str) -> None:
    """The device stays the pod's meanwhile; what was asked while no agent ran is done by the next one."""
    node, (gpu,) = HOST, gpus[HOST]
    lend(installed, f"killed-{node}", borrower, node)
    agent = installed.kubectl(
        "-n", AGENTS, "get", "pods", "-l", "app.kubernetes.io/name=podsla-agent",
        f"--field-selector=spec.nodeName={node}", "-o", "jsonpath={.items[*].metadata.name}",
    ).stdout  # fmt: skip

    killed = installed.kubectl("-n", AGENTS, "delete", "pod", agent, "--grace-period=0", "--force")

    assert killed.returncode == 0, killed.stderr
    assert opens(installed, borrower, gpu) == "opens"
    take_back(installed, f"killed-{node}")
    assert opens(installed, borrower, gpu) == "denied"


def test_a_lease_ends_while_the_api_server_is_away(
    installed: User, cluster: Cluster, gpus: Gpus, borrower: str
) -> None:
    """The API server stands still, as one does that is cut off; the device is taken back all the same."""
    node, (gpu,) = HOST, gpus[HOST]
    lend(installed, f"lease-{node}", borrower, node, leaseSeconds=10)
    (container,) = wait_running(installed, borrower)["status"]["containerStatuses"]
    container_id = container["containerID"].rpartition("://")[2]
    own = f"exec 3<>/tmp/{gpu['uuid']}"  # the node that the pod has made for itself

    with api_server_away(cluster):
        assert run_in_container(cluster, node, container_id, own)
        eventually(lambda: not run_in_container(cluster, node, container_id, own), "the device is taken back", MOVES_S)

    wait_condition(installed, f"lease-{node}", "Released")
    assert opens(installed, borrower, gpu) == "denied"


@pytest.mark.usefixtures("gpus")
def test_nothing_is_left_of_it(installed: User) -> None:
    """Every attachment has ended, and no placeholder runs."""
    ended = [each["status"]["conditions"] for each in installed.api.list(GPU_ATTACHMENTS)]

    assert ended
    assert all(any((c["type"], c["status"]) == ("Released", "True") for c in each) for each in ended)
    running = ("get", "pods", "-l", "podsla.io/placeholder", "--field-selector=status.phase=Running", "-o", "name")
    eventually(lambda: not installed.kubectl(*running).stdout, "placeholders have ended by themselves", MOVES_S)


@pytest.mark.usefixtures("gpus")
def test_every_right_of_the_agent_was_used_above_and_no_other(installed: User, cluster: Cluster) -> None:
    """From the audit log of what the tests before made it do."""
    rights = granted(installed, AGENTS)

    assert {right.account for right in rights} == {"podsla-agent"}
    check_least(rights, used(cluster, AGENTS))

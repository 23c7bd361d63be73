"""
A pod borrows a GPU on a real node, whose agent runs in a pod.

On this machine (cgroup version 1, cgroupfs), and on the virtual one (version 2, systemd), which takes minutes to begin
and does so beside the tests of this one. Devices that every machine has stand for GPUs; a device plugin offers them to
the kubelet, so scheduler and kubelet count and give them as real ones.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest
import yaml

from attach.api import Type, parse_attachment
from kube.kinds import GPU_ATTACHMENTS
from tests.cluster import host
from tests.cluster.archives import PAUSE
from tests.cluster.demo_gpu import JOBS, attachments, phases, wait_for_jobs
from tests.cluster.gpus import AGENTS, METRICS, install_gpus, remove_gpus, run_in_container, stand_ins, wait_for_gpus
from tests.cluster.install import kubectl
from tests.cluster.nodeconfig import HOST, VM
from tests.cluster.real.borrow import (
    CONTAINER,
    MOVES_S,
    create_attachment,
    hold,
    kept_ready,
    lend,
    let_go,
    make_namespace,
    open_by,
    opens,
    phase,
    read,
    release,
    remove_namespaces,
    run_borrower,
    take_back,
    wait_condition,
    wait_reason,
)
from tests.cluster.real.faults import Strike, allowed_by_systemd, api_server_away, reloading, wait_reload
from tests.cluster.real.pods import create_pod, state, wait_running
from tests.cluster.state import Cluster
from tests.system.rights import check_least, granted, used
from tests.system.user import User
from tests.waiting import eventually

NODES: Final = (HOST, VM)
BORROWERS: Final = {HOST: f"borrower-{HOST}", VM: f"borrower-{VM}"}
RIVAL: Final = f"rival-{HOST}"
VIRTUAL_JOB: Final = f"job-{VM}"
CYCLES: Final = int(os.environ.get("PODSLA_RELOAD_CYCLES", "1"))
SEEN: Final = [
    "preprocess: the GPU does not open: No such file or directory",
    "inference: the GPU opens",
    "postprocess: the GPU does not open: No such file or directory",
]
STRIKES: Final = {
    "its placeholder is deleted": Strike("Terminate", "delete pod {placeholder} --wait=false"),
    "its placeholder is gone": Strike("Wait", "delete pod {placeholder} --force --grace-period=0"),
    "it is gone": Strike("Wait", "delete pod struck --force --grace-period=0", takes_along=True),
    "its namespace is deleted": Strike("Wait", "delete namespace {namespace} --wait=false", takes_along=True),
}
Gpus = dict[str, Sequence[dict[str, Any]]]

pytestmark = pytest.mark.nodes


@pytest.fixture(scope="module")
def gpus(installed: User, cluster: Cluster) -> Iterator[Gpus]:
    """The devices of each node, which its kubelet offers and its agent gives."""
    found: Gpus = {node: stand_ins(node)[:1] for node in NODES}
    install_gpus(cluster, found)
    try:
        wait_for_gpus(cluster, HOST, 1)
        yield found
        _clear(installed)
    finally:  # an agent that stays would hold this machine against every other one
        remove_gpus(cluster)


def _clear(installed: User) -> None:
    """Take away what the tests of this module made; other pods of the namespace are other tests' own."""
    left = phases(HOST)
    installed.kubectl("delete", "-f", "-", "--ignore-not-found", "--cascade=foreground", "--timeout=120s", text=left)
    installed.kubectl("delete", "job", VIRTUAL_JOB, "--ignore-not-found", "--cascade=foreground", "--timeout=120s")
    installed.kubectl("delete", "gpuattachments", "--all", "--timeout=120s")
    own = (*BORROWERS.values(), RIVAL)
    installed.kubectl("delete", "pods", *own, "--ignore-not-found", "--now", "--timeout=120s")
    remove_namespaces(installed)


@pytest.fixture(scope="module")
def borrower(installed: User, gpus: Gpus) -> str:
    """A running pod on this machine, to which nothing was lent yet."""
    return run_borrower(installed, BORROWERS[HOST], HOST)


@pytest.fixture(scope="module")
def rival(installed: User, gpus: Gpus) -> str:
    """Another one, that would have the same device."""
    return run_borrower(installed, RIVAL, HOST)


@pytest.fixture(scope="module")
def virtual_job(installed: User, cluster: Cluster, gpus: Gpus) -> None:
    """A job of the virtual node, begun here so that it runs beside tests of this machine."""
    wait_for_gpus(cluster, VM, 1)
    *things, job, _ = yaml.safe_load_all(phases(VM))
    job["metadata"]["name"] = VIRTUAL_JOB
    applied = installed.kubectl("apply", "-f", "-", text=yaml.safe_dump_all([*things, job]))
    assert applied.returncode == 0, applied.stderr


def test_a_pod_borrows_a_device_and_gives_it_back(installed: User, gpus: Gpus, borrower: str) -> None:
    """
    Denied, opened, denied; and the placeholder ends once nobody has access, and not before.

    The agent also leaves what it counts, as node-exporter reads it.
    """
    (gpu,) = gpus[HOST]
    assert opens(installed, borrower, gpu) == "denied"

    holder = lend(installed, "lent", borrower, HOST)

    assert opens(installed, borrower, gpu) == "opens"
    eventually(lambda: phase(installed, holder) == "Running", "the placeholder runs", MOVES_S)

    told = take_back(installed, "lent")["status"]

    assert opens(installed, borrower, gpu) == "denied"
    assert told["devices"] == [{"uuid": gpu["uuid"]}]
    assert told["attachedAt"] < told["leaseExpiresAt"]
    eventually(lambda: phase(installed, holder) in ("Succeeded", ""), "the placeholder has ended by itself", MOVES_S)
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
        assert installed.kubectl("logs", f"job/{job}").stdout.splitlines() == SEEN
    lent = [parse_attachment(each) for each in attachments(cluster) if each["spec"]["podName"].startswith(JOBS)]
    earlier, later = sorted(lent, key=lambda one: one.status.attached_s or 0.0)
    assert {one.status.devices for one in lent} == {(gpus[HOST][0]["uuid"],)}
    assert later.created_s < (earlier.finished_s or 0.0) <= (later.status.attached_s or 0.0)
    drawn = installed.podsla("gpu", "timeline").stdout
    assert all(f"pod {one.spec.pod_name}  waited" in drawn for one in lent)


def test_the_agent_is_killed_and_goes_on(installed: User, gpus: Gpus, borrower: str) -> None:
    """The device stays the pod's meanwhile; what was asked while no agent ran is done by the next one."""
    (gpu,) = gpus[HOST]
    lend(installed, "killed", borrower, HOST)
    agent = installed.kubectl(
        "-n", AGENTS, "get", "pods", "-l", "app.kubernetes.io/name=podsla-agent",
        f"--field-selector=spec.nodeName={HOST}", "-o", "jsonpath={.items[*].metadata.name}",
    ).stdout  # fmt: skip

    killed = installed.kubectl("-n", AGENTS, "delete", "pod", agent, "--grace-period=0", "--force")

    assert killed.returncode == 0, killed.stderr
    assert opens(installed, borrower, gpu) == "opens"
    take_back(installed, "killed")
    assert opens(installed, borrower, gpu) == "denied"


def test_a_lease_ends_while_the_api_server_is_away(
    installed: User, cluster: Cluster, gpus: Gpus, borrower: str
) -> None:
    """The API server stands still, as one does that is cut off; the device is taken back all the same."""
    (gpu,) = gpus[HOST]
    lend(installed, "lease", borrower, HOST, leaseSeconds=10)
    (container,) = wait_running(installed, borrower)["status"]["containerStatuses"]
    container_id = container["containerID"].rpartition("://")[2]
    own = f"exec 3<>/tmp/{gpu['uuid']}"  # the node that the pod has made for itself

    with api_server_away(cluster):
        assert run_in_container(cluster, HOST, container_id, own)
        eventually(lambda: not run_in_container(cluster, HOST, container_id, own), "the device is taken back", MOVES_S)

    wait_condition(installed, "lease", "Released")
    assert opens(installed, borrower, gpu) == "denied"


def test_a_notebook_that_keeps_it_open_is_overdue_and_nobody_else_gets_it(
    installed: User, gpus: Gpus, borrower: str, rival: str
) -> None:
    """It is held, and billed, until the process closes it; then the next one has it."""
    (gpu,) = gpus[HOST]
    lend(installed, "kept", borrower, HOST)
    (pid,) = hold(installed, borrower, gpu)
    create_attachment(installed, "after-kept", rival)

    release(installed, "kept")

    overdue = wait_condition(installed, "kept", "Overdue")
    assert str(pid) in str(overdue["status"]["conditions"])
    assert (opens(installed, borrower, gpu), opens(installed, rival, gpu)) == ("denied", "denied")
    assert pid in open_by(gpu)
    assert not read(installed, "after-kept").status.has(Type.ATTACHED)

    let_go(installed, borrower)

    wait_condition(installed, "after-kept", "Attached")
    assert (opens(installed, borrower, gpu), opens(installed, rival, gpu)) == ("denied", "opens")
    ended_s, got_s = read(installed, "kept").finished_s, read(installed, "after-kept").status.attached_s
    assert ended_s is not None
    assert got_s is not None
    assert ended_s <= got_s
    assert read(installed, "kept").status.held_s >= ended_s - (read(installed, "kept").status.attached_s or 0.0)
    take_back(installed, "after-kept")


@pytest.mark.parametrize("name", STRIKES)
def test_whatever_strikes_who_has_it_open_the_next_one_gets_it_closed(
    installed: User, gpus: Gpus, rival: str, name: str
) -> None:
    """Where the kubelet frees it by itself, the agent ends who has it open, whatever the policy says."""
    (gpu,), strike, number = gpus[HOST], STRIKES[name], list(STRIKES).index(name)
    where, after = make_namespace(installed, f"struck-{number}"), f"after-strike-{number}"
    pod = run_borrower(installed, "struck", HOST, where)
    placeholder = lend(installed, "struck", pod, HOST, where, detachPolicy=strike.policy)
    held = hold(installed, pod, gpu, where)
    create_attachment(installed, after, rival)

    struck = installed.kubectl("-n", where, *strike.command.format(namespace=where, placeholder=placeholder).split())

    assert struck.returncode == 0, struck.stderr
    wait_condition(installed, after, "Attached")
    assert not held & open_by(gpu)
    assert opens(installed, rival, gpu) == "opens"
    if strike.takes_along:
        gone = ("-n", where, "get", "gpuattachment", "struck", "--ignore-not-found", "-o", "name")
        eventually(lambda: not installed.kubectl(*gone).stdout, "the attachment is gone", MOVES_S)
    else:
        assert opens(installed, pod, gpu, where) == "denied"
        ended, next_one = read(installed, "struck", where), read(installed, after)
        assert ended.status.has(Type.RELEASED)
        assert (ended.finished_s or 0.0) <= (next_one.status.attached_s or 0.0)
    take_back(installed, after)


@pytest.mark.usefixtures("virtual_job")
def test_a_quota_that_comes_takes_nothing_away_and_lets_the_next_one_in_when_it_goes(
    installed: User, gpus: Gpus
) -> None:
    """The next one says so meanwhile, and holds up nobody."""
    (gpu,) = gpus[HOST]
    where = make_namespace(installed, "quota")
    for pod in ("first", "second"):
        run_borrower(installed, pod, HOST, where)
    lend(installed, "first", "first", HOST, where)
    quota = ("-n", where, "create", "quota", "gpus", "--hard=requests.nvidia.com/gpu=0")
    assert installed.kubectl(*quota).returncode == 0
    hard = ("-n", where, "get", "quota", "gpus", r"-o=jsonpath={.status.hard.requests\.nvidia\.com/gpu}")
    eventually(lambda: installed.kubectl(*hard).stdout == "0", "the quota is counted")

    create_attachment(installed, "second", "second", where)

    wait_reason(installed, "second", "QuotaExceeded", where)
    assert opens(installed, "first", gpu, where) == "opens"
    assert installed.kubectl("-n", where, "delete", "quota", "gpus").returncode == 0
    take_back(installed, "first", where)
    wait_condition(installed, "second", "Attached", where)
    assert opens(installed, "first", gpu, where) == "denied"
    assert opens(installed, "second", gpu, where) == "opens"
    take_back(installed, "second", where)


def test_kubelet_and_containerd_restart_under_a_pod_that_borrows(
    installed: User, cluster: Cluster, gpus: Gpus, borrower: str, rival: str
) -> None:
    """It keeps its access, nobody else gets any, and afterwards all goes on as ever."""
    (gpu,) = gpus[HOST]
    placeholder = lend(installed, "outlives", borrower, HOST)
    eventually(lambda: phase(installed, placeholder) == "Running", "the placeholder runs", MOVES_S)
    create_attachment(installed, "after-restart", rival)
    pod, since_s = state(installed, borrower), read(installed, "outlives").status.attached_s

    host.restart_containerd(cluster)
    host.restart_kubelet(cluster)
    where = make_namespace(installed, "restarted")
    create_pod(installed, "more", HOST, {"image": PAUSE}, where)
    wait_running(installed, "more", where)  # by then it has admitted its pods anew

    eventually(lambda: opens(installed, borrower, gpu) == "opens", "the pod can be looked into, and has access")
    assert opens(installed, rival, gpu) == "denied"
    assert state(installed, borrower) == pod
    assert read(installed, "outlives").status.attached_s == since_s
    assert not read(installed, "after-restart").status.has(Type.ATTACHED)

    take_back(installed, "outlives")

    wait_condition(installed, "after-restart", "Attached")
    assert (opens(installed, borrower, gpu), opens(installed, rival, gpu)) == ("denied", "opens")
    take_back(installed, "after-restart")


def test_what_a_namespace_keeps_ready_is_lent_as_it_stands(installed: User, gpus: Gpus) -> None:
    """A pod of a class that borrows is placed beside a GPU; what is kept ready there is its own once it asks."""
    (gpu,) = gpus[HOST]
    where = make_namespace(installed, "ready", **{"podsla.io/warm-gpus": "1"})
    meta = {"name": "reader", "namespace": where, "annotations": {"podsla.io/class": "borrow"}}
    main = {"name": "main", "imagePullPolicy": "Never", **CONTAINER}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [main]}
    applied = installed.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    assert applied.returncode == 0, applied.stderr
    assert wait_running(installed, "reader", where)["spec"]["nodeName"] == HOST
    (ready,) = eventually(lambda: kept_ready(installed, where), "one is kept ready", MOVES_S)
    assert opens(installed, "reader", gpu, where) == "denied"

    assert lend(installed, "handed-over", "reader", HOST, where) == ready

    assert opens(installed, "reader", gpu, where) == "opens"
    take_back(installed, "handed-over", where)
    assert opens(installed, "reader", gpu, where) == "denied"
    (another,) = eventually(lambda: kept_ready(installed, where), "another is kept ready", MOVES_S)
    assert another != ready
    assert installed.kubectl("label", "namespace", where, "podsla.io/warm-gpus-").returncode == 0
    eventually(lambda: not kept_ready(installed, where), "none is kept ready any more", MOVES_S)


@pytest.mark.usefixtures("virtual_job")
def test_a_job_of_the_virtual_node_borrows_for_its_second_phase(installed: User, cluster: Cluster) -> None:
    """Under systemd, and by programs of cgroup version 2."""
    kubectl(cluster, "wait", "--for=condition=complete", f"job/{VIRTUAL_JOB}", f"--timeout={MOVES_S:.0f}s")

    assert installed.kubectl("logs", f"job/{VIRTUAL_JOB}").stdout.splitlines() == SEEN


@pytest.mark.usefixtures("virtual_job")
def test_a_systemd_that_reloads_all_the_time_takes_no_device_away_and_gives_none_back(
    installed: User, gpus: Gpus
) -> None:
    """On the virtual node. `make soak-reload` does it a thousand times."""
    pod, (gpu,) = run_borrower(installed, BORROWERS[VM], VM), gpus[VM]
    before = allowed_by_systemd(installed, pod)
    with reloading():
        for number in range(CYCLES):
            assert opens(installed, pod, gpu) == "denied"
            lend(installed, f"reloaded-{number}", pod, VM)
            wait_reload()
            ours = f"{gpu['major']}:{gpu['minor']} "  # no repair tells systemd anew
            assert any(ours in line for line in allowed_by_systemd(installed, pod))
            eventually(lambda: opens(installed, pod, gpu) == "opens", "the device opens", MOVES_S)
            take_back(installed, f"reloaded-{number}")
        wait_reload()
    assert opens(installed, pod, gpu) == "denied"
    assert allowed_by_systemd(installed, pod) == before


@pytest.mark.usefixtures("gpus")
def test_nothing_is_left_of_it(installed: User) -> None:
    """Every attachment has ended, and no placeholder runs."""
    ended = [each["status"]["conditions"] for each in installed.api.list(GPU_ATTACHMENTS)]

    assert ended
    assert all(any((c["type"], c["status"]) == ("Released", "True") for c in each) for each in ended)
    running = (
        "get",
        "pods",
        "-A",
        "-l",
        "podsla.io/placeholder",
        "--field-selector=status.phase=Running",
        "-o",
        "name",
    )
    eventually(lambda: not installed.kubectl(*running).stdout, "placeholders have ended by themselves", MOVES_S)


@pytest.mark.usefixtures("gpus")
def test_every_right_of_the_agent_was_used_above_and_no_other(installed: User, cluster: Cluster) -> None:
    """From the audit log of what the tests before made it do."""
    rights = granted(installed, AGENTS)

    assert {right.account for right in rights} == {"podsla-agent"}
    check_least(rights, used(cluster, AGENTS))

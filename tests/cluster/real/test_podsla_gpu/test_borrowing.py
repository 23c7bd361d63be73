"""A pod borrows a GPU on a real node, whose agent runs in a pod."""

import pytest

from attach.api import Type, parse_attachment
from kube.kinds import EVENTS
from tests.cluster.demo_gpu import JOBS, attachments, phases, wait_for_jobs
from tests.cluster.gpus import METRICS
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.borrow import (
    CONTAINER,
    MOVES_S,
    SEEN,
    Gpus,
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
    run_borrower,
    take_back,
    told_by,
    wait_condition,
    wait_reason,
)
from tests.cluster.real.pods import NAMESPACE, wait_running
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes


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
        assert told_by(installed, job) == SEEN
    lent = [parse_attachment(each) for each in attachments(cluster) if each["spec"]["podName"].startswith(JOBS)]
    earlier, later = sorted(lent, key=lambda one: one.status.attached_s or 0.0)
    assert {one.status.devices for one in lent} == {(gpus[HOST][0]["uuid"],)}
    assert later.created_s < (earlier.finished_s or 0.0) <= (later.status.attached_s or 0.0)
    drawn = installed.podsla("gpu", "timeline").stdout
    assert all(f"pod {one.spec.pod_name}  waited" in drawn for one in lent)


def test_a_notebook_that_keeps_it_open_is_overdue_and_nobody_else_gets_it(
    installed: User, gpus: Gpus, borrower: str
) -> None:
    """It is held, and billed, until the process closes it; then the next one has it, who pays for none of that."""
    (gpu,), where = gpus[HOST], make_namespace(installed, "another-tenant")
    rival = run_borrower(installed, "next", HOST, where)
    lend(installed, "kept", borrower, HOST)
    (pid,) = hold(installed, borrower, gpu)
    create_attachment(installed, "after-kept", rival, where)

    release(installed, "kept")

    overdue = wait_condition(installed, "kept", "Overdue")
    assert str(pid) in str(overdue["status"]["conditions"])
    eventually(lambda: warned(installed, "DeviceBusy") >= {"kept", borrower}, "events of both objects say so")
    assert (opens(installed, borrower, gpu), opens(installed, rival, gpu, where)) == ("denied", "denied")
    assert pid in open_by(gpu)
    assert not read(installed, "after-kept", where).status.has(Type.ATTACHED)

    let_go(installed, borrower)

    wait_condition(installed, "after-kept", "Attached", where)
    assert (opens(installed, borrower, gpu), opens(installed, rival, gpu, where)) == ("denied", "opens")
    take_back(installed, "after-kept", where)
    kept, after = read(installed, "kept"), read(installed, "after-kept", where)
    assert kept.finished_s is not None
    assert after.finished_s is not None
    assert kept.finished_s <= (after.status.attached_s or 0.0)
    assert kept.status.held_s >= kept.finished_s - (kept.status.attached_s or 0.0)
    assert after.status.held_s <= after.finished_s - kept.finished_s


def warned(user: User, reason: str) -> set[str]:
    """Of which objects there are events that warn with a reason, by name."""
    events = user.api.list(EVENTS, NAMESPACE)
    return {each["regarding"]["name"] for each in events if (each["type"], each["reason"]) == ("Warning", reason)}


@pytest.mark.usefixtures("virtual_jobs")
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


def test_what_a_namespace_keeps_ready_is_lent_as_it_stands(installed: User, gpus: Gpus) -> None:
    """Beside a pod of a class that borrows; it is that pod's own once it asks."""
    (gpu,) = gpus[HOST]
    where = make_namespace(installed, "ready", **{"podsla.io/warm-gpus": "1"})
    meta = {"name": "reader", "namespace": where, "annotations": {"podsla.io/class": "borrow"}}
    main = {"name": "main", "imagePullPolicy": "Never", **CONTAINER}
    chosen = {"nodeSelector": {"kubernetes.io/hostname": HOST}, "terminationGracePeriodSeconds": 0}
    spec = {**chosen, "containers": [main]}
    applied = installed.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    assert applied.returncode == 0, applied.stderr
    wait_running(installed, "reader", where)
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

"""
A container is a GPU phase by an annotation: on a real node it has the GPU while it runs, and no other has it then.

Its program is a shell that knows nothing of podsla. The node has one device, and so one seat: one pod at a time.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import pytest

from attach.api import Type
from kube.kinds import PODS
from tests.cluster.archives import PODSLA
from tests.cluster.gpus import offering, stand_ins
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.borrow import (
    CONTAINER,
    MOVES_S,
    SLEEPER,
    attempt,
    let_borrow,
    make_namespace,
    opens,
    remove_namespaces,
    wait_condition,
)
from tests.cluster.real.phases import had_in_the_second_alone, lent, score, seen, wait_scored
from tests.cluster.real.pods import run_in, wait_running
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually

NO_GPU: Final = 75
ENOUGH: Final = "/tmp/enough"  # noqa: S108 - in a container of its own
Gpu = Mapping[str, Any]

pytestmark = pytest.mark.nodes


@pytest.fixture(scope="module")
def gpu(installed: User, cluster: Cluster) -> Iterator[Gpu]:
    """The one device of this machine."""
    with offered(installed, cluster, stand_ins(HOST)[0]) as found:
        yield found


@contextmanager
def offered(installed: User, cluster: Cluster, found: Gpu) -> Iterator[Gpu]:
    """Have this machine offer a device, and its agent give it."""
    with offering(cluster, {HOST: [found]}):
        seats = r"jsonpath={.status.allocatable.podsla\.io/gpu-seats}=1"
        assert installed.kubectl("wait", f"node/{HOST}", f"--for={seats}", "--timeout=60s").returncode == 0
        yield found
        remove_namespaces(installed)


@contextmanager
def place(user: User, name: str, *, may: bool = True) -> Iterator[str]:
    """Make a namespace whose pods may borrow, and take what runs in it away again: the next needs the seat."""
    where = make_namespace(user, name)
    if may:
        let_borrow(user, where)
    try:
        yield where
    finally:
        user.kubectl("-n", where, "delete", "jobs,pods", "--all", "--cascade=foreground", "--timeout=120s")


def phased(name: str, *containers: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod whose container `infer` is a phase."""
    annotations = {"podsla.io/class": "borrow", "podsla.io/gpu-phase": "container=infer"}
    chosen = {"nodeSelector": {"kubernetes.io/hostname": HOST}, "terminationGracePeriodSeconds": 1}
    body = {**chosen, "containers": [{"imagePullPolicy": "Never", **each} for each in containers], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations}, "spec": body}


def told(user: User, where: str, pod: str) -> str:
    """What the container that borrows says, for a failure."""
    return user.kubectl("-n", where, "logs", pod, "-c", "podsla-gpu-phase").stdout


def test_a_job_of_three_phases_has_the_gpu_in_its_second_one_alone(installed: User, gpu: Gpu) -> None:
    """The example: denied, opened, denied."""
    run_three_phases(installed, gpu)


def run_three_phases(installed: User, gpu: Gpu) -> None:
    """Run the example: denied, opened, denied."""
    with place(installed, "phases") as where:
        applied = installed.apply(score(HOST, gpu, "default"), "-n", where)
        assert applied.returncode == 0, applied.stderr

        over = wait_scored(installed, where)

        pod = over["metadata"]["name"]
        assert seen(installed, where, pod) == had_in_the_second_alone(gpu), told(installed, where, pod)
        eventually(
            lambda: [one.status.has(Type.RELEASED) for one in lent(installed, where)] == [True], "it is released"
        )
        (one,) = lent(installed, where)
        assert (one.spec.container, one.status.devices) == ("infer", (gpu["uuid"],))
        assert over["status"]["phase"] == "Succeeded"


def test_a_native_sidecar_has_it_from_its_first_instruction_to_its_end(installed: User, gpu: Gpu) -> None:
    """It serves beside the pod's containers, which never have it; it ends with them, and the GPU is given back."""
    with place(installed, "sidecar") as where:
        script = f"{attempt(gpu)}; {SLEEPER}"
        infer = {**CONTAINER, "name": "infer", "command": ["sh", "-c", script], "restartPolicy": "Always"}
        infer["imagePullPolicy"] = "Never"
        until_enough = f"until test -e {ENOUGH}; do sleep 0.1; done"
        web = {"name": "web", **CONTAINER, "command": ["sh", "-c", until_enough]}
        pod = phased("sidecar", web, initContainers=[infer], restartPolicy="Never")
        made = installed.apply(pod, "-n", where)
        assert made.returncode == 0, made.stderr
        logs = ("-n", where, "logs", "sidecar", "-c", "infer")
        eventually(lambda: installed.kubectl(*logs).stdout.strip() == "opens", "its first attempt succeeds", MOVES_S)
        wait_running(installed, "sidecar", where)
        assert opens(installed, "sidecar", gpu, where, "infer") == "opens"
        assert opens(installed, "sidecar", gpu, where, "web") == "denied"

        run_in(installed, "sidecar", "touch", ENOUGH, namespace=where, container="web")

        (one,) = lent(installed, where)
        wait_condition(installed, one.name, "Released", where)


def test_a_container_beside_others_has_it_while_it_runs_and_again_after_a_crash(installed: User, gpu: Gpu) -> None:
    """The others never have it, and a crash gives it back."""
    with place(installed, "beside") as where:
        script = f"{attempt(gpu)}; until test -e {ENOUGH}; do sleep 0.1; done; exit 3"
        infer = {"name": "infer", **CONTAINER, "command": ["sh", "-c", script]}
        made = installed.apply(phased("beside", {"name": "web", **CONTAINER}, infer), "-n", where)
        assert made.returncode == 0, made.stderr

        def attached(count: int) -> bool:
            found = lent(installed, where)
            return len(found) == count and found[-1].status.has(Type.ATTACHED)

        eventually(lambda: attached(1), "the phase has the GPU", MOVES_S)
        logs = ("-n", where, "logs", "beside", "-c", "infer")
        eventually(lambda: installed.kubectl(*logs).stdout.strip() == "opens", "its first attempt succeeds")
        assert opens(installed, "beside", gpu, where, "infer") == "opens"
        assert opens(installed, "beside", gpu, where, "web") == "denied"

        run_in(installed, "beside", "touch", ENOUGH, namespace=where, container="infer")

        eventually(lambda: attached(2), "the next run has the GPU", MOVES_S)
        eventually(lambda: installed.kubectl(*logs).stdout.strip() == "opens", "its first attempt succeeds")
        assert opens(installed, "beside", gpu, where, "web") == "denied"
        first, second = lent(installed, where)
        assert first.status.has(Type.RELEASED)
        assert (first.finished_s or 0.0) <= (second.status.attached_s or 0.0)
        pod = installed.api.get(PODS, "beside", where)
        assert pod is not None
        (ended,) = (each["lastState"] for each in pod["status"]["containerStatuses"] if each["name"] == "infer")
        assert ended["terminated"]["exitCode"] == 3


def test_a_pod_whose_service_account_may_not_borrow_says_so_where_people_look(installed: User, gpu: Gpu) -> None:
    """In the container's state, which `kubectl describe` shows, and in its log; nothing else of it has run."""
    with place(installed, "without-right", may=False) as where:
        infer = {"name": "infer", **CONTAINER, "command": ["echo", "it runs"]}
        made = installed.apply(phased("refused", infer, restartPolicy="Never"), "-n", where)
        assert made.returncode == 0, made.stderr

        def has_failed() -> bool:
            found = installed.api.get(PODS, "refused", where)
            return found is not None and found["status"].get("phase") == "Failed"

        eventually(has_failed, "the pod has failed", MOVES_S)

        pod = installed.api.get(PODS, "refused", where)
        assert pod is not None
        (state,) = (each["state"]["terminated"] for each in pod["status"]["containerStatuses"])
        assert state["exitCode"] == NO_GPU
        assert state["message"].startswith("podsla-phase: no GPU: Forbidden: ")
        assert state["message"].strip().endswith("bind the role podsla-gpu-borrower to the pod's service account")
        log = installed.kubectl("-n", where, "logs", "refused", "-c", "infer").stdout
        assert log == state["message"]


def test_what_cannot_be_a_phase_is_told_where_it_is_typed(installed: User) -> None:
    """Refused as a pod, and warned of as the template of a job."""
    leaves = {"name": "infer", "image": PODSLA}
    typed = {"name": "infre", **CONTAINER}
    for container, said in (
        (leaves, "container 'infer' leaves its command to its image"),
        (typed, "podsla.io/gpu-phase: the pod has no container 'infer'; did you mean infre?"),
    ):
        pod = phased("typed", container, restartPolicy="Never")
        refused = installed.apply(pod, "--dry-run=server")
        assert refused.returncode != 0
        assert said in refused.stderr
        template = {"metadata": {"annotations": pod["metadata"]["annotations"]}, "spec": pod["spec"]}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "typed"}, "spec": {"template": template}}
        warned = installed.apply(job, "--dry-run=server")
        assert warned.returncode == 0, warned.stderr
        assert said in " ".join(line.removeprefix("Warning: ") for line in warned.stderr.splitlines())


def test_what_is_added_is_let_into_a_namespace_of_the_restricted_kind(installed: User) -> None:
    """Pod Security Admission looks at the pod as it leaves the webhook; the token is there for what borrows, too."""
    where = make_namespace(installed, "restricted", **{"pod-security.kubernetes.io/enforce": "restricted"})
    context = {
        "allowPrivilegeEscalation": False, "runAsNonRoot": True, "runAsUser": 1000, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    infer = {"name": "infer", "image": PODSLA, "command": ["true"], "securityContext": context}

    made = installed.apply(phased("restricted", infer), "-n", where, "--dry-run=server", "-o", "json")

    assert made.returncode == 0, made.stderr
    (sidecar,) = json.loads(made.stdout)["spec"]["initContainers"]
    mounts = [each["mountPath"] for each in sidecar["volumeMounts"]]
    assert "/var/run/secrets/kubernetes.io/serviceaccount" in mounts
    assert installed.kubectl("delete", "namespace", where, "--timeout=120s").returncode == 0

"""EDGE: attachments in a real cluster: what a user creates, what becomes of it, and what a pod can open."""

import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from attach.api import Attachment, Type, parse_attachment
from kube.api import Object
from kube.kinds import GPU_ATTACHMENTS, NODES, PODS
from tests.cluster.archives import PODSLA
from tests.cluster.nodeconfig import HOST, VM
from tests.cluster.real.pods import NAMESPACE, create_pod, run_in, wait_running
from tests.system.user import User
from tests.waiting import eventually

SLEEPER: Final = "trap exit TERM; while :; do sleep 1; done"
CONTAINER: Final = {"image": PODSLA, "command": ["sh", "-c", SLEEPER], "securityContext": {"runAsUser": 0}}
MOVES_S: Final = 240.0  # software emulation on a busy machine
ENDS: Final = ("Failed", "Released")
BORROWERS: Final = {HOST: f"borrower-{HOST}", VM: f"borrower-{VM}"}
RIVALS: Final = {HOST: f"rival-{HOST}", VM: f"rival-{VM}"}
VIRTUAL_JOB: Final = f"job-{VM}"
SEEN: Final = [
    "preprocess: the GPU does not open: No such file or directory",
    "inference: the GPU opens",
    "postprocess: the GPU does not open: No such file or directory",
]
Gpus = dict[str, Sequence[dict[str, Any]]]
MADE: Final = "tests.podsla.io/made"  # on namespaces that go with everything in them


def create_borrower(user: User, name: str, node: str, namespace: str = NAMESPACE) -> None:
    """Create a pod that may make device nodes of its own, as any root in a container may."""
    create_pod(user, name, node, CONTAINER, namespace)


def run_borrower(user: User, name: str, node: str, namespace: str = NAMESPACE) -> str:
    """Run a pod that borrows; its name."""
    create_borrower(user, name, node, namespace)
    wait_running(user, name, namespace)
    return name


def make_namespace(user: User, name: str, **labels: str) -> str:
    """Make a namespace; `remove_namespaces` takes it away with all that it has."""
    meta = {"name": name, "labels": {MADE: "true", **labels}}
    done = user.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    assert done.returncode == 0, done.stderr
    account = ("-n", name, "get", "serviceaccount", "default")
    eventually(lambda: user.kubectl(*account).returncode == 0, f"namespace {name} has a service account")
    return name


def let_borrow(user: User, namespace: str) -> None:
    """Give the pods of a namespace the right to borrow."""
    role = ("--clusterrole=podsla-gpu-borrower", f"--serviceaccount={namespace}:default")
    done = user.kubectl("-n", namespace, "create", "rolebinding", "borrower", *role)
    assert done.returncode == 0, done.stderr


def remove_namespaces(user: User) -> None:
    """Take away what `make_namespace` made, and wait until it is gone."""
    done = user.kubectl("delete", "namespace", "-l", MADE, "--timeout=120s")
    assert done.returncode == 0, done.stderr


def told_by(user: User, job: str) -> list[str]:
    """List what the phases of a job print; beside it stands what its client had to try again on a slow machine."""
    lines = user.kubectl("logs", f"job/{job}").stdout.splitlines()
    return [line for line in lines if not line.startswith("cannot release ")]


def attempt(gpu: Object) -> str:
    """
    Write a script that tries to open a device, by the node that the agent makes and by one that it makes itself.

    Returns:
        It says "opens", "denied" (no rule) or "hidden" (a rule, and no node).
    """
    own = f"/tmp/{gpu['uuid']}"  # noqa: S108 - in a container of its own
    return (
        f"test -c {own} || mknod {own} c {gpu['major']} {gpu['minor']}; "
        f"if ! (exec 3<>{own}) 2>/dev/null; then echo denied; "
        f"elif (exec 3<>{gpu['path']}) 2>/dev/null; then echo opens; else echo hidden; fi"
    )


def opens(user: User, pod: str, gpu: Object, namespace: str = NAMESPACE, container: str = "main") -> str:
    """Try to open a device in a pod; see `attempt`."""
    return run_in(user, pod, "sh", "-c", attempt(gpu), namespace=namespace, container=container)


def hold(user: User, pod: str, gpu: Object, namespace: str = NAMESPACE) -> frozenset[int]:
    """
    Let a process of a pod of this machine keep the device open, as a notebook does that somebody has left.

    Returns:
        Who has it open now and had not before, by the pids of this machine.
    """
    before = open_by(gpu)
    script = f"(exec 3<>{gpu['path']}; exec sleep 3600) >/dev/null 2>&1 & echo $! > /tmp/holder"
    run_in(user, pod, "sh", "-c", script, namespace=namespace)
    return eventually(lambda: frozenset(filter(_sleeps, open_by(gpu) - before)), "the device is held")


def let_go(user: User, pod: str, namespace: str = NAMESPACE) -> None:
    """End what `hold` began."""
    run_in(user, pod, "sh", "-c", "kill $(cat /tmp/holder)", namespace=namespace)


def _sleeps(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    return False


def open_by(gpu: Object) -> frozenset[int]:
    """Name the processes of this machine that have a device open."""
    rdev = os.makedev(gpu["major"], gpu["minor"])
    return frozenset(int(pid) for pid in os.listdir("/proc") if pid.isdigit() and rdev in _devices_of(pid))


def _devices_of(pid: str) -> frozenset[int]:
    """List the numbers of the character devices that a process has open; none once it is gone."""
    found, folder = set[int](), f"/proc/{pid}/fd"
    with suppress(OSError):
        for number in os.listdir(folder):
            with suppress(OSError):
                seen = os.stat(f"{folder}/{number}")
                found |= {seen.st_rdev} if stat.S_ISCHR(seen.st_mode) else set()
    return frozenset(found)


def create_attachment(user: User, name: str, pod: str, namespace: str = NAMESPACE, **spec: Any) -> None:
    """Create an attachment, as a user does."""
    kind, meta = {"apiVersion": "podsla.io/v1beta1", "kind": "GPUAttachment"}, {"name": name, "namespace": namespace}
    done = user.apply({**kind, "metadata": meta, "spec": {"podName": pod, "gracePeriodSeconds": 0, **spec}})
    assert done.returncode == 0, done.stderr


def lend(user: User, name: str, pod: str, node: str, namespace: str = NAMESPACE, **spec: Any) -> str:
    """Attach the node's device to a pod, and wait until it is; the placeholder's name."""
    create_attachment(user, name, pod, namespace, **spec)
    status = wait_condition(user, name, "Attached", namespace)["status"]
    assert status["node"] == node
    return str(status["placeholder"]["name"])


def take_back(user: User, name: str, namespace: str = NAMESPACE) -> Object:
    """Release an attachment, and wait until that is done."""
    release(user, name, namespace)
    return wait_condition(user, name, "Released", namespace)


def read(user: User, name: str, namespace: str = NAMESPACE) -> Attachment:
    """Read an attachment."""
    found = user.api.get(GPU_ATTACHMENTS, name, namespace)
    assert found is not None, f"there is no attachment {name}"
    return parse_attachment(found)


def has_condition(thing: Object, kind: str) -> bool:
    """Say whether a condition of an object is True."""
    conditions = thing.get("status", {}).get("conditions", ())
    return any((each["type"], each["status"]) == (kind, "True") for each in conditions)


def wait_condition(user: User, name: str, kind: str, namespace: str = NAMESPACE) -> Object:
    """Wait until a condition of an attachment is True, or it has ended otherwise; the attachment."""

    def found() -> Object | None:
        thing = user.api.get(GPU_ATTACHMENTS, name, namespace)
        moves_on = thing is None or not any(has_condition(thing, each) for each in (kind, *ENDS))
        return None if moves_on else thing

    try:
        thing = eventually(found, f"attachment {name} is {kind}", MOVES_S)
        assert thing is not None
        assert has_condition(thing, kind), f"attachment {name} ended, and was to be {kind}"
    except AssertionError as error:
        status = (user.api.get(GPU_ATTACHMENTS, name, namespace) or {}).get("status")
        logs = user.kubectl("-n", "podsla-agents", "logs", "-l", "app.kubernetes.io/name=podsla-agent", "--tail=30")
        raise AssertionError(f"{error}; its status: {json.dumps(status)}; agents say: {logs.stdout}") from error
    return thing


def wait_reason(user: User, name: str, reason: str, namespace: str = NAMESPACE) -> None:
    """Wait until a condition of an attachment has a reason."""

    def given() -> bool:
        return reason in [one["reason"] for one in read(user, name, namespace).status.conditions]

    eventually(given, f"attachment {name} says {reason}", MOVES_S)


def release(user: User, name: str, namespace: str = NAMESPACE) -> None:
    """Ask for the release of an attachment."""
    body = '{"spec":{"release":true}}'
    done = user.kubectl("-n", namespace, "patch", "gpuattachment", name, "--type=merge", "-p", body)
    assert done.returncode == 0, done.stderr


def phase(user: User, pod: str) -> str:
    """The phase of a pod; "" where there is none."""
    found = user.api.get(PODS, pod, NAMESPACE)
    return str(found["status"]["phase"]) if found else ""


def why_released(user: User, name: str, namespace: str = NAMESPACE) -> str:
    """Why an attachment says that it was given back; "" before it is."""
    condition = read(user, name, namespace).status.condition(Type.RELEASED)
    return str(condition.get("reason", "")) if condition.get("status") == "True" else ""


def boot_of(user: User, node: str) -> str:
    """Which boot of a node its kubelet speaks of."""
    found = user.api.get(NODES, node)
    return str(found["status"]["nodeInfo"]["bootID"]) if found else ""


def kept_ready(user: User, namespace: str) -> list[str]:
    """Name the placeholders that a namespace keeps ready on nodes."""
    found = user.api.list(PODS, namespace, labelSelector="podsla.io/placeholder=warm")
    return [one["metadata"]["name"] for one in found if one["spec"].get("nodeName")]

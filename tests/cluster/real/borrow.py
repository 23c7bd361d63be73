"""EDGE: attachments in a real cluster: what a user creates, what becomes of it, and what a pod can open."""

import json
from typing import Any, Final

from kube.api import Object
from kube.kinds import GPU_ATTACHMENTS
from tests.cluster.archives import PODSLA
from tests.cluster.real.pods import NAMESPACE, create_pod
from tests.system.user import User
from tests.waiting import eventually

SLEEPER: Final = "trap exit TERM; while :; do sleep 1; done"
MOVES_S: Final = 240.0  # software emulation on a busy machine


def create_borrower(user: User, name: str, node: str) -> None:
    """Create a pod that may make device nodes of its own, as any root in a container may."""
    command = ["sh", "-c", SLEEPER]
    create_pod(user, name, node, {"image": PODSLA, "command": command, "securityContext": {"runAsUser": 0}})


def opens(user: User, pod: str, gpu: Object) -> str:
    """
    Try to open a device in a pod, by the node that the agent makes and by one that the pod makes itself.

    Returns:
        "opens", "denied" (no rule) or "hidden" (a rule, and no node).
    """
    own = f"/tmp/{gpu['uuid']}"  # noqa: S108 - in a container of its own
    script = (
        f"test -c {own} || mknod {own} c {gpu['major']} {gpu['minor']}; "
        f"(exec 3<>{own}) 2>/dev/null || {{ echo denied; exit; }}; "
        f"(exec 3<>{gpu['path']}) 2>/dev/null && echo opens || echo hidden"
    )
    done = user.kubectl("exec", pod, "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def create_attachment(user: User, name: str, pod: str, **spec: Any) -> Object:
    """Create an attachment, as a user does."""
    kind = {"apiVersion": "podsla.io/v1beta1", "kind": "GPUAttachment"}
    body = {**kind, "metadata": {"name": name}, "spec": {"podName": pod, "gracePeriodSeconds": 0, **spec}}
    done = user.apply(body)
    assert done.returncode == 0, done.stderr
    found = user.api.get(GPU_ATTACHMENTS, name, NAMESPACE)
    assert found is not None
    return found


def has_condition(thing: Object, kind: str) -> bool:
    """Say whether a condition of an object is True."""
    conditions = thing.get("status", {}).get("conditions", ())
    return any((each["type"], each["status"]) == (kind, "True") for each in conditions)


def wait_condition(user: User, name: str, kind: str) -> Object:
    """Wait until a condition of an attachment is True; the attachment."""

    def found() -> Object | None:
        thing = user.api.get(GPU_ATTACHMENTS, name, NAMESPACE)
        return thing if thing is not None and has_condition(thing, kind) else None

    try:
        thing = eventually(found, f"attachment {name} is {kind}", MOVES_S)
    except AssertionError as error:
        status = (user.api.get(GPU_ATTACHMENTS, name, NAMESPACE) or {}).get("status")
        logs = user.kubectl("-n", "podsla-agents", "logs", "-l", "app.kubernetes.io/name=podsla-agent", "--tail=30")
        raise AssertionError(f"{error}; its status: {json.dumps(status)}; agents say: {logs.stdout}") from error
    assert thing is not None
    return thing


def release(user: User, name: str) -> None:
    """Ask for the release of an attachment."""
    done = user.kubectl("patch", "gpuattachment", name, "--type=merge", "-p", '{"spec":{"release":true}}')
    assert done.returncode == 0, done.stderr

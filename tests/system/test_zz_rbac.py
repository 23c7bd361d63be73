"""
Least privilege, from the audit log of the whole session: every right is used, and nothing else was asked for.

The file's name makes it the last of the folder, so that the log holds what all other tests made the processes do. What
only rare events ask for it brings about itself, so it passes alone as well.
"""

from collections.abc import Callable
from typing import Any, Final

import pytest

from kube.api import PatchKind, Resource
from kube.kinds import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    EVENTS,
    GPU_ATTACHMENTS,
    MUTATING_WEBHOOKS,
    PODS,
    SECRETS,
    SPEC_CATALOGS,
)
from tests.cluster.state import Cluster
from tests.system.rights import SYSTEM, Right, calls, check_least, granted, used
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

OUT: Final = "default"
GPU_NODE: Final = "ecs-gn7i-c16g1-4xlarge-0"
ACCOUNTS: Final = ("podsla-controller", "podsla-webhook")
FORBIDDEN: Final = 403


# --- what only rare events ask for ------------------------------------------------------------------------------------


@pytest.fixture
def everything_happened(user: User, scratch_catalog: Callable[[str], None]) -> None:
    """Edits, a rollback, wrong edits, more edits than are kept, and certificates that cannot be used any more."""
    scratch_catalog("rights")
    for step in (*range(12), 10):  # ten are kept, and the last edit goes back by one
        publish(user, f"edition-{step}")
        eventually(lambda: accepted(user) == "True", "the edit is accepted")
    publish(user, "wrong", fallback=["nobody-knows"])
    eventually(lambda: accepted(user) == "False", "the edit is refused")
    change_target(user)
    borrow(user)
    for name in ("podsla-webhook-tls", "podsla-ca"):  # in this order: a leaf waits until its CA is a minute old
        spoil(user, name)


def publish(user: User, name: str, **fields: Any) -> None:
    """Apply a catalogue of one class."""
    catalog = {"apiVersion": "podsla.io/v1beta1", "kind": "SpecCatalog", "metadata": {"name": "rights"}}
    body = {**catalog, "spec": {"classes": [{"name": name, **fields}]}}
    user.api.patch(SPEC_CATALOGS, "rights", body, kind=PatchKind.APPLY)


def accepted(user: User) -> str:
    """Read the controller's word on the newest edit; "" while there is none."""
    found = user.api.get(SPEC_CATALOGS, "rights") or {}
    for condition in (found.get("status") or {}).get("conditions", ()):
        if condition["type"] == "Accepted" and condition["observedGeneration"] == found["metadata"]["generation"]:
            return str(condition["status"])
    return ""


def change_target(user: User) -> None:
    """Write a wrong target and then more right ones than are kept, and take all of it away."""
    before = [thing["metadata"]["name"] for thing in user.api.list(CONTROLLER_REVISIONS, SYSTEM)]
    head = "apiVersion: podsla.io/v1beta1\nkind: Target\nmetadata: {name: rights}\nspec: {capacityPercent: "
    user.api.create(CONFIG_MAPS, {"metadata": {"name": "podsla-target"}, "data": {"target.yaml": ""}}, SYSTEM)
    about = {"fieldSelector": "regarding.name=podsla-target"}
    eventually(lambda: list(user.api.list(EVENTS, SYSTEM, **about)), "the wrong target is told of")
    for percent in range(90, 95):
        text = f"{head}{percent}}}\n"
        user.api.patch(CONFIG_MAPS, "podsla-target", {"data": {"target.yaml": text}}, namespace=SYSTEM)
        eventually(lambda text=text: text in targets(user), "the target is accepted")  # type: ignore[misc]
    user.api.delete(CONFIG_MAPS, "podsla-target", SYSTEM)
    for thing in user.api.list(CONTROLLER_REVISIONS, SYSTEM):
        if thing["metadata"]["name"] not in before:
            user.api.delete(CONTROLLER_REVISIONS, thing["metadata"]["name"], SYSTEM)


def borrow(user: User) -> None:
    """Ask for a GPU that another pod has for life, and for what no node publishes; give up, and let time run out."""
    pods = {"holder": {"nvidia.com/gpu": "1"}, "borrower": {}}
    for name, amounts in pods.items():
        container = {"name": "c", "image": "x", "resources": {"requests": amounts, "limits": amounts}}
        user.api.create(
            PODS, {"metadata": {"name": name}, "spec": {"nodeName": GPU_NODE, "containers": [container]}}, OUT
        )
    head = {"apiVersion": "podsla.io/v1beta1", "kind": "GPUAttachment"}
    for name, resource in (("rights", "nvidia.com/gpu"), ("unpublished", "example.com/gpu")):
        spec = {"podName": "borrower", "resource": resource, "ttlSecondsAfterFinished": 0}
        user.api.create(GPU_ATTACHMENTS, {**head, "metadata": {"name": name}, "spec": spec}, OUT)

    def is_next() -> bool:
        status = (user.api.get(GPU_ATTACHMENTS, "rights", OUT) or {}).get("status") or {}
        return bool((status.get("placeholder") or {}).get("uid"))

    eventually(is_next, "it has a placeholder")
    user.api.patch(GPU_ATTACHMENTS, "rights", {"spec": {"release": True}}, namespace=OUT)
    for name in ("rights", "unpublished"):
        eventually(lambda name=name: user.api.get(GPU_ATTACHMENTS, name, OUT) is None, f"{name} is removed")  # type: ignore[misc]
    for name in pods:
        user.api.delete(PODS, name, OUT)


def targets(user: User) -> list[str]:
    """Read the accepted targets."""
    revisions = user.api.list(CONTROLLER_REVISIONS, SYSTEM, labelSelector="podsla.io/target=true")
    return [str(revision["data"]["target.yaml"]) for revision in revisions]


def spoil(user: User, name: str) -> None:
    """Empty a Secret; the controller fills it again."""
    user.api.patch(SECRETS, name, {"data": {"tls.crt": ""}}, namespace=SYSTEM)

    def repaired() -> bool:
        touch = {"metadata": {"annotations": {"example.com/touched": name}}}
        user.api.patch(MUTATING_WEBHOOKS, "podsla", touch)  # a look at certificates is due each minute, or after this
        user.api.patch(MUTATING_WEBHOOKS, "podsla", {"metadata": {"annotations": {"example.com/touched": None}}})
        return bool((user.api.get(SECRETS, name, SYSTEM) or {})["data"]["tls.crt"])

    eventually(repaired, f"secret {name} is written anew", timeout_s=90)


# --- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("everything_happened")
def test_every_right_is_used_and_nothing_else_is_asked_for(user: User, beside: Cluster) -> None:
    # Pods are patched to hand over warm ones: tests/controller/test_attachments.py does, with the account's own rights.
    rights = {right for right in granted(user) if (right.resource, right.verb) != ("pods", "patch")}
    asked = used(beside)
    assert {right.account for right in rights} == set(ACCOUNTS)
    check_least(rights, asked)


def test_nothing_was_ever_forbidden(beside: Cluster) -> None:
    refused = [right for right, event in calls(beside) if (event.get("responseStatus") or {}).get("code") == FORBIDDEN]
    assert refused == []


def test_rights_over_all_namespaces_are_over_things_without_one(user: User) -> None:
    """A Role says where; a ClusterRole would say everywhere. But pods with a size, or that borrow, may be anywhere."""
    scoped = set[Right]()
    for right in granted(user):
        version = {"": "v1", "podsla.io": "podsla.io/v1beta1"}.get(right.group, f"{right.group}/v1")
        for found in user.api.call("GET", Resource(version, "").path())["resources"]:
            if found["name"] == right.resource and right.namespace == "*" and found["namespaced"]:
                scoped.add(right)
    pods = {("", "pods", verb) for verb in ("get", "list", "watch", "create", "patch", "delete")}
    attachments = {("podsla.io", "gpuattachments", verb) for verb in ("list", "watch", "patch", "delete")}
    told = {("podsla.io", "gpuattachments/status", "patch"), ("events.k8s.io", "events", "create")}
    assert {(right.account, right.group, right.resource, right.verb) for right in scoped} == {
        ("podsla-controller", *right) for right in pods | attachments | told
    }

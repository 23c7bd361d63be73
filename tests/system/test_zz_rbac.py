"""
Least privilege, from the audit log of the whole session: every right is used, and nothing else was asked for.

The file's name makes it the last of the folder, so that the log holds what all other tests made the processes do. What
only rare events ask for it brings about itself, so it passes alone as well.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import pytest

from kube.api import Object, PatchKind, Resource
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
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

SYSTEM: Final = "podsla-system"
OUT: Final = "default"
GPU_NODE: Final = "ecs-gn7i-c16g1-4xlarge-0"
ACCOUNTS: Final = ("podsla-controller", "podsla-webhook")
RBAC: Final = "rbac.authorization.k8s.io/v1"
FORBIDDEN: Final = 403


class Right(NamedTuple):
    """One verb on one resource; name and namespace are "*" where the right is for all of them."""

    account: str
    verb: str
    group: str
    resource: str
    namespace: str
    name: str

    def covers(self, used: "Right") -> bool:
        """Whether it is what allows *used*."""
        exact = self[:4] == used[:4]
        return exact and self.namespace in ("*", used.namespace) and self.name in ("*", used.name)


# --- what is granted --------------------------------------------------------------------------------------------------


def granted(user: User) -> set[Right]:
    """Read every right of the accounts from the roles that they are bound to, in the cluster as it is."""
    found: set[Right] = set()
    for plural in ("clusterrolebindings", "rolebindings"):
        for binding in user.api.list(Resource(RBAC, plural)):
            accounts = [s["name"] for s in binding.get("subjects") or () if is_ours(s)]
            where = binding["metadata"].get("namespace", "*")
            for account in accounts:
                found |= {right for rule in rules(user, binding) for right in rights(account, rule, where)}
    return found


def is_ours(subject: Object) -> bool:
    """Whether a binding's subject is an account of podsla."""
    return (subject["kind"], subject.get("namespace")) == ("ServiceAccount", SYSTEM)


def rules(user: User, binding: Object) -> list[Object]:
    """Read the rules of the role that a binding names."""
    reference, cluster_wide = binding["roleRef"], binding["roleRef"]["kind"] == "ClusterRole"
    resource = Resource(RBAC, "clusterroles" if cluster_wide else "roles")
    role = user.api.get(resource, reference["name"], "" if cluster_wide else binding["metadata"]["namespace"])
    assert role is not None
    return list(role["rules"])


def rights(account: str, rule: Object, namespace: str) -> Iterator[Right]:
    """List what one rule allows."""
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames") or ("*",):
                    yield Right(account, verb, group, resource, namespace, name)


# --- what is used -----------------------------------------------------------------------------------------------------


def calls(cluster: Cluster) -> Iterator[tuple[Right, Mapping[str, Any]]]:
    """Read every call of the accounts from the audit log, with its event."""
    prefix = f"system:serviceaccount:{SYSTEM}:"
    with (cluster.folder / "log" / "audit.jsonl").open() as stream:
        for line in stream:
            event = json.loads(line)
            account = event["user"]["username"]
            if account.startswith(prefix):
                asked = event.get("objectRef") or {}
                resource = "/".join(filter(None, (asked.get("resource"), asked.get("subresource"))))
                yield (
                    Right(
                        account.removeprefix(prefix),
                        event["verb"],
                        asked.get("apiGroup", ""),
                        resource or event["requestURI"],
                        asked.get("namespace", "*"),
                        asked.get("name", "*"),
                    ),
                    event,
                )


def used(cluster: Cluster) -> set[Right]:
    """List what the accounts asked for."""
    return {right for right, _ in calls(cluster)}


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
    """Ask for a GPU that another pod has for life, give up, and let time run out."""
    pods = {"holder": {"nvidia.com/gpu": "1"}, "borrower": {}}
    for name, amounts in pods.items():
        container = {"name": "c", "image": "x", "resources": {"requests": amounts, "limits": amounts}}
        user.api.create(
            PODS, {"metadata": {"name": name}, "spec": {"nodeName": GPU_NODE, "containers": [container]}}, OUT
        )
    spec: dict[str, Any] = {"podName": "borrower", "ttlSecondsAfterFinished": 0}
    head = {"apiVersion": "podsla.io/v1beta1", "kind": "GPUAttachment", "metadata": {"name": "rights"}}
    user.api.create(GPU_ATTACHMENTS, {**head, "spec": spec}, OUT)

    def is_next() -> bool:
        status = (user.api.get(GPU_ATTACHMENTS, "rights", OUT) or {}).get("status") or {}
        return bool((status.get("placeholder") or {}).get("uid"))

    eventually(is_next, "it has a placeholder")
    user.api.patch(GPU_ATTACHMENTS, "rights", {"spec": {"release": True}}, namespace=OUT)
    eventually(lambda: user.api.get(GPU_ATTACHMENTS, "rights", OUT) is None, "it is removed")
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
    rights, asked = granted(user), used(beside)
    assert {right.account for right in rights} == set(ACCOUNTS)
    assert [right for right in sorted(rights) if not any(map(right.covers, asked))] == [], "granted and never used"
    assert [right for right in sorted(asked) if not any(r.covers(right) for r in rights)] == [], "used by other roles"


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
    pods = {("", "pods", verb) for verb in ("get", "list", "watch", "create", "delete")}
    attachments = {("podsla.io", "gpuattachments", verb) for verb in ("list", "watch", "patch", "delete")}
    told = {("podsla.io", "gpuattachments/status", "patch"), ("events.k8s.io", "events", "create")}
    assert {(right.account, right.group, right.resource, right.verb) for right in scoped} == {
        ("podsla-controller", *right) for right in pods | attachments | told
    }

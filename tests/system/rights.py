"""EDGE: what podsla's accounts may do, from the roles in a cluster; and what they did, from its audit log."""

import json
from collections.abc import Iterator, Mapping, Set
from typing import Any, Final, NamedTuple

from kube.api import Object, Resource
from tests.cluster.state import Cluster
from tests.system.user import User

SYSTEM: Final = "podsla-system"
RBAC: Final = "rbac.authorization.k8s.io/v1"


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


def granted(user: User, home: str = SYSTEM) -> set[Right]:
    """Read every right of the accounts of a namespace from the roles they are bound to, in the cluster as it is."""
    found: set[Right] = set()
    for plural in ("clusterrolebindings", "rolebindings"):
        for binding in user.api.list(Resource(RBAC, plural)):
            accounts = [s["name"] for s in binding.get("subjects") or () if is_account(s, home)]
            where = binding["metadata"].get("namespace", "*")
            for account in accounts:
                found |= {right for rule in rules(user, binding) for right in rights(account, rule, where)}
    return found


def is_account(subject: Object, home: str) -> bool:
    """Whether a binding's subject is an account of that namespace."""
    return (subject["kind"], subject.get("namespace")) == ("ServiceAccount", home)


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


def calls(cluster: Cluster, home: str = SYSTEM) -> Iterator[tuple[Right, Mapping[str, Any]]]:
    """Read every call of the accounts of a namespace from the audit log, with its event."""
    prefix = f"system:serviceaccount:{home}:"
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


def used(cluster: Cluster, home: str = SYSTEM) -> set[Right]:
    """List what the accounts of a namespace asked for."""
    return {right for right, _ in calls(cluster, home)}


# --- both -------------------------------------------------------------------------------------------------------------


def check_least(rights: Set[Right], asked: Set[Right]) -> None:
    """Check that every right is used, and that nothing else was asked for."""
    assert [right for right in sorted(rights) if not any(map(right.covers, asked))] == [], "granted and never used"
    assert [right for right in sorted(asked) if not any(r.covers(right) for r in rights)] == [], "used by other roles"

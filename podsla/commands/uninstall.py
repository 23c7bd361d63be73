"""`podsla uninstall`: take what podsla wrote on objects of others out of a cluster, before its manifests go."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from podsla.options import cluster_options
from podsla.output import REFUSED, note, say

LEASE: Final = "podsla-controller"
STOP_TIMEOUT_S: Final = 60


@click.command("uninstall")
@cluster_options
@click.option("--force", is_flag=True, help="Clean nodes whose pods hold podsla.io resources too.")
def uninstall_command(kubeconfig: Path | None, context: str | None, namespace: str, force: bool) -> None:
    """Take out of a cluster what podsla wrote on objects of others; delete its manifests afterwards.

    First the webhook configurations go, so that no pod is ever held up; then the controller is stopped; then capacity
    and labels are taken off the nodes. A node keeps them while pods on it hold podsla.io resources: a kubelet that
    restarts would fail those pods. Run it again when they are gone, or use --force. Pods keep what they were given.

    Exit code 1: some nodes were left as they are; each is named.

    \b
      podsla uninstall && kubectl delete -k manifests/overlays/default
    """
    from kube.api import Api

    api = Api.connect(kubeconfig, context)
    _delete_configurations(api)
    _stop_controller(api, namespace)
    left = _clean_nodes(api, force=force)
    if left:
        raise click.exceptions.Exit(REFUSED)


def _delete_configurations(api: Any) -> None:
    from controller.world import WEBHOOKS

    for resource, name in WEBHOOKS:
        api.delete(resource, name)
    say("webhook configurations deleted: from now on every pod is created as it was written")


def _stop_controller(api: Any, namespace: str) -> None:
    """
    Scale the controller to nothing, and wait until no process holds its Lease: it would write on nodes again.

    Raises:
        click.ClickException: A process goes on holding it.
    """
    from kube.api import Resource
    from kube.kinds import LEASES

    deployments = Resource("apps/v1", "deployments")
    if api.get(deployments, LEASE, namespace) is not None:
        api.patch(deployments, LEASE, {"spec": {"replicas": 0}}, namespace=namespace, subresource="scale")
    started_s = changed_s = time.monotonic()
    last = ""
    while holder := holder_of(api.get(LEASES, LEASE, namespace)):
        who, renewed, duration_s = holder
        now_s = time.monotonic()
        if renewed != last:
            last, changed_s = renewed, now_s
        elif now_s - changed_s >= duration_s:
            break  # whoever held it is gone
        if now_s - started_s > STOP_TIMEOUT_S:
            raise click.ClickException(f"{who} holds Lease {namespace}/{LEASE} and renews it; stop that process")
        time.sleep(1)
    say("controller stopped")


def holder_of(lease: Mapping[str, Any] | None) -> tuple[str, str, int] | None:
    """Read who holds a Lease, when it was renewed last, and for how many seconds that lasts."""
    spec = (lease or {}).get("spec") or {}
    if not spec.get("holderIdentity"):
        return None
    return spec["holderIdentity"], spec.get("renewTime") or "", spec.get("leaseDurationSeconds") or 0


def _clean_nodes(api: Any, *, force: bool) -> int:
    from catalog.load import DEFAULT_TARGET, load_target
    from catalog.reader import make_catalog
    from kube.api import Resource
    from kube.kinds import NODES
    from nodes.capacity import plan

    due = plan(api.list(NODES), make_catalog([], []), load_target(DEFAULT_TARGET)).patches
    busy = {} if force else holders(api.list(Resource("v1", "pods")))
    left = [patch.node for patch in due if patch.node in busy]
    for patch in due:
        if patch.node in busy:
            continue
        if patch.metadata_patch:
            api.patch(NODES, patch.node, patch.metadata_patch)
        if patch.status_patch:
            api.patch(NODES, patch.node, patch.status_patch, subresource="status")
    say(f"{len(due) - len(left)} nodes cleaned of podsla.io capacity and labels")
    for node in left:
        note(f"node {node} left as it is: {busy[node]} hold podsla.io resources there; run this again without them")
    return len(left)


def holders(pods: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Say which pods that are not over hold podsla.io resources, by node."""
    found: dict[str, list[str]] = {}
    for pod in pods:
        spec, phase = pod["spec"], (pod.get("status") or {}).get("phase")
        if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
            continue
        asked = [(c.get("resources") or {}).get("requests") or {} for c in spec.get("containers") or ()]
        if any(key.startswith("podsla.io/") for requests in asked for key in requests):
            found.setdefault(spec["nodeName"], []).append(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")
    return {node: _some(names) for node, names in found.items()}


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

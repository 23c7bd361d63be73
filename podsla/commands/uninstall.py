"""`podsla uninstall`: take what podsla wrote on objects of others out of a cluster, before its manifests go."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from catalog.keys import PLACEHOLDER, QUARANTINED, WARM
from nodes.bound import RESOURCES, by_node, keep_promises, read_bound
from nodes.capacity import LABELS, plan
from nodes.export import STARTUP_TAINT
from nodes.taints import Retaint, quarantine, started
from podsla.options import cluster_options
from podsla.output import REFUSED, note, say
from podsla.summary import counted

LEASE: Final = "podsla-controller"
STOP_TIMEOUT_S: Final = 60
DETACH_TIMEOUT_S: Final = 60  # beyond an attachment's own grace period, which a person would not sit out
RENEWED_S: Final = 6  # within which a holder that lives renews its Lease
_PUBLISHED: Final = LABELS | RESOURCES  # what the controller writes on nodes


@click.command("uninstall")
@cluster_options
@click.option(
    "--force",
    is_flag=True,
    help="Clean nodes whose pods need podsla.io capacity or labels too; give up GPUs that do not come back.",
)
def uninstall_command(kubeconfig: Path | None, context: str | None, namespace: str, force: bool) -> None:
    """Take out of a cluster what podsla wrote on objects of others; delete its manifests afterwards.

    First the webhook configurations go, so that no pod is ever held up; then every lent GPU is taken back; then the
    controller is stopped; then capacity and labels are taken off the nodes. A node keeps them while pods on it need
    them: a kubelet that restarts would fail those pods. Run it again when they are gone, or use --force. Pods keep what
    they were given.

    Exit code 1: some nodes were left as they are, or some GPUs are lent still, each is named; or the API server did not
    do as asked.

    \b
      podsla uninstall && kubectl delete --ignore-not-found -k manifests/overlays/default
    """
    from kube.api import Api, ApiError

    try:
        api = Api.connect(kubeconfig, context)
        _delete_configurations(api)
        detach_all(api, force=force)
        _stop_controller(api, namespace)
        delete_warm(api)
        _delete_overlays(api)
        _take_taints(api)
        left = _clean_nodes(api, force=force)
    except ApiError as error:
        note(f"{error}; nothing more was done, and running this again goes on from there", style="bad")
        raise click.exceptions.Exit(REFUSED) from None
    if left:
        raise click.exceptions.Exit(REFUSED)


def _delete_configurations(api: Any) -> None:
    from controller.world import WEBHOOKS

    found = [(resource, name) for resource, name in WEBHOOKS if api.get(resource, name) is not None]
    for resource, name in found:
        api.delete(resource, name)
    if found:
        say("webhook configurations deleted: from now on every pod is created as it was written")
    else:
        say("no webhook configuration of podsla is there: it is not installed, or was taken out before")


def detach_all(api: Any, *, force: bool, patience_s: float = DETACH_TIMEOUT_S) -> None:
    """
    Delete every GPUAttachment, and wait until controller and agents have taken the devices back: nobody else does.

    Raises:
        click.exceptions.Exit: Some are not over, and are not given up by force.
    """
    from kube.kinds import GPU_ATTACHMENTS

    seen, end_s = set[str](), time.monotonic() + patience_s
    while left := _all(api, GPU_ATTACHMENTS):
        for metadata in (thing["metadata"] for thing in left):
            if "deletionTimestamp" not in metadata:
                api.delete(GPU_ATTACHMENTS, metadata["name"], metadata["namespace"])
        if not seen:
            note(f"waiting for {counted(len(left), 'GPUAttachment')} to end …", style="dim")
        seen |= {thing["metadata"]["uid"] for thing in left}
        if time.monotonic() > end_s:
            break
        time.sleep(1)
    for thing in left:
        where, name = thing["metadata"]["namespace"], thing["metadata"]["name"]
        what = f"GPUAttachment {where}/{name} of pod {thing['spec']['podName']}"
        if force:
            api.patch(GPU_ATTACHMENTS, name, {"metadata": {"finalizers": None}}, namespace=where)
            note(f"{what} given up: end that pod, which may have the device still", style="bad")
        else:
            note(f"{what} is not over{_state(thing)}; run this again when it is, or use --force", style="bad")
    if left and not force:
        raise click.exceptions.Exit(REFUSED)
    if seen:
        say(f"{counted(len(seen), 'GPUAttachment')} deleted")


def _all(api: Any, resource: Any) -> Sequence[Mapping[str, Any]]:
    """List every object of a kind; none where the cluster has no such kind."""
    from kube.api import ApiError

    try:
        return list(api.list(resource))
    except ApiError as error:
        if error.status != 404:
            raise
        return ()


def _state(attachment: Mapping[str, Any]) -> str:
    conditions = (attachment.get("status") or {}).get("conditions") or ()
    said = [f" ({each['type']}: {each['message']})" for each in conditions if each["status"] == "True"]
    return said[0] if said else ""


def _stop_controller(api: Any, namespace: str) -> None:
    """
    Scale the controller to nothing, and wait until no process holds its Lease: it would write on nodes again.

    Raises:
        click.exceptions.Exit: A process goes on holding it.
    """
    from kube.api import Resource
    from kube.kinds import LEASES

    deployments = Resource("apps/v1", "deployments")
    deployed = api.get(deployments, LEASE, namespace) is not None
    if not deployed and api.get(LEASES, LEASE, namespace) is None:
        say(f"no controller is in namespace {namespace}")
        return
    if deployed:
        api.patch(deployments, LEASE, {"spec": {"replicas": 0}}, namespace=namespace, subresource="scale")
        note("waiting for the controller to end …", style="dim")
    started_s = changed_s = time.monotonic()
    patience_s = STOP_TIMEOUT_S if deployed else RENEWED_S
    last = ""
    while holder := holder_of(api.get(LEASES, LEASE, namespace)):
        who, renewed, duration_s = holder
        now_s = time.monotonic()
        if renewed != last:
            last, changed_s = renewed, now_s
        elif now_s - changed_s >= duration_s:
            break  # whoever held it is gone
        if now_s - started_s > patience_s and changed_s > started_s:
            where = "" if deployed else ", which no Deployment of this cluster runs,"
            note(f"{who}{where} holds Lease {namespace}/{LEASE} and renews it; stop that process, and run this again",
                 style="bad")  # fmt: skip
            raise click.exceptions.Exit(REFUSED)
        time.sleep(1)
    say("controller stopped")


def delete_warm(api: Any) -> None:
    """Delete the pods that keep GPUs ready: nobody has what they reserve, and they would not end by themselves."""
    from attach.warm import read_ready
    from kube.kinds import PODS

    kept = read_ready(api.list(PODS, labelSelector=f"{PLACEHOLDER}={WARM}"))
    for one in kept:
        path = PODS.path(one.namespace, one.pod.name)
        api.call("DELETE", path, body={"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 1})
    if kept:
        say(f"{counted(len(kept), 'GPU')} that namespaces kept ready given back")


def _delete_overlays(api: Any) -> None:
    """Delete the overlays that the controller kept: Karpenter would buy nodes for capacity that nobody publishes."""
    from kube.kinds import NODE_OVERLAYS
    from nodes.overlays import plan_overlays

    names = plan_overlays(None, _all(api, NODE_OVERLAYS)).delete
    for name in names:
        api.delete(NODE_OVERLAYS, name)
    if names:
        say(f"{counted(len(names), 'NodeOverlay')} deleted")


def holder_of(lease: Mapping[str, Any] | None) -> tuple[str, str, int] | None:
    """Read who holds a Lease, when it was renewed last, and for how many seconds that lasts."""
    spec = (lease or {}).get("spec") or {}
    if not spec.get("holderIdentity"):
        return None
    return spec["holderIdentity"], spec.get("renewTime") or "", spec.get("leaseDurationSeconds") or 0


def _take_taints(api: Any) -> None:
    """Take podsla's taints from nodes: nobody else would, and they would take no pods."""
    from kube.kinds import NODES

    waiting = list(started(api.list(NODES), frozenset()))
    _write_taints(api, waiting)
    if waiting:
        say(f"{counted(len(waiting), 'node')} freed of the taint {STARTUP_TAINT}; take it out of your node groups too")
    quarantined = list(quarantine(api.list(NODES), frozenset()))
    _write_taints(api, quarantined)
    if quarantined:
        say(f"{counted(len(quarantined), 'node')} freed of the taint {QUARANTINED}")


def _write_taints(api: Any, due: Iterable[Retaint]) -> None:
    from kube.kinds import NODES

    for one in due:
        api.patch(NODES, one.node, {"metadata": {"resourceVersion": one.version}, **one.body})


def _clean_nodes(api: Any, *, force: bool) -> int:
    from catalog.load import DEFAULT_TARGET, load_target
    from catalog.reader import make_catalog
    from kube.kinds import NODES, PODS

    due = plan(api.list(NODES), make_catalog([], []), load_target(DEFAULT_TARGET)).patches
    busy = {} if force else holders(api.list(PODS))
    left = [patch.node for patch in due if patch.node in busy]
    for patch in due:
        if patch.node in busy:
            continue
        api.patch(NODES, patch.node, patch.body, subresource="status")
    say(f"{counted(len(due) - len(left), 'node')} cleaned of podsla.io capacity and labels")
    for node in left:
        note(f"node {node} left as it is, since these pods need what it has: {busy[node]}; run this again without them")
    return len(left)


def holders(pods: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Say which pods that are not over need what the controller published on their node, by node."""
    found: dict[str, list[str]] = {}
    for node, bound in by_node(read_bound(map(keep_promises, pods))).items():
        if names := [one.pod for one in bound if not _PUBLISHED.isdisjoint(one.keys.union(one.figures))]:
            found[node] = names
    return {node: _some(names) for node, names in found.items()}


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

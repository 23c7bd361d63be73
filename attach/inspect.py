"""What the containers of a node hold and why, as plain data: rules, nodes, holders, journal. It changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from attach.engines import ENGINE
from attach.entry import Entry, Trouble
from attach.errors import AttachError
from attach.journal import Journal
from attach.model import Gpu, Holder
from attach.observe import Node, observe_gpus, observe_held
from attach.reconcile import Status
from attach.transitions import State

Fields = dict[str, Any]


def inspect(node: Node, journal: Journal) -> Fields:
    """Look at every device of the inventory, and at everything that the journal names."""
    gpus = observe_gpus(node)
    return {
        "bootID": journal.boot_id,
        "devices": [_device(gpu, node, journal.entries.values()) for gpu in _listed(gpus)],
        "attachments": [_attachment(entry, node, gpus) for entry in journal.entries.values()],
        **({"inventory": _said(gpus)} if isinstance(gpus, Trouble) else {}),
    }


def _listed(gpus: Mapping[str, Gpu] | Trouble) -> Sequence[Gpu]:
    return () if isinstance(gpus, Trouble) else list(gpus.values())


def _device(gpu: Gpu, node: Node, entries: Iterable[Entry]) -> Fields:
    owner = next((entry for entry in entries if not entry.is_final and gpu.uuid in entry.wish.devices), None)
    try:
        holders: Any = [_holder(holder) for holder in node.processes.holders({gpu.node.rdev})]
    except AttachError as error:
        holders = f"{error.reason}: {error}"
    return {
        "uuid": gpu.uuid,
        "node": gpu.node.path,
        "number": f"{gpu.node.major}:{gpu.node.minor}",
        "unhealthy": gpu.unhealthy,
        "attachment": owner.uid if owner else "",
        "pod": str(owner.wish.target) if owner else "",
        "state": str(owner.state) if owner else "",
        "holders": holders,
    }


def _holder(holder: Holder) -> Fields:
    return {
        "pid": holder.process.pid,
        "command": holder.command,
        "by": "mapping" if holder.mapped else "descriptor",
        "containerID": holder.container_id,
        "podUID": holder.pod_uid,
    }


def _attachment(entry: Entry, node: Node, gpus: Mapping[str, Gpu] | Trouble) -> Fields:
    looked_at = entry if entry.is_final else replace(entry, state=State.ATTACHED)  # of which nothing has to be opened
    seen = observe_held(node, looked_at, gpus, (), None)
    wish, container = entry.wish, entry.container
    return {
        "uid": entry.uid,
        "pod": str(wish.target),
        "podUID": wish.target.uid,
        "containerID": wish.target.container_id,
        "devices": list(wish.devices),
        "state": str(entry.state),
        "reason": entry.reason,
        "message": entry.message,
        "since": render_time(entry.since_s),
        "leaseExpiresAt": render_time(wish.expires_s),
        "detachPolicy": str(wish.policy),
        "engine": ENGINE[container.cgroup.version] if container else "",
        "cgroup": container.cgroup.path if container else "",
        "pid": container.init.pid if container else 0,
        "runs": seen.container == container and container is not None,
        "rules": _said(seen.allowed)
        if isinstance(seen.allowed, Trouble)
        else {at.path: at.rdev in seen.allowed for at in entry.nodes},
        "nodes": {at.path: _said(state) for at, state in seen.nodes.items()},
        "made": [at.path for at in entry.made],
        "granted": [at.path for at in entry.granted],
    }


def _said(fact: Any) -> Any:
    return f"{fact.reason}: {fact.message}" if isinstance(fact, Trouble) else str(fact)


def render_time(seconds: float) -> str:
    """Write a time as Kubernetes does."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def render_status(status: Status) -> Fields:
    """Lay a status out for scripts: as the conditions of an attachment will have it."""
    entry = status.entry
    return {
        "uid": status.uid,
        "pod": str(entry.wish.target) if entry else "",
        "devices": list(entry.wish.devices) if entry else [],
        "state": str(entry.state) if entry else "Pending",
        "reason": status.reason,
        "message": status.message,
        "leaseExpiresAt": render_time(entry.wish.expires_s) if entry else "",
        "engine": ENGINE[entry.container.cgroup.version] if entry and entry.container else "",
        "holders": [_holder(holder) for holder in status.holders],
    }

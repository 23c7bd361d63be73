"""`podsla top`: what is promised of what nodes have."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import click

from catalog.demand import CPU, RAM
from catalog.dimension import DISK_BYTES, DISK_IOPS, NETWORK_BITS, PPS
from catalog.keys import GPU_SEATS
from nodes.bound import by_node, keep_promises, read_bound
from nodes.capacity import plan
from nodes.usage import Held, NodeUsage, render_amount, total, usage
from podsla.options import output_option, pod_cluster_options
from podsla.output import note, print_table, print_value, styled
from podsla.summary import counted

_COLUMNS: Final = {
    str(PPS.resource): "pps",
    str(NETWORK_BITS.resource): "network bits/s",
    str(DISK_IOPS.resource): "disk iops",
    str(DISK_BYTES.resource): "disk bytes/s",
}
_SEATS: Final = {GPU_SEATS: "gpu seats"}
_WIDE: Final = {CPU: "cpu", RAM: "memory"}
Marks: TypeAlias = frozenset[tuple[str, str]]  # node and resource
_GPU: Final = "/gpu"  # of nvidia.com/gpu and its like


@click.command("top")
@pod_cluster_options
@click.option("--by", type=click.Choice(["node", "namespace", "class"]), default="node", show_default=True,
              help="A row for each of these.")  # fmt: skip
@output_option("table", "wide", "json", "yaml", default="table")
def top_command(
    kubeconfig: Path | None, context: str | None, namespace: str | None, home: str, by: str, form: str
) -> None:
    """Show what is promised of packets/s, bandwidth, disk and GPUs, and what nodes have.

    What pods request counts, from when they are bound until they are over; nobody measures what they use. "!" marks
    where more is promised than a node of its size offers, as after a figure was lowered under running pods: the node
    holds it up until they leave. -o wide adds CPU and memory. With --namespace, only what pods of that namespace hold.

    \b
      podsla top
      podsla top --by class
      podsla top --by namespace -o json
    """
    from podsla.cluster import connect, told

    reader = connect(kubeconfig, context, namespace, home)
    with told():
        nodes, pods, served = reader.all(reader.nodes, reader.running_pods, reader.served)
    bound = by_node(read_bound(map(keep_promises, pods)))
    held = frozenset((one.node, one.key) for one in plan(nodes, served.catalog, served.target, bound).held)
    if namespace is not None:
        pods = [pod for pod in pods if pod["metadata"]["namespace"] == namespace]
    used = usage(nodes, pods)
    if form in ("json", "yaml"):
        print_value(_dump(used, by, held), form)
        return
    resources = _resources(used, wide=form == "wide")
    if by == "node":
        _print_nodes(used, resources, held)
    else:
        _print_groups(used, by, resources)


def _resources(used: Sequence[NodeUsage], *, wide: bool) -> dict[str, str]:
    """Choose what has a column: our own resources, and of others what some node has."""
    there = {resource for node in used for resource in (*node.allocatable, *node.promised)}
    gpus = {resource: resource for resource in sorted(there) if resource.endswith(_GPU)}
    seats = {key: title for key, title in _SEATS.items() if key in there}
    return {**(_WIDE if wide else {}), **_COLUMNS, **seats, **gpus}


def _print_nodes(used: Sequence[NodeUsage], resources: Mapping[str, str], held: Marks) -> None:
    rows: list[list[str]] = [
        [node.node, node.node_type or "-", str(len(node.pods)), *(_cell(node, each, held) for each in resources)]
        for node in sorted(used, key=lambda node: node.node)
    ]
    sums = _sum(used)
    rows.append(["SUM", "", str(len(sums.pods)), *(_cell(sums, resource, frozenset()) for resource in resources)])
    print_table(["node", "type", "pods", *resources.values()], rows)
    over = {node.node for node in used for resource in resources if _over(node, resource, held)}
    if over:
        note(f"! more is promised on {counted(len(over), 'node')} than nodes of that size offer; it ends as pods leave",
             style="warn")  # fmt: skip


def _sum(used: Iterable[NodeUsage]) -> NodeUsage:
    """Add all nodes up as if they were one."""
    allocatable: dict[str, int] = {}
    held: list[Held] = []
    for node in used:
        held += node.pods
        for resource, amount in node.allocatable.items():
            allocatable[resource] = allocatable.get(resource, 0) + amount
    return NodeUsage("", "", allocatable, total(held), tuple(held))


def _over(node: NodeUsage, resource: str, held: Marks) -> bool:
    return node.over(resource) or (node.node, resource) in held


def _cell(node: NodeUsage, resource: str, held: Marks) -> str:
    promised, whole = node.promised.get(resource, 0), node.allocatable.get(resource)
    if not whole and not promised:
        return "-"
    text = f"{render_amount(resource, promised)}/{render_amount(resource, whole or 0)}"
    return styled(f"{text} !", "bad") if _over(node, resource, held) else text


def _groups(used: Iterable[NodeUsage], by: str) -> dict[str, list[Held]]:
    groups: dict[str, list[Held]] = {}
    for held in (held for node in used for held in node.pods):
        groups.setdefault(held.namespace if by == "namespace" else held.sla_class or "none", []).append(held)
    return dict(sorted(groups.items()))


def _print_groups(used: Sequence[NodeUsage], by: str, resources: Mapping[str, str]) -> None:
    sums = _sum(used)
    rows: list[list[str]] = []
    for name, held in _groups(used, by).items():
        amounts = total(held)
        rows.append([name, str(len(held)), *(_share(amounts.get(resource, 0), resource) for resource in resources)])
    rows.append(["SUM", str(len(sums.pods)), *(_cell(sums, each, frozenset()) for each in resources)])
    print_table([by, "pods", *resources.values()], rows)


def _share(amount: int, resource: str) -> str:
    return render_amount(resource, amount) if amount else "-"


def _dump(used: Sequence[NodeUsage], by: str, held: Marks) -> list[dict[str, Any]]:
    """Write usage as plain values: CPU in millicores, everything else in base units."""
    if by != "node":
        return [
            {by: name, "pods": len(held), "promised": dict(sorted(total(held).items()))}
            for name, held in _groups(used, by).items()
        ]
    return [
        {
            "node": node.node,
            "type": node.node_type,
            "pods": len(node.pods),
            "promised": dict(sorted(node.promised.items())),
            "allocatable": dict(sorted(node.allocatable.items())),
            "overPromised": sorted(resource for resource in node.promised if _over(node, resource, held)),
        }
        for node in sorted(used, key=lambda node: node.node)
    ]

"""`podsla why`: why a pod is on its node, on none, or was never created."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from nodes.proposals import TypeLack
from nodes.usage import is_over, render_amount
from podsla import completing
from podsla.diagnosis import Diagnosis, State, diagnose, dump
from podsla.options import output_option, pod_cluster_options
from podsla.output import REFUSED, ClusterError, print_table, print_value, say
from podsla.refusals import Refusal, read_refusals
from podsla.summary import counted

_KINDS: Final = {
    "Deployment": ("apps/v1", "deployments", ("deploy",)),
    "StatefulSet": ("apps/v1", "statefulsets", ("sts",)),
    "DaemonSet": ("apps/v1", "daemonsets", ("ds",)),
    "ReplicaSet": ("apps/v1", "replicasets", ("rs",)),
    "Job": ("batch/v1", "jobs", ()),
    "CronJob": ("batch/v1", "cronjobs", ("cj",)),
}
_IN_BETWEEN: Final = ("ReplicaSet", "Job")  # what may stand between a workload and its pods
_FIGURES: Final = 8  # nodes that would fit and are named
_CHARACTERS: Final = 32  # of a condition on labels


@click.command("why")
@click.argument("name", metavar="POD|KIND/NAME", shell_complete=completing.pods)
@pod_cluster_options
@output_option("table", "wide", "json", "yaml", default="table")
def why_command(
    name: str, kubeconfig: Path | None, context: str | None, namespace: str | None, home: str, form: str
) -> None:
    """Say why a pod is on its node, on none, or was never created.

    Of a waiting pod: by node type, what is missing (asked, free, allocatable); who holds the rest; and the smallest
    changes that would place it. Of a placed one: what it needs, and what its node has. Of a Deployment, StatefulSet,
    DaemonSet, ReplicaSet, Job or CronJob: what the API server said of pods that it refused, and why the first waiting
    pod waits. A NAME that is no pod is looked for among those.

    Volumes, pod affinity, topology spread and host ports are not judged; where a pod has them, the answer says so.

    Exit code 1: a pod waits, or was refused.

    \b
      podsla why trader-6d4cf56db6-x7k2p -n edge
      podsla why deployment/trader -n edge
    """
    from podsla.cluster import connect, told

    reader = connect(kubeconfig, context, namespace, home)
    with told():
        pods, refusals, title = _find(reader, name)
        found = _diagnosis(reader, pods)
    if form in ("json", "yaml"):
        print_value({**(dump(found) if found else {}), "refusals": [_dump_refusal(one) for one in refusals]}, form)
    else:
        _print(title, pods, found, refusals, wide=form == "wide")
    if refusals or (found and found.state not in (State.PLACED, State.OVER)):
        raise click.exceptions.Exit(REFUSED)


def _find(reader: Any, name: str) -> tuple[list[Mapping[str, Any]], tuple[Refusal, ...], str]:
    """Find the pods that are meant, what their owners were told, and what they are called together."""
    from kube.api import Resource
    from kube.kinds import PODS
    from podsla.cluster import EVENTS

    kind, _, bare = name.rpartition("/")
    if kind.lower() in ("", "po", "pod", "pods"):
        pod = reader.api.get(PODS, bare, reader.namespace)
        if pod is not None:
            return [pod], (), f"Pod/{bare}"
        if kind:
            raise ClusterError(f"there is no pod {bare!r} in namespace {reader.namespace}")
    chosen = _kinds(kind)
    for title in chosen:
        group_version, plural, _ = _KINDS[title]
        owner = reader.api.get(Resource(group_version, plural), bare, reader.namespace)
        if owner is not None:
            owners = {owner["metadata"]["uid"]: f"{title}/{bare}", **_between(reader, owner["metadata"]["uid"])}
            pods = [one for one in reader.read(PODS, reader.namespace) if _owner(one) in owners]
            events = reader.read(EVENTS, reader.namespace, fieldSelector="reason=FailedCreate")
            return pods, read_refusals(events, owners), f"{title}/{bare}"
    what = "pod or workload" if len(chosen) > 1 else chosen[0]
    raise ClusterError(f"there is no {what} {bare!r} in namespace {reader.namespace}; name another with -n")


def _kinds(kind: str) -> list[str]:
    word = kind.lower().partition(".")[0]
    found = [title for title, (_, plural, short) in _KINDS.items() if word in (title.lower(), plural, *short)]
    if kind and not found:
        raise click.UsageError(f"{kind!r} holds no pods; known are pod, {', '.join(title.lower() for title in _KINDS)}")
    return found or list(_KINDS)


def _between(reader: Any, uid: str) -> dict[str, str]:
    """Find the ReplicaSets and Jobs that stand between a workload and its pods."""
    from kube.api import Resource

    found = {}
    for title in _IN_BETWEEN:
        group_version, plural, _ = _KINDS[title]
        for one in reader.read(Resource(group_version, plural), reader.namespace):
            if _owner(one) == uid:
                found[one["metadata"]["uid"]] = f"{title}/{one['metadata']['name']}"
    return found


def _owner(thing: Mapping[str, Any]) -> str:
    owners = thing["metadata"].get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), "")


def _waits(pod: Mapping[str, Any]) -> bool:
    return not pod["spec"].get("nodeName") and not is_over(pod)


def _diagnosis(reader: Any, pods: Sequence[Mapping[str, Any]]) -> Diagnosis | None:
    """Judge the first pod that waits, else the first."""
    subject = next(filter(_waits, pods), next(iter(pods), None))
    if subject is None:
        return None
    nodes, others, served = reader.all(
        lambda: reader.permitted(reader.nodes, None),
        lambda: reader.permitted(reader.running_pods, None),
        lambda: _served(reader) if _waits(subject) else None,
    )
    return diagnose(subject, nodes, others, served)


def _served(reader: Any) -> Any:
    with suppress(ClusterError):  # what serves makes the answer fuller, and is not what was asked for
        return reader.permitted(reader.served, None)
    return None


def _print(
    title: str, pods: Sequence[Mapping[str, Any]], found: Diagnosis | None, refusals: Sequence[Refusal], *, wide: bool
) -> None:
    if title.partition("/")[0] != "Pod":
        waiting = sum(map(_waits, pods))
        told = f", {waiting} of them waiting" if waiting else ""
        say(f"{title}: {counted(len(pods), 'pod')}{told}", style="bold")
    for one in refusals:
        say(f"{one.owner}: pods refused {counted(one.count, 'time')}, {one.refused}", style="bad")
        say(f"  {one.message}")
        if one.advice:
            say(f"  {one.advice}", style="warn")
    if found is not None:
        _print_diagnosis(found, wide=wide)


def _print_diagnosis(found: Diagnosis, *, wide: bool) -> None:
    say(f"Pod/{found.name} in {found.namespace}: {_headline(found)}", style="bold")
    if found.sla_class:
        say(f"  class {found.sla_class}, size {found.size or 'none'}")
    if found.said and found.state is not State.PLACED:
        say(f"  {'last said' if found.state is State.OVER else 'the scheduler'}: {found.said}", style="dim")
    if found.state is State.FITS:
        say(f"  would fit: {', '.join(found.fitting[:_FIGURES])}{', …' if len(found.fitting) > _FIGURES else ''}")
    if found.not_judged:
        say(f"  not judged here: {', '.join(found.not_judged)}", style="warn")
    if found.kept:
        say()
        rows = [[what, needs if wide else _short(needs), has] for what, needs, has in found.kept]
        print_table(["what", "needs", "node has"], rows, indent="  ")
    if found.lacks:
        say()
        _print_lacks(found.lacks, wide=wide)
    if found.holders:
        say()
        rows = [[h.resource, h.node, h.held.title, _of(h.resource, h.amount, h.allocatable)] for h in found.holders]
        print_table(["held", "node", "by", "holds"], rows, indent="  ")
    if found.proposals:
        say()
        say("  each of these would place it:")
    for proposal in found.proposals:
        say(f"    {proposal.message}")


def _headline(found: Diagnosis) -> str:
    match found.state:
        case State.PLACED:
            return f"on node {found.node}"
        case State.OVER:
            return "over"
        case State.GATED:
            return "held back by spec.schedulingGates; whoever set them takes them away"
        case State.UNKNOWN:
            return "waits; you may not list nodes, so only the scheduler's word can be shown"
        case State.FITS:
            return f"waits, and {counted(len(found.fitting), 'node')} of {found.nodes} would take it by what is judged"
        case _:
            return f"fits none of {counted(found.nodes, 'node')}"


def _print_lacks(lacks: Sequence[TypeLack], *, wide: bool) -> None:
    rows = []
    for row in lacks:
        best, count = row.best, str(row.nodes) if row.count == row.nodes else f"{row.count} of {row.nodes}"
        if best.asked:
            figures = [render_amount(best.what, each) for each in (best.asked, best.free, best.allocatable)]
        else:
            figures = [best.wanted if wide else _short(best.wanted), "", best.found or ("none" if best.wanted else "")]
        rows.append([row.node_type, count, best.what, *figures, *([best.lack.value] if wide else [])])
    columns = ["node type", "nodes", "missing", "asked", "free", "node has"]
    print_table([*columns, *(["reason"] if wide else [])], rows, indent="  ")


def _short(text: str) -> str:
    """Cut a long list of families or types; -o wide shows it whole."""
    return text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"


def _of(resource: str, amount: int, whole: int) -> str:
    return f"{render_amount(resource, amount)} of {render_amount(resource, whole)}"


def _dump_refusal(one: Refusal) -> dict[str, Any]:
    return {
        "owner": one.owner,
        "count": one.count,
        "reason": one.refused.value,
        "message": one.message,
        "advice": one.advice,
    }

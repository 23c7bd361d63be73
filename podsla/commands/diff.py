"""`podsla catalog diff`: what differs between two catalogues, or what files would change in a cluster."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import click

from catalog.diff import CatalogDiff, diff_catalogs, dump_diff, render_diff
from catalog.fit import Index, compile_index
from catalog.keys import DEFAULT_CLASS, DOMAIN
from catalog.load import load_catalog, load_documents, load_target
from catalog.merged import catalog_of, read_merged
from catalog.problems import nearest
from catalog.stored import Kept, read_kept
from catalog.target import Target
from catalog.verdict import Verdict
from nodes.bound import Bound, by_node, keep_promises, read_bound, used_classes
from nodes.capacity import Held, plan
from podsla.commands.admit import today
from podsla.commands.apply import check
from podsla.edits import Edited, RollbackError, choose, try_edit
from podsla.files import catalog_paths, find_pods, load_manifests, with_class
from podsla.options import cluster_options, output_option, parse_labels, target_option
from podsla.output import REFUSED, ClusterError, print_table, print_value, say
from podsla.summary import counted
from webhook.admit import Serving
from webhook.impact import Impact, NamedPod, Outcome, count, impact

MARKS: Final = {"+": "good", "-": "bad", "~": "warn"}
MAX_EARLIER: Final = 4  # revisions that are read again to know what running pods were promised
_Edits: TypeAlias = Callable[[Sequence[Mapping[str, Any]], Sequence[Kept]], Mapping[str, Mapping[str, Any]]]
_QUIET: Final = (Outcome.UNCHANGED, Outcome.NOT_OURS)


@dataclass(frozen=True, slots=True)
class _Compared:
    """What differs, what becomes of pods, what the controller would say, and what nodes would hold up for pods."""

    diff: CatalogDiff
    impacts: tuple[Impact, ...]
    verdicts: tuple[Verdict, ...] = ()
    held: tuple[Held, ...] = ()


@click.command("diff")
@click.argument("files", nargs=-1, metavar="OLD NEW | --cluster FILE... | --revision NUMBER NAME")
@click.option("--cluster", "in_cluster", is_flag=True, help="Compare with what a cluster serves, and judge its pods.")
@click.option("--revision", "number", type=click.IntRange(1), metavar="NUMBER",
              help="The same of a catalogue in the cluster, as it was accepted before.")  # fmt: skip
@click.option("--pods", metavar="FILE", multiple=True, help="Manifests or running pods to judge.")
@click.option("--class", "class_name", metavar="NAME", help="The class of pods that name none.")
@click.option("--namespace-labels", metavar="KEY=VALUE,…", default="", help="Labels of the pods' namespace.")
@click.option(
    "--with", "also", metavar="FILE", multiple=True, help="Files served beside both, as those with the sizes."
)
@target_option
@cluster_options
@output_option("table", "wide", "json", "yaml", default="table")
def diff_command(
    files: Sequence[str],
    in_cluster: bool,
    number: int | None,
    pods: Sequence[str],
    class_name: str | None,
    namespace_labels: str,
    also: Sequence[str],
    target: str,
    kubeconfig: Path | None,
    context: str | None,
    namespace: str,
    form: str,
) -> None:
    """Say what differs between two catalogues, and what that does to pods.

    OLD and NEW are files or folders. With --pods, each pod is one of Unchanged, Changes (a new pod like it gets another
    size; the running one keeps what it was promised), Breaks, NewlyServed, NotServed, NotOurs.

    With --cluster, FILE takes the place of the catalogues of the same names there: what the controller would say of the
    edit, what would then be served, and what becomes of the pods that run. Nothing is written. Pods are listed one by
    one with -o wide. With --revision, the catalogue NAME is as `catalog history` numbers it: what a rollback would do.

    Exit code 1: a pod breaks, or the controller would refuse the edit.

    \b
      podsla catalog diff old.yaml new.yaml --pods manifests/
      podsla catalog diff --cluster platform.yaml
      podsla catalog diff --revision 3 platform
    """
    if in_cluster or number is not None:
        if not files or pods or also or class_name or namespace_labels:
            raise click.UsageError("--cluster takes files alone; what is served and which pods run, the cluster says")
        if number is not None and (in_cluster or len(files) != 1):
            raise click.UsageError("--revision takes the name of one catalogue, and no files")
        edits = _of_revision(files[0], number) if number is not None else _as_written(files)
        found = _with_cluster(edits, kubeconfig, context, namespace)
    else:
        if len(files) != 2:
            raise click.UsageError("name two catalogues, OLD and NEW, or --cluster and files")
        labels = parse_labels(namespace_labels)
        named = [
            NamedPod(pod.title, with_class(pod.pod, class_name), labels) for pod in find_pods(load_manifests(pods))
        ]
        found = _of_files(files, also, target, named)
    if form in ("json", "yaml"):
        print_value(_dump(found), form)
    else:
        _print(found, every=form == "wide" or not in_cluster)
    if any(i.outcome is Outcome.BREAKS for i in found.impacts) or not all(v.accepted for v in found.verdicts):
        raise click.exceptions.Exit(REFUSED)


def _of_files(files: Sequence[str], also: Sequence[str], target: str, named: Sequence[NamedPod]) -> _Compared:
    loaded = load_target(target)
    before, after = (load_catalog(catalog_paths([name, *also])) for name in files)
    found = diff_catalogs(before, after)
    if not named:
        return _Compared(found, ())
    serving, edited = (Serving(compile_index(catalog, loaded)) for catalog in (before, after))
    return _Compared(found, impact(named, serving, edited, today()))


def _as_written(files: Sequence[str]) -> _Edits:
    """Edit catalogues to what files say."""
    documents = load_documents(catalog_paths(files))
    check(documents)
    edits = {document.data["metadata"]["name"]: document.data for document in documents}
    return lambda _catalogs, _kept: edits


def _of_revision(name: str, number: int) -> _Edits:
    """Edit a catalogue to what was accepted of it before."""

    def edits(catalogs: Sequence[Mapping[str, Any]], kept: Sequence[Kept]) -> Mapping[str, Mapping[str, Any]]:
        thing = named_catalog(catalogs, name)
        try:
            return {name: {**thing, "spec": choose(thing, kept, number).spec}}
        except RollbackError as error:
            raise ClusterError(str(error)) from None

    return edits


def named_catalog(catalogs: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """
    Find a catalogue of the cluster.

    Raises:
        ClusterError: There is none of the name.
    """
    by_name = {thing["metadata"]["name"]: thing for thing in catalogs}
    if name not in by_name:
        raise ClusterError(f"there is no catalogue {name!r}; {nearest(name, by_name)}")
    return by_name[name]


def _with_cluster(edits: _Edits, kubeconfig: Path | None, context: str | None, home: str) -> _Compared:
    from kube.kinds import CONTROLLER_REVISIONS, NAMESPACES, RUNTIME_CLASSES, SPEC_CATALOGS
    from podsla.cluster import connect, target_of, told

    reader = connect(kubeconfig, context, None, home)
    with told():
        catalogs, revisions, classes, namespaces, pods, nodes = reader.all(
            lambda: reader.read(SPEC_CATALOGS),
            lambda: reader.read(CONTROLLER_REVISIONS, home),
            lambda: reader.read(RUNTIME_CLASSES),
            lambda: reader.read(NAMESPACES),
            reader.running_pods,
            lambda: reader.permitted(reader.nodes, ()),
        )
    target = target_of(revisions, classes)
    now, kept = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", read_kept(revisions)
    bound = list(read_bound(map(keep_promises, pods)))
    edited: Edited = try_edit(catalogs, kept, edits(catalogs, kept), used_classes(bound), now)
    serves = edited.before.revision
    old = Serving(compile_index(edited.before, target), _earlier(revisions, kept, bound, target, but=serves))
    new = Serving(compile_index(edited.after, target))
    impacts = tuple(_judge(named_pods(pods, namespaces), old, new, today()))
    held = plan(nodes, edited.after, target, by_node(bound)).held
    return _Compared(diff_catalogs(edited.before, edited.after), impacts, edited.verdicts, held)


def _judge(pods: Sequence[NamedPod], old: Serving, new: Serving, day: date) -> Iterator[Impact]:
    """Judge every pod; of those that one owner made alike, the first stands for all."""
    known: dict[object, Impact] = {}
    for one in pods:
        key = alike(one)
        if key not in known:
            (known[key],) = impact([one], old, new, day)
        yield replace(known[key], name=one.name)


def alike(one: NamedPod) -> object:
    """Tell pods apart that a decision may tell apart: their owner made them, and what may change since is compared."""
    metadata, spec = one.pod["metadata"], one.pod["spec"]
    owners = tuple(owner.get("uid") for owner in metadata.get("ownerReferences") or ())
    annotations = tuple(sorted((metadata.get("annotations") or {}).items()))
    containers = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    resources = [spec.get("resources"), *(container.get("resources") for container in containers)]
    bound = bool(spec.get("nodeName"))
    return owners or one.name, annotations, bound, tuple(sorted(one.namespace_labels.items())), str(resources)


def _earlier(
    revisions: Sequence[Mapping[str, Any]], kept: Sequence[Kept], bound: Sequence[Bound], target: Target, *, but: str
) -> dict[str, Index]:
    """Compile what served when running pods were sized: the revisions that most of them name, *but* what serves now."""
    by_name = {one.name: one for one in kept}
    wanted = Counter(one.revision for one in bound if one.revision not in ("", but))
    merged = {one.revision: one for one in read_merged(revisions)}
    there = [merged[revision] for revision, _ in wanted.most_common(MAX_EARLIER) if revision in merged]
    found = {one.revision: catalog_of(one, by_name) for one in there}
    return {revision: compile_index(catalog, target) for revision, catalog in found.items() if catalog is not None}


def named_pods(pods: Sequence[Mapping[str, Any]], namespaces: Sequence[Mapping[str, Any]]) -> list[NamedPod]:
    """Find the pods that an edit may concern: with a key of ours, or in a namespace with a default class."""
    labels = {one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in namespaces}
    found = []
    for pod in pods:
        metadata = pod["metadata"]
        own = labels.get(metadata["namespace"], {})
        if DEFAULT_CLASS in own or any(key.startswith(DOMAIN) for key in metadata.get("annotations") or ()):
            found.append(NamedPod(f"{metadata['namespace']}/{metadata['name']}", pod, own))
    return found


def _print(found: _Compared, *, every: bool) -> None:
    for verdict in found.verdicts:
        if not verdict.accepted:
            say(f"catalogue {verdict.catalog} would be refused, {verdict.reason}:", style="bad")
            for problem in verdict.problems:
                say(f"  {problem}")
    for line in render_diff(found.diff):
        say(line, style=MARKS.get(line[:1], "dim"))
    if found.held:
        nodes, keys = {one.node for one in found.held}, sorted({one.key for one in found.held})
        told = f"{counted(len(nodes), 'node')} would publish more than offered until pods leave: {', '.join(keys)}"
        say(told, style="warn")
    if not found.impacts:
        return
    say()
    if every:
        rows = [[one.name, *_cells(one)] for one in found.impacts]
        print_table(["pod", "outcome", "size", "new size", "why"], rows)
        say()
    elif groups := _groups(found.impacts):
        rows = [[str(len(group)), group[0].name, *_cells(group[0])] for group in groups]
        print_table(["pods", "such as", "outcome", "size", "new size", "why"], rows)
        say()
    say(", ".join(f"{number} {outcome.value}" for outcome, number in count(found.impacts).items() if number))


def _cells(one: Impact) -> list[str]:
    return [one.outcome.value, one.size or "-", one.new_size or "-", one.message]


def _groups(impacts: Sequence[Impact]) -> list[list[Impact]]:
    """Gather pods of which the same is said, and leave out those of which nothing is."""
    groups: dict[tuple[str, ...], list[Impact]] = {}
    for one in impacts:
        if one.outcome not in _QUIET:
            groups.setdefault(tuple(_cells(one)), []).append(one)
    return sorted(groups.values(), key=len, reverse=True)


def _dump(found: _Compared) -> dict[str, Any]:
    verdicts = [
        {
            "catalog": v.catalog,
            "accepted": v.accepted,
            "reason": v.reason.value,
            "problems": list(v.problems),
        }
        for v in found.verdicts
    ]
    held = [
        {"node": one.node, "key": one.key, "offered": one.offered, "published": one.published} for one in found.held
    ]
    judged = {"verdicts": verdicts, "held": held} if verdicts else {}
    return {**judged, **dump_diff(found.diff), "pods": [_dump_impact(i) for i in found.impacts]}


def _dump_impact(found: Impact) -> dict[str, str | None]:
    return {
        "name": found.name,
        "outcome": found.outcome.value,
        "size": found.size,
        "newSize": found.new_size,
        "message": found.message,
    }

"""`podsla catalog status | history | rollback`: what serves in a cluster, what served before, and the way back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from catalog.diff import dump_diff, render_diff
from catalog.stored import read_kept
from podsla import completing
from podsla.commands.apply import outcome_of, settled
from podsla.commands.diff import MARKS, named_catalog
from podsla.edits import Revision, RollbackError, choose, compare, history
from podsla.options import cluster_options, output_option
from podsla.output import REFUSED, ClusterError, note, print_table, print_value, say

_SHOWN = len("sha256:") + 12  # of a revision, where a person reads it


@click.command("status")
@click.argument("name", required=False, metavar="[NAME]", shell_complete=completing.catalogs)
@cluster_options
@output_option("table", "wide", "json", "yaml", default="table")
def status_command(name: str | None, kubeconfig: Path | None, context: str | None, namespace: str, form: str) -> None:
    """Show what the controller said of the catalogues in a cluster, and what serves.

    Of one, the pods of each class too; misfits are those whose size no longer offers what they were promised.

    Exit code 1: the newest edit of one is refused, or not judged yet.

    \b
      podsla catalog status
      podsla catalog status starter -o yaml
    """
    catalogs, _ = _read(kubeconfig, context, namespace)
    chosen = [named_catalog(catalogs, name)] if name else catalogs
    found = [_status(thing) for thing in chosen]
    if form in ("json", "yaml"):
        print_value(found[0] if name else found, form)
    else:
        columns = ["catalog", "accepted", "reason", "sizes", "classes", "pods", "serving"]
        rows = [[_text(one[column], wide=form == "wide") for column in columns] for one in found]
        print_table(columns, rows)
        for one in found:
            if name or one["accepted"] != "True":
                say(f"{one['catalog']}: {one['message']}", style="" if one["accepted"] == "True" else "bad")
            for condition in one["conditions"] or ():
                if condition["type"] != "Accepted" and condition["status"] != "True":
                    say(f"{one['catalog']}: {condition['type']}: {condition['message']}", style="warn")
        if name and (usage := found[0]["usage"]):
            say()
            rows = [[each["class"], str(each["pods"]), str(each["misfits"])] for each in usage]
            print_table(["class", "pods", "misfits"], rows)
    if not found:
        note("no catalogue is published; podsla catalog apply ecs classes publishes the shipped ones", style="warn")
    if any(one["accepted"] != "True" for one in found):
        raise click.exceptions.Exit(REFUSED)


@click.command("history")
@click.argument("name", shell_complete=completing.catalogs)
@cluster_options
@output_option("table", "wide", "json", "yaml", default="table")
def history_command(name: str, kubeconfig: Path | None, context: str | None, namespace: str, form: str) -> None:
    """List what was accepted of a catalogue, newest first.

    "serves" marks what pods are given now, "written" what the object says; where they differ, the newest edit was
    refused.

    \b
      podsla catalog history starter
    """
    catalogs, revisions = _read(kubeconfig, context, namespace)
    found = history(named_catalog(catalogs, name), revisions, read_kept(revisions))
    if form in ("json", "yaml"):
        print_value([_dump(one) for one in found], form)
        return
    rows = [
        [
            str(one.number),
            _text(one.revision, wide=form == "wide"),
            one.created,
            str(one.sizes),
            str(one.classes),
            ", ".join(mark for mark, is_so in (("serves", one.serving), ("written", one.written)) if is_so),
        ]
        for one in found
    ]
    print_table(["number", "revision", "accepted", "sizes", "classes", "now"], rows)


@click.command("rollback")
@click.argument("name", shell_complete=completing.catalogs)
@cluster_options
@click.option("--to-revision", "number", type=click.IntRange(1), metavar="NUMBER",
              help="As `catalog history` numbers them. Default: the newest that says something else.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Let the API server check everything, and write nothing.")
@click.option("--wait", "wait_s", type=click.IntRange(0), default=30, show_default=True, metavar="SECONDS",
              help="How long to wait for the controller; 0: do not wait.")  # fmt: skip
@output_option("table", "json", "yaml", default="table")
def rollback_command(
    name: str,
    kubeconfig: Path | None,
    context: str | None,
    namespace: str,
    number: int | None,
    dry_run: bool,
    wait_s: int,
    form: str,
) -> None:
    """Put back what was accepted of a catalogue before, and say what that changes.

    An edit that was refused goes back to what still serves, an accepted one to what served before it. Pods that run
    keep what they were given; `podsla catalog diff --revision` says beforehand what becomes of them.

    Exit code 1: the controller refused, or did not answer in time. 3: there is nothing to go back to, or another wrote
    in between; nothing was written.

    \b
      podsla catalog rollback starter --dry-run
      podsla catalog rollback starter --to-revision 3
    """
    from podsla.cluster import connect, told

    catalogs, revisions = _read(kubeconfig, context, namespace)
    thing = named_catalog(catalogs, name)
    try:
        chosen = choose(thing, read_kept(revisions), number)
    except RollbackError as error:
        raise ClusterError(str(error)) from None
    found = compare(thing, chosen.spec)
    reader = connect(kubeconfig, context, None, namespace)
    with told():
        written = _replace(reader.api, {**thing, "spec": chosen.spec}, dry_run=dry_run)
        outcome = outcome_of(written if dry_run else settled(reader.api, [written], wait_s)[0])
    if form != "table":
        print_value({**outcome, "toRevision": chosen.number, "dryRun": dry_run, "changes": dump_diff(found)}, form)
    else:
        for line in render_diff(found):
            say(line, style=MARKS.get(line[:1], "dim"))
        tried = " would go" if dry_run else " went"
        said = "" if dry_run else f": {outcome['reason']}, {outcome['message']}"
        say(f"catalogue {name}{tried} back to revision {chosen.number}{said}", style="bold")
    if wait_s and not dry_run and outcome["accepted"] != "True":
        raise click.exceptions.Exit(REFUSED)


def _read(
    kubeconfig: Path | None, context: str | None, home: str
) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    from kube.kinds import CONTROLLER_REVISIONS, SPEC_CATALOGS
    from podsla.cluster import connect, told

    reader = connect(kubeconfig, context, None, home)
    with told():
        catalogs, revisions = reader.all(
            lambda: reader.read(SPEC_CATALOGS), lambda: reader.read(CONTROLLER_REVISIONS, home)
        )
    return catalogs, revisions


def _status(thing: Mapping[str, Any]) -> dict[str, Any]:
    status = thing.get("status") or {}
    served = {key: status[key] for key in ("sizes", "classes") if key in status}
    extra = {key: status.get(key) for key in ("pods", "usage", "revision", "conditions")}
    return {**outcome_of(thing), **served, **extra}


def _text(value: Any, *, wide: bool) -> str:
    text = "-" if value in (None, "") else str(value)
    return text[:_SHOWN] if text.startswith("sha256:") and not wide else text


def _dump(one: Revision) -> dict[str, Any]:
    return {
        "number": one.number,
        "revision": one.revision,
        "accepted": one.created,
        "sizes": one.sizes,
        "classes": one.classes,
        "serving": one.serving,
        "written": one.written,
        "controllerRevision": one.name,
    }


def _replace(api: Any, thing: Mapping[str, Any], *, dry_run: bool) -> Mapping[str, Any]:
    """Replace the object that was read; where another wrote in between, the API server refuses."""
    from kube.kinds import SPEC_CATALOGS

    query = {"fieldManager": "podsla", "fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
    return dict(api.call("PUT", SPEC_CATALOGS.path(name=thing["metadata"]["name"]), query, thing))

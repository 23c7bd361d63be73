"""`podsla catalog apply`: publish catalogues in a cluster, and wait for the controller's word on them."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from catalog.load import load_documents
from catalog.problems import InvalidError, Problem
from catalog.schema import SPEC_CATALOG, validate
from catalog.yamltext import Document
from podsla.commands.catalog import catalog_group
from podsla.options import catalog_paths, cluster_options, output_option
from podsla.output import REFUSED, note, print_table, print_value


@catalog_group.command("apply")
@click.argument("files", nargs=-1, required=True, metavar="NAME|FILE...")
@cluster_options
@click.option("--dry-run", is_flag=True, help="Let the API server check everything, and write nothing.")
@click.option(
    "--wait", "wait_s", type=click.IntRange(0), default=30, show_default=True, metavar="SECONDS",
    help="How long to wait for the controller; 0: do not wait.",
)  # fmt: skip
@output_option("table", "json", "yaml", default="table")
def apply_command(
    files: Sequence[str],
    kubeconfig: Path | None,
    context: str | None,
    namespace: str,
    dry_run: bool,
    wait_s: int,
    form: str,
) -> None:
    """Publish catalogues in a cluster: files, folders, or shipped ones by name.

    Server-side apply, so fields of other owners stay. The controller then judges the edit together with the other
    catalogues; one that it refuses changes nothing for pods: the last good revision serves on.

    Exit code 1: the controller refused, or did not answer in time. 3: a file cannot be used; nothing was sent.

    \b
      podsla catalog apply ecs classes
      podsla catalog apply platform.yaml --kubeconfig ~/.kube/config
    """
    from kube.api import Api

    bodies = [readable(document) for document in load_documents(catalog_paths(files))]
    api = Api.connect(kubeconfig, context)
    sent = [_send(api, body, dry_run=dry_run) for body in bodies]
    outcomes = [outcome_of(body) for body in (sent if dry_run or not wait_s else _settled(api, sent, wait_s))]
    if form != "table":
        print_value(outcomes, form)
    else:
        columns = ("catalog", "accepted", "reason", "sizes", "classes", "serving")
        print_table(columns, [[str(outcome[column]) for column in columns] for outcome in outcomes])
    for outcome in outcomes:
        if outcome["accepted"] not in ("True", "Unknown"):
            note(f"{outcome['catalog']}: {outcome['message']}", style="bad")
    if wait_s and not dry_run and any(outcome["accepted"] != "True" for outcome in outcomes):
        raise click.exceptions.Exit(REFUSED)


def readable(document: Document) -> Mapping[str, Any]:
    """
    Check that a document has the form of a SpecCatalog; whether it fits the others is for the controller to say.

    Raises:
        InvalidError: It has not; every problem is named.
    """
    data, problems = validate(document, SPEC_CATALOG)
    if data is None:
        raise InvalidError(problems)
    return {key: value for key, value in document.data.items() if key != "status"}


def _send(api: Any, body: Mapping[str, Any], *, dry_run: bool) -> Mapping[str, Any]:
    from kube.api import ApiError, PatchKind
    from kube.kinds import SPEC_CATALOGS

    name = body["metadata"]["name"]
    query = {"fieldManager": "podsla", "force": "true", "fieldValidation": "Strict"}
    if dry_run:
        query["dryRun"] = "All"
    try:
        return dict(api.call("PATCH", SPEC_CATALOGS.path(name=name), query, body, PatchKind.APPLY))
    except ApiError as error:
        advice = "; is podsla installed? kubectl apply -k manifests/overlays/default" if error.status == 404 else ""
        raise InvalidError([Problem(f"speccatalog/{name}", 0, "", f"{error}{advice}")]) from None


def _settled(api: Any, sent: Sequence[Mapping[str, Any]], wait_s: int) -> list[Mapping[str, Any]]:
    """Read the objects again and again until the controller has judged the generation that was sent."""
    from kube.kinds import SPEC_CATALOGS

    end_s = time.monotonic() + wait_s
    settled: list[Mapping[str, Any]] = []
    for body in sent:
        found = body
        while not is_judged(found, body["metadata"]["generation"]) and time.monotonic() < end_s:
            time.sleep(0.1)
            found = api.get(SPEC_CATALOGS, body["metadata"]["name"]) or body
        settled.append(found)
    return settled


def is_judged(thing: Mapping[str, Any], generation: int) -> bool:
    """Tell whether the controller has judged this generation or a newer one."""
    return int((thing.get("status") or {}).get("observedGeneration") or 0) >= generation


def outcome_of(thing: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the controller said of a catalogue."""
    status = thing.get("status") or {}
    judged = is_judged(thing, thing["metadata"]["generation"])
    found = [c for c in status.get("conditions") or () if c["type"] == "Accepted"] if judged else []
    condition = found[0] if found else {"status": "Unknown", "reason": "Pending", "message": "not judged yet"}
    return {
        "catalog": thing["metadata"]["name"],
        "accepted": condition["status"],
        "reason": condition["reason"],
        "message": condition["message"],
        "sizes": len((thing.get("spec") or {}).get("sizes") or ()),
        "classes": len((thing.get("spec") or {}).get("classes") or ()),
        "serving": status.get("serving") or "",
    }

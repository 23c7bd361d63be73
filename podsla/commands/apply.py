"""`podsla catalog apply`: publish catalogues in a cluster, and wait for the controller's word on them."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from catalog.load import load_documents
from catalog.problems import InvalidError, Problem
from catalog.reader import read_part
from catalog.yamltext import Document
from podsla.files import catalog_paths
from podsla.options import cluster_options, output_option
from podsla.output import REFUSED, note, print_table, print_value


@click.command("apply")
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
    documents = load_documents(catalog_paths(files))
    check(documents)
    sent = _publish(documents, kubeconfig, context, dry_run=dry_run, wait_s=wait_s)
    outcomes = [outcome_of(body) for body in sent]
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


def check(documents: Sequence[Document]) -> None:
    """
    Check what can be told without a cluster; whether the catalogues fit together is for the controller to say.

    Raises:
        InvalidError: Something is wrong; every problem is named.
    """
    problems = [problem for document in documents for problem in read_part(document).problems]
    if problems:
        raise InvalidError(problems)
    first: dict[str, Document] = {}
    for document in documents:
        name = document.data["metadata"]["name"]
        if (other := first.setdefault(name, document)) is not document:
            message = f"{other.file} has a catalogue {name!r} too, and one would replace the other; rename one"
            problems.append(document.problem(("metadata", "name"), message))
    if problems:
        raise InvalidError(problems)


def _publish(
    documents: Sequence[Document], kubeconfig: Path | None, context: str | None, *, dry_run: bool, wait_s: int
) -> list[Mapping[str, Any]]:
    """
    Send all documents or, where the API server would refuse one, none; then wait for the controller.

    Raises:
        InvalidError: The API server was not reached, or refused.
    """
    from kube.api import Api, ApiError

    try:
        api = Api.connect(kubeconfig, context)
    except ApiError as error:
        raise InvalidError([Problem("kubeconfig", 0, "", str(error))]) from None
    tried = [_send(api, document, dry_run=True) for document in documents]
    if dry_run:
        return tried
    sent = [_send(api, document, dry_run=False) for document in documents]
    return settled(api, sent, wait_s)


def _send(api: Any, document: Document, *, dry_run: bool) -> Mapping[str, Any]:
    from kube.api import ApiError, PatchKind
    from kube.kinds import SPEC_CATALOGS

    body = {key: value for key, value in document.data.items() if key != "status"}
    name = body["metadata"]["name"]
    query = {"fieldManager": "podsla", "force": "true", "fieldValidation": "Strict"}
    if dry_run:
        query["dryRun"] = "All"
    try:
        return dict(api.call("PATCH", SPEC_CATALOGS.path(name=name), query, body, PatchKind.APPLY))
    except ApiError as error:
        advice = "; is podsla installed? kubectl apply -k manifests/overlays/default" if error.status == 404 else ""
        raise InvalidError([Problem(document.file, 0, "", f"{error}{advice}")]) from None


def settled(api: Any, sent: Sequence[Mapping[str, Any]], wait_s: int) -> list[Mapping[str, Any]]:
    """Read the objects again and again until the controller has judged the generation that was sent."""
    from kube.api import ApiError
    from kube.kinds import SPEC_CATALOGS

    end_s = time.monotonic() + wait_s
    judged: list[Mapping[str, Any]] = []
    for body in sent:
        found = body
        while not is_judged(found, body["metadata"]["generation"]) and time.monotonic() < end_s:
            time.sleep(0.1)
            with suppress(ApiError):  # it was sent; an API server that is gone for a moment takes nothing of that back
                found = api.get(SPEC_CATALOGS, body["metadata"]["name"]) or body
        judged.append(found)
    return judged


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

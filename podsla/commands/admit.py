"""`podsla admit`: what pods would get, as the webhook would decide it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, assert_never

import click

from catalog.yamltext import Document
from podsla.basis import Source, find_basis, source_options
from podsla.files import Found, find_pods, load_manifests, replace_at, with_class
from podsla.options import output_option, pod_options
from podsla.output import REFUSED, note, print_json, print_table, print_yaml, with_progress
from podsla.summary import reason_line, short_cost
from webhook.admit import Answer, Released, Serving, Sized, admit
from webhook.decision import Deny, Ignore
from webhook.patch import diff
from webhook.templates import misplaced


@dataclass(frozen=True, slots=True)
class Admitted:
    """A pod that was found, and what it gets."""

    found: Found
    answer: Answer


@click.command("admit")
@pod_options
@source_options(pods=True)
@output_option("yaml", "json", "table", "patch", default="yaml")
@click.option("-q", "--quiet", is_flag=True, help="Print refusals and warnings only beside the output.")
def admit_command(
    files: Sequence[str],
    recursive: bool,
    class_name: str | None,
    namespace_labels: Mapping[str, str] | None,
    source: Source,
    form: str,
    quiet: bool,
) -> None:
    """Print manifests as they would be admitted.

    Every pod and pod template in the files gets what the webhook would give it. The changed documents go to standard
    output, with their comments gone; the reasons to standard error. If any pod is refused, no document is printed and
    the exit code is 1.

    Where a cluster is named (--kubeconfig, --context, KUBECONFIG, ~/.kube/config), by what it serves and by the labels
    that namespaces have there; with --catalog or --target, and where none is named, by files. Nothing is written.

    -o json prints one document as it is and several as a List. -o patch prints the operations for one document, and for
    several a list of {file, line, patch}.

    \b
      podsla admit -f deploy.yaml --class net-intensive
      podsla admit -f manifests/ -o table
      kubectl get deploy web -o yaml | podsla admit -f - -o patch
    """
    documents = load_manifests(files, recursive=recursive)
    pods = list(find_pods(documents))
    basis, day = find_basis(source), today()
    labels = basis.labels_of({found.namespace for found in pods}, namespace_labels)
    if not quiet:
        basis.announce()
    results = [
        Admitted(found, admit_found(found, class_name, labels[found.namespace], basis.serving, day))
        for found in with_progress(pods, "admitting")
    ]
    refused = [r for r in results if isinstance(r.answer, Deny)]
    if form == "table":
        _print_table(results)
    else:
        _print_notes(documents, results, quiet=quiet)
        if not refused:
            _print_documents(documents, results, form)
    if not pods:
        note("no document holds a pod or a pod template", style="warn")
    if refused:
        if form != "table":
            note(f"{len(refused)} of {len(pods)} pods refused; nothing printed", style="bold")
        raise click.exceptions.Exit(REFUSED)


def today() -> date:
    """The day by UTC, as every replica sees it."""
    return datetime.now(UTC).date()


def admit_found(found: Found, class_name: str | None, labels: Mapping[str, str], serving: Serving, day: date) -> Answer:
    """Admit one pod as the webhook would."""
    pod, of_daemonset = with_class(found.pod, class_name), found.kind == "DaemonSet"
    return admit(pod, labels, serving, day, of_daemonset=of_daemonset, claims=found.claims)


def _print_table(results: Sequence[Admitted]) -> None:
    rows = []
    for result in results:
        answer = result.answer
        match answer:
            case Sized():
                driver = answer.place.choice.driver
                row = [
                    answer.place.sla_class.name,
                    answer.place.choice.size.name,
                    short_cost(answer.place),
                    str(driver or "-"),
                    "",
                ]
            case Deny():
                row = ["-", "refused", "-", "-", f"{answer.reason}: {answer.message}"]
            case Ignore():
                row = ["-", "-", "-", "-", answer.why]
            case _:
                assert_never(answer)
        rows.append([result.found.title, *row])
    print_table(["pod", "class", "size", "offers", "driven by", "reason"], rows)


def _print_notes(documents: Sequence[Document], results: Sequence[Admitted], *, quiet: bool) -> None:
    for result in results:
        answer, title = result.answer, result.found.title
        match answer:
            case Sized():
                if not quiet or answer.warnings:
                    note(f"{title}: {reason_line(answer.place)}", style="good")
                for warning in answer.warnings:
                    note(f"  warning: {warning}", style="warn")
            case Deny():
                note(f"{title}: refused, {answer.reason}: {answer.message}", style="bad")
            case Ignore():
                if not quiet:
                    note(f"{title}: left alone ({answer.why})", style="dim")
            case _:
                assert_never(answer)
        for warning in misplaced(documents[result.found.document].data, result.found.path_in_document):
            note(f"  warning: {warning}", style="warn")


def _print_documents(documents: Sequence[Document], results: Sequence[Admitted], form: str) -> None:
    changed = [document.data for document in documents]
    for result in results:
        if isinstance(result.answer, Sized | Released):
            number, path = result.found.document, result.found.path_in_document
            changed[number] = replace_at(changed[number], path, result.answer.pod)
    if form == "yaml":
        print_yaml(changed)
    elif form == "json":
        print_json(changed[0] if len(changed) == 1 else {"apiVersion": "v1", "kind": "List", "items": changed})
    else:
        print_json(_patches(documents, changed))


def _patches(documents: Sequence[Document], changed: Sequence[Any]) -> Any:
    patches = [list(diff(before.data, after)) for before, after in zip(documents, changed, strict=True)]
    if len(patches) == 1:
        return patches[0]
    return [{"file": d.file, "line": d.line(()), "patch": p} for d, p in zip(documents, patches, strict=True)]

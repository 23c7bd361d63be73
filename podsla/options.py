"""EDGE: options that several commands share, and what they load."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from catalog.fit import compile_index
from catalog.keys import CLASS
from catalog.load import DEFAULT_TARGET, SHIPPED_CATALOG, load_documents, load_target, shipped_catalogs, shipped_targets
from catalog.model import Catalog
from catalog.problems import InvalidError, Problem
from catalog.reader import read_catalog
from catalog.yamltext import Document, parse_documents
from podsla import completing
from podsla.output import with_progress
from webhook.admit import Serving
from webhook.workloads import claim_templates, find_templates, pod_template

F = TypeVar("F", bound=Callable[..., Any])

STDIN: Final = "-"
HOME: Final = "podsla-system"


def catalog_options(command: F) -> F:
    """`--catalog` and `--target`: what is served, and on which cluster."""
    command = click.option(
        "--target",
        metavar="NAME|FILE",
        default=DEFAULT_TARGET,
        show_default=True,
        help=f"What the cluster has: {', '.join(shipped_targets())}, or a file.",
    )(command)
    return catalog_option(command, default="all shipped ones")


def catalog_option(command: F, *, default: str) -> F:
    """`--catalog`: which files hold sizes and classes."""
    return click.option(
        "--catalog",
        "catalogs",
        metavar="NAME|FILE",
        multiple=True,
        help=f"A catalogue file or folder, or a shipped one: {', '.join(shipped_catalogs())}. Repeat it for several. "
        f"Default: {default}.",
    )(command)


def target_option(command: F) -> F:
    """`--target` alone, of a command whose files are its arguments."""
    return click.option(
        "--target", metavar="NAME|FILE", default=DEFAULT_TARGET, show_default=True, help="The cluster."
    )(command)


def pod_options(command: F) -> F:
    """`-f`, `--class` and `--namespace-labels`: which pods, and where they come from."""
    return _pod_options(command, required=True)


def optional_pod_options(command: F) -> F:
    """As `pod_options`, for a command that can do without files."""
    return _pod_options(command, required=False)


def _pod_options(command: F, *, required: bool) -> F:
    command = click.option(
        "--namespace-labels",
        metavar="KEY=VALUE,…",
        callback=lambda _context, _option, text: None if text is None else parse_labels(text),
        help="Labels of the pods' namespace: its default class, and what it may use. Default: those it has in the "
        "cluster that is asked; else none.",
    )(command)
    command = click.option(
        "--class",
        "class_name",
        metavar="NAME",
        shell_complete=completing.classes,
        help="The class of pods that name none, as if they had the annotation podsla.io/class.",
    )(command)
    command = click.option("-R", "--recursive", is_flag=True, help="Read the folders within folders too.")(command)
    return click.option(
        "-f",
        "--filename",
        "files",
        metavar="FILE",
        multiple=True,
        required=required,
        help="Manifests: a file, a folder, or - for standard input; repeat it for several. Any kind that holds pods.",
    )(command)


def cluster_options(command: F) -> F:
    """`--kubeconfig`, `--context` and `--namespace`: which cluster, and where podsla is in it."""
    command = click.option(
        "-n", "--namespace", default=HOME, show_default=True, shell_complete=completing.namespaces,
        help="The namespace that podsla is installed in.",
    )(command)  # fmt: skip
    return reach_options(command)


def pod_cluster_options(command: F) -> F:
    """`--kubeconfig`, `--context`, `--namespace` as kubectl has them, and `--podsla-namespace`."""
    return namespaced_options(home_option(command))


def home_option(command: F) -> F:
    """`--podsla-namespace`, of a command whose `--namespace` is another or none."""
    return click.option(
        "--podsla-namespace", "home", default=HOME, show_default=True, help="The namespace that podsla is installed in."
    )(command)


def namespaced_options(command: F) -> F:
    """`--kubeconfig`, `--context` and `--namespace`, as kubectl has them."""
    command = click.option(
        "-n", "--namespace", metavar="NAME", shell_complete=completing.namespaces,
        help="The namespace to look in; default: that of the context.",
    )(command)  # fmt: skip
    return reach_options(command)


def reach_options(command: F) -> F:
    """`--kubeconfig` and `--context`: which cluster."""
    command = click.option("--context", metavar="NAME", help="A context of the kubeconfig; default: its current one.")(
        command
    )
    return click.option(
        "--kubeconfig",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="How to reach the cluster. Default: the pod's service account in a pod, else as kubectl does.",
    )(command)


def output_option(*forms: str, default: str, what: str = "What to print.") -> Callable[[F], F]:
    """`-o`: the form of what is printed; `wide` where there is a table, the same one if it has no further columns."""
    plain = "table" in forms and "wide" not in forms
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice([*forms, "wide"] if plain else forms),
        default=default,
        show_default=True,
        callback=lambda _context, _option, form: "table" if plain and form == "wide" else form,
        help=what,
    )


def load_serving(catalogs: Sequence[str], target: str) -> Serving:
    """
    Load catalogue and target.

    Raises:
        InvalidError: One of them cannot be used.
    """
    return Serving(compile_index(read_catalogs(catalogs), load_target(target)))


def read_catalogs(catalogs: Sequence[str]) -> Catalog:
    """Load the named catalogues, or all shipped ones."""
    return read_catalog(with_progress(read_documents(catalogs), "reading catalogues"))


def read_documents(catalogs: Sequence[str]) -> list[Document]:
    """Load the documents of the named catalogues, or of all shipped ones."""
    return load_documents(catalog_paths(catalogs) or [SHIPPED_CATALOG])


def catalog_paths(catalogs: Sequence[str]) -> list[Path]:
    """Find the files of catalogues: a shipped one by its name, anything else is a path."""
    shipped = shipped_catalogs()
    return [shipped.get(name, Path(name)) for name in catalogs]


def parse_labels(text: str) -> dict[str, str]:
    """
    Read `a=b,c=d`.

    Raises:
        click.UsageError: An item is not of that form.
    """
    labels = {}
    for item in filter(None, text.split(",")):
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise click.UsageError(f"--namespace-labels: {item!r} is not KEY=VALUE")
        labels[key] = value
    return labels


@dataclass(frozen=True, slots=True)
class Found:
    """
    A pod, or a pod template, inside a document.

    Attributes:
        path: From the object with a kind that holds it; path_in_document starts at the document instead.
        claims: Volumes that the pods of a StatefulSet have beside those of the template.
    """

    document: int
    path_in_document: tuple[str | int, ...]
    path: tuple[str | int, ...]
    pod: Mapping[str, Any]
    kind: str
    name: str
    namespace: str
    replicas: int | None
    claims: tuple[str, ...]

    @property
    def title(self) -> str:
        """Say which it is: Deployment/checkout, and where in it if that is not plain."""
        where = f" in {self.namespace}" if self.namespace else ""
        inner = [str(step) for step in self.path if step not in ("spec", "template", "jobTemplate")]
        return f"{self.kind}/{self.name}{where}" + (f" ({'.'.join(inner)})" if inner else "")


def load_manifests(files: Sequence[str], *, recursive: bool = False) -> list[Document]:
    """
    Load documents; the items of a List stay inside it.

    Args:
        files: Files, folders, or "-" for standard input.
        recursive: Read the folders within folders too.

    Raises:
        InvalidError: A file cannot be read; all problems are named.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    for name in files:
        try:
            if name == STDIN:
                found = parse_documents(sys.stdin.buffer.read().decode("utf-8"), "standard input")
                documents += found
                if not found:
                    problems.append(Problem("standard input", 0, "", "is empty; pipe a document into it"))
            else:
                documents += load_documents([Path(name)], recursive=recursive)
        except UnicodeDecodeError as error:
            problems.append(Problem("standard input", 0, "", f"is not UTF-8 text (byte {error.start})"))
        except InvalidError as error:
            problems += error.problems
    if problems:
        raise InvalidError(problems)
    return [document for document in documents if document.data is not None]


def find_pods(documents: Sequence[Document]) -> Iterator[Found]:
    """List every pod and pod template of the documents."""
    for number, document in enumerate(documents):
        if not isinstance(document.data, dict):
            message = f"holds {type(document.data).__name__}, and a manifest is a mapping"
            raise InvalidError([Problem(document.file, document.line(()), "", message)])
        for path, pod in _templates(document.data):
            owner, inner = _owner(document.data, path)
            metadata = owner.get("metadata") or {}
            name = metadata.get("name") or f"{metadata.get('generateName', '')}…"
            spec = owner.get("spec")
            replicas = spec.get("replicas") if isinstance(spec, dict) else None
            yield Found(
                number,
                path,
                inner,
                pod,
                str(owner.get("kind", "?")),
                str(name),
                str(metadata.get("namespace", "")),
                replicas if inner else None,
                claim_templates(owner),
            )


def _templates(data: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """Find templates; a Pod or workload whose template has no containers is one too, so that it is told so."""
    found = find_templates(data)
    known = pod_template(data)
    return [(known.path, known.template)] if known and not found else found


def _owner(data: Mapping[str, Any], path: tuple[str | int, ...]) -> tuple[Mapping[str, Any], tuple[str | int, ...]]:
    """Find the innermost object with a kind on the way to the pod, which is the item of a List, and the way from it."""
    owner, inner = data, path
    value: Any = data
    for position, step in enumerate(path):
        value = value[step]
        if isinstance(value, dict) and "kind" in value and "metadata" in value:
            owner, inner = value, path[position + 1 :]
    return owner, inner


def replace_at(value: Any, path: Sequence[str | int], new: Any) -> Any:
    """Put *new* at *path*, copying only what holds it."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    copy: Any = list(value) if isinstance(value, list) else dict(value)
    copy[step] = replace_at(value[step], rest, new)
    return copy


def with_class(pod: Mapping[str, Any], class_name: str | None) -> Mapping[str, Any]:
    """Give a pod that names no class one, as its author would."""
    metadata = pod.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    if class_name is None or CLASS in annotations:
        return pod
    return {**pod, "metadata": {**metadata, "annotations": {**annotations, CLASS: class_name}}}

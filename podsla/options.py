"""EDGE: options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from catalog.load import DEFAULT_TARGET, shipped_catalogs, shipped_targets
from podsla import completing

F = TypeVar("F", bound=Callable[..., Any])

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

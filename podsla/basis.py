"""EDGE: what pods in files are judged by: files alone, or what a cluster serves; and the options that say which."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from catalog.load import DEFAULT_TARGET, shipped_targets
from podsla.files import load_serving
from podsla.options import catalog_option, home_option, namespaced_options, reach_options
from podsla.output import ClusterError, note
from webhook.admit import Serving

if TYPE_CHECKING:
    from podsla.cluster import Reader

F = TypeVar("F", bound=Callable[..., Any])

_KUBECONFIG: Final = "~/.kube/config"
_IN_POD: Final = "KUBERNETES_SERVICE_HOST"


@dataclass(frozen=True, slots=True)
class Source:
    """
    Where the user says that catalogue and target are.

    Attributes:
        catalogs: Files, with target; where one is named, no cluster is asked.
        namespace: Of pods that name none; None: that of the context.
        home: The namespace that podsla is installed in.
    """

    catalogs: tuple[str, ...]
    target: str | None
    kubeconfig: Path | None
    context: str | None
    namespace: str | None
    home: str

    @property
    def in_cluster(self) -> bool:
        """Tell whether a cluster is meant: it is named somewhere, and no file is."""
        if self.catalogs or self.target:
            return False
        named = os.environ.get("KUBECONFIG") or os.environ.get(_IN_POD) or self.kubeconfig or self.context
        return bool(named) or Path(_KUBECONFIG).expanduser().exists()


@dataclass(frozen=True, slots=True)
class Basis:
    """What pods are judged by; *reader*: the cluster that serves it, None: files."""

    serving: Serving
    reader: "Reader | None" = None

    def announce(self) -> None:
        """Say beside the output what is judged by, where it is not in the command itself."""
        if self.reader is None:
            return
        catalog, target = self.serving.index.catalog, self.serving.index.target
        served = f"revision {catalog.revision[:19]}, on target {target.name}"
        note(f"by what {self.reader.api.address} serves: {served}", style="dim")
        if not catalog.classes:
            note("it serves no class; podsla catalog apply ecs classes publishes the shipped ones", style="warn")

    def labels_of(
        self, namespaces: Collection[str], given: Mapping[str, str] | None
    ) -> Mapping[str, Mapping[str, str]]:
        """
        Find the labels of the namespaces that pods are in.

        Args:
            namespaces: "" stands for that of the command line, or of the context.
            given: Labels that stand for those of every namespace.
        """
        if self.reader is None or given is not None:
            return dict.fromkeys(namespaces, given or {})
        from podsla.cluster import told

        reader, names = self.reader, sorted({name or self.reader.namespace for name in namespaces})
        with told():
            labels_there = reader.all(*(partial(reader.namespace_labels, name) for name in names))
        found = dict(zip(names, labels_there, strict=True))
        for name, there in found.items():
            if there is None:
                unseen = f"namespace {name} is not there, or not yours to see, so its pods are judged as if it had no"
                note(f"{unseen} labels; --namespace-labels says which it has", style="warn")
        return {name: found[name or reader.namespace] or {} for name in namespaces}


def find_basis(source: Source) -> Basis:
    """
    Load what pods are judged by.

    Raises:
        InvalidError: A file cannot be used.
        ClusterError: A cluster is named, and does not say what it serves.
    """
    if not source.in_cluster:
        return Basis(load_serving(source.catalogs, source.target or DEFAULT_TARGET))
    from podsla.cluster import connect, told

    try:
        reader = connect(source.kubeconfig, source.context, source.namespace, source.home)
        with told():
            return Basis(reader.serving(), reader)
    except ClusterError as error:
        advice = f"--target {DEFAULT_TARGET} asks the shipped catalogue and no cluster"
        raise ClusterError(f"{error}; {advice}") from None


def source_options(*, pods: bool) -> Callable[[F], F]:
    """
    `--catalog`, `--target` and how to reach a cluster; the command gets them as one *source*.

    Args:
        pods: Give `--namespace` too: the command judges pods.
    """

    def decorate(command: F) -> F:
        @wraps(command)
        def run(
            *,
            catalogs: tuple[str, ...],
            target: str | None,
            kubeconfig: Path | None,
            context: str | None,
            home: str,
            namespace: str | None = None,
            **others: Any,
        ) -> Any:
            if (catalogs or target) and (kubeconfig or context):
                raise click.UsageError("--catalog and --target mean files, and no cluster; leave out one or the other")
            return command(source=Source(catalogs, target, kubeconfig, context, namespace, home), **others)

        reach = home_option((namespaced_options if pods else reach_options)(run))
        default = "what the cluster serves, if one is named; else all shipped ones"
        return cast(F, catalog_option(_target_option(reach), default=default))

    return decorate


def _target_option(command: F) -> F:
    return click.option(
        "--target",
        metavar="NAME|FILE",
        help=f"What the cluster has: {', '.join(shipped_targets())}, or a file. Default: that of the cluster that "
        f"is asked; else {DEFAULT_TARGET}.",
    )(command)

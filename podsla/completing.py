"""EDGE: what a shell may complete a word with, asked of the cluster: at once or not at all, and without a word."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

if TYPE_CHECKING:
    from podsla.cluster import Reader

ANSWER_S: Final = 2.0  # who presses a key does not wait longer
Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[str]]


def _of_cluster(read: Callable[["Reader"], Iterable[str]]) -> Complete:
    """Make names out of what is read; of a cluster that does not answer soon, that refuses or is not there, none."""

    def complete(context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
        said, found = context.params, list[str]()

        def ask() -> None:
            with suppress(Exception):  # a shell has no place for messages
                from podsla.cluster import connect

                found.extend(read(connect(said.get("kubeconfig"), said.get("context"), said.get("namespace"), "")))

        thread = Thread(target=ask, daemon=True)
        thread.start()
        thread.join(ANSWER_S)
        return sorted({name for name in tuple(found) if name.startswith(word)})

    return complete


def _names(kind: str) -> Callable[["Reader"], Iterator[str]]:
    """Read the names of a collection: of what is namespaced in the namespace that is meant."""

    def read(reader: "Reader") -> Iterator[str]:
        from kube import kinds

        everywhere = kind in ("NAMESPACES", "SPEC_CATALOGS")
        things: Iterable[Any] = reader.api.list_metadata(getattr(kinds, kind), "" if everywhere else reader.namespace)
        return (thing["metadata"]["name"] for thing in things)

    return read


def _classes(reader: "Reader") -> Iterator[str]:
    from kube.kinds import SPEC_CATALOGS

    return (one["name"] for thing in reader.api.list(SPEC_CATALOGS) for one in thing["spec"].get("classes") or ())


namespaces: Final = _of_cluster(_names("NAMESPACES"))
pods: Final = _of_cluster(_names("PODS"))
attachments: Final = _of_cluster(_names("GPU_ATTACHMENTS"))
catalogs: Final = _of_cluster(_names("SPEC_CATALOGS"))
classes: Final = _of_cluster(_classes)


def after_pod(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """Complete `pod NAME`: the word, then a name."""
    if "pod" in (context.params.get(parameter.name or "") or ()):
        return pods(context, parameter, word)
    return ["pod"] if "pod".startswith(word) else []

"""EDGE: what commands read of files: catalogues, and manifests with the pods in them."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from catalog.fit import compile_index
from catalog.keys import CLASS
from catalog.load import SHIPPED_CATALOG, load_documents, load_target, shipped_catalogs
from catalog.model import Catalog
from catalog.problems import InvalidError, Problem, nearest
from catalog.reader import read_catalog
from catalog.yamltext import Document, parse_documents
from podsla.output import with_progress
from webhook.admit import Serving
from webhook.workloads import claim_templates, find_templates, pod_template

STDIN: Final = "-"


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
    """
    Find the files of catalogues: a shipped one by its name, anything else is a path.

    Raises:
        InvalidError: A name is of none that is shipped, and of no file.
    """
    shipped = shipped_catalogs()
    unknown = [name for name in catalogs if name not in shipped and _is_bare(name)]
    if unknown:
        message = "is no shipped catalogue and no file"
        raise InvalidError(Problem(name, 0, "", f"{message}; {nearest(name, shipped)}") for name in unknown)
    return [shipped.get(name, Path(name)) for name in catalogs]


def _is_bare(name: str) -> bool:
    """Tell a name from a path: nothing is there, and no folder or suffix says that something should be."""
    return "/" not in name and "." not in name and not Path(name).exists()


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

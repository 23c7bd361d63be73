"""Documents → `Catalog`, or every problem that keeps them from being one. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from catalog.check import check_classes
from catalog.dimension import BY_PATH, DIMENSIONS, GPU_COUNT, Dimension, Figures
from catalog.model import (
    Catalog,
    ClassGpu,
    Deprecation,
    GpuMode,
    Requirement,
    Reserve,
    SandboxSize,
    SizeFilter,
    SizeGpu,
    SlaClass,
)
from catalog.problems import InvalidError, Path, Problem, nearest
from catalog.quantity import QuantityError
from catalog.revision import revision_of
from catalog.schema import SPEC_CATALOG, by_path, validate
from catalog.yamltext import Document

T = TypeVar("T", SandboxSize, SlaClass)


@dataclass(frozen=True, slots=True)
class Placed(Generic[T]):
    """A value and where it was written."""

    value: T
    document: Document
    path: Path

    def problem(self, message: str, *inner: str | int) -> Problem:
        """Make a problem of the field at *inner* below this value."""
        return self.document.problem((*self.path, *inner), message)


def read_catalog(documents: Iterable[Document]) -> Catalog:
    """
    Read catalogues as one.

    Raises:
        InvalidError: Any document has a problem; all of them are named, and nothing is taken over.
    """
    problems: list[Problem] = []
    sizes: dict[str, Placed[SandboxSize]] = {}
    classes: dict[str, Placed[SlaClass]] = {}
    for document in documents:
        data, found = validate(document, SPEC_CATALOG)
        problems += found
        if data is None:
            continue
        catalog = data["metadata"]["name"]
        for index, fields in enumerate(data["spec"]["sizes"]):
            path: Path = ("spec", "sizes", index)
            _keep(sizes, Placed(read_size(fields), document, path), problems)
        for index, fields in enumerate(data["spec"]["classes"]):
            path = ("spec", "classes", index)
            sla_class, faults = _read_class(fields, catalog, document, path)
            problems += faults
            _keep(classes, Placed(sla_class, document, path), problems)
    if not problems:
        problems += check_classes(classes, [s.value for s in sizes.values()])
    if problems:
        raise InvalidError(problems)
    return make_catalog([s.value for s in sizes.values()], [c.value for c in classes.values()])


def make_catalog(sizes: Sequence[SandboxSize], classes: Sequence[SlaClass]) -> Catalog:
    """Order sizes and classes and hash them: the order of a file changes nothing."""
    ordered = tuple(sorted(sizes, key=lambda size: size.order))
    named = {c.name: c for c in sorted(classes, key=lambda sla_class: sla_class.name)}
    return Catalog(ordered, named, revision_of(ordered, named))


def _keep(kept: dict[str, Placed[T]], new: Placed[T], problems: list[Problem]) -> None:
    """Take over *new* unless its name is taken; the same thing in two files is no conflict."""
    old = kept.setdefault(new.value.name, new)
    if old is new:
        return
    where = f"{old.document.file}:{old.document.line(old.path)}"
    same_file = old.document is new.document
    if same_file or _definition(old.value) != _definition(new.value):
        how = "" if same_file else " with other figures"
        problems.append(
            new.problem(f"{new.value.name!r} is defined at {where} already{how}; rename or remove one", "name")
        )


def _definition(value: SandboxSize | SlaClass) -> SandboxSize | SlaClass:
    return replace(value, catalog="") if isinstance(value, SlaClass) else value


def read_figures(fields: Mapping[str, Any]) -> Figures:
    """Read the nested, normalised figures of a size or a floor as one row."""
    return tuple(None if d is GPU_COUNT else by_path(fields, d.path) for d in DIMENSIONS)


def read_size(fields: Mapping[str, Any]) -> SandboxSize:
    """Build a size from its normalised fields."""
    gpu = fields.get("gpu")
    figures = list(read_figures(fields))
    figures[GPU_COUNT.index] = (gpu or {}).get("count")
    name = fields["name"]
    promised = {d.path for d in DIMENSIONS}
    shown = [
        (f"{group}.{key}", value)
        for group in ("cpu", "network", "disk")
        for key, value in fields.get(group, {}).items()
        if f"{group}.{key}" not in promised
    ]
    return SandboxSize(
        name=name,
        family=fields.get("family", name.rpartition(".")[0] or name),
        generation=fields.get("generation"),
        figures=tuple(figures),
        cost_m=fields.get("cost", fields["vcpu"]),
        gpu=SizeGpu(gpu.get("model"), gpu.get("share"), gpu.get("memory")) if gpu else None,
        arch=fields["arch"],
        shown=tuple(sorted(shown)),
    )


def _read_class(
    fields: Mapping[str, Any], catalog: str, document: Document, path: Path
) -> tuple[SlaClass, list[Problem]]:
    problems: list[Problem] = []
    tunable: list[tuple[Dimension, int | None]] = []
    for key, rules in sorted(fields["tunable"].items()):
        dimension = BY_PATH.get(key)
        if dimension is None or dimension.min_key is None:
            known = [d.path for d in DIMENSIONS if d.min_key]
            problems.append(
                document.problem((*path, "tunable", key), f"is not a tunable dimension; {nearest(key, known)}")
            )
            continue
        try:
            maximum = (rules or {}).get("max")
            tunable.append((dimension, None if maximum is None else dimension.parse(maximum)))
        except QuantityError as error:
            problems.append(document.problem((*path, "tunable", key, "max"), str(error)))
    gpu, deprecated, sizes = fields.get("gpu"), fields.get("deprecated"), fields["sizes"]
    return SlaClass(
        name=fields["name"],
        catalog=catalog,
        description=fields["description"],
        floor=tuple(figure or 0 for figure in read_figures(fields["floor"])),
        sizes=SizeFilter(
            frozenset(sizes.get("families", ())), frozenset(sizes.get("names", ())), sizes.get("minGeneration")
        ),
        reserve=Reserve(fields["reserve"]) if "reserve" in fields else None,
        runtime=fields.get("runtime"),
        tolerations=tuple(tuple(sorted(t.items())) for t in fields["tolerations"]),
        tunable=tuple(sorted(tunable, key=lambda item: item[0].index)),
        best_effort=tuple(d for d in DIMENSIONS if d.path in fields["bestEffort"]),
        fallback=tuple(fields["fallback"]),
        namespaces=read_selector(fields["namespaces"]) if "namespaces" in fields else None,
        gpu=ClassGpu(tuple(gpu["models"]), gpu["count"], GpuMode(gpu["mode"]), gpu["evictable"]) if gpu else None,
        deprecated=Deprecation(deprecated["message"], deprecated.get("replacedBy"), deprecated.get("refuseFrom"))
        if deprecated
        else None,
    ), problems


def read_selector(fields: Mapping[str, Any]) -> tuple[Requirement, ...]:
    """Read a label selector as the conditions that must all hold."""
    labels = [Requirement(key, "In", (value,)) for key, value in sorted(fields.get("matchLabels", {}).items())]
    expressions = [
        Requirement(e["key"], e["operator"], tuple(e.get("values", ()))) for e in fields.get("matchExpressions", ())
    ]
    return (*labels, *sorted(expressions, key=lambda r: (r.key, r.operator, r.values)))

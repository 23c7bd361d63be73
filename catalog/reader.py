"""Documents → `Catalog`, or every problem that keeps them from being one. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from catalog.check import check_classes
from catalog.dimension import BY_PATH, DIMENSIONS, GPU_COUNT, Dimension, Figures
from catalog.model import (
    Catalog,
    ClassGpu,
    Deprecation,
    GpuBudget,
    GpuMode,
    Requirement,
    Reserve,
    SandboxSize,
    SizeFilter,
    SizeGpu,
    SlaClass,
    read_tolerations,
)
from catalog.problems import InvalidError, Path, Problem, nearest, render_path
from catalog.quantity import QuantityError
from catalog.revision import revision_of
from catalog.schema import CATALOG_HEAD, CLASS_ITEM, SIZE_ITEM, by_path, check, place, validate
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

    @property
    def where(self) -> str:
        """Say where it was written: file and line, or the field where there are no lines."""
        line = self.document.line(self.path)
        return f"{self.document.file}:{line}" if line else f"{self.document.file} {render_path(self.path)}"


@dataclass(frozen=True, slots=True)
class Part:
    """
    One document, read by itself.

    Attributes:
        sizes: Those that are sound; of one name, all of them.
        classes: As sizes.
        problems: What is wrong with the others.
        unread: Names of faulty classes; `_ALL_SIZES` among them where a size is faulty.
    """

    document: Document
    sizes: tuple[Placed[SandboxSize], ...] = ()
    classes: tuple[Placed[SlaClass], ...] = ()
    problems: tuple[Problem, ...] = ()
    unread: frozenset[str] = frozenset()
    budgets: tuple[GpuBudget, ...] = ()


@dataclass(frozen=True, slots=True)
class Joined:
    """
    Several parts as one: the first of two that define a name differently keeps it.

    Attributes:
        problems: Of the parts themselves, and of how they fit together.
        taken: Those of *problems* that are names which two documents define differently.
    """

    sizes: tuple[SandboxSize, ...]
    classes: tuple[SlaClass, ...]
    problems: tuple[Problem, ...]
    taken: frozenset[Problem]
    budgets: tuple[GpuBudget, ...] = ()


def read_catalog(documents: Iterable[Document]) -> Catalog:
    """
    Read catalogues as one.

    Raises:
        InvalidError: Any document has a problem; all of them are named, and nothing is taken over.
    """
    joined = join([read_part(document) for document in documents])
    if joined.problems:
        raise InvalidError(joined.problems)
    return make_catalog(joined.sizes, joined.classes, joined.budgets)


def read_part(document: Document) -> Part:
    """Read what is sound of one document, and name all that is not; it never raises."""
    head, problems = validate(document, CATALOG_HEAD)
    sizes: list[Placed[SandboxSize]] = []
    classes: list[Placed[SlaClass]] = []
    unread: set[str] = set()
    for path, item in _items(document, "sizes"):
        fields, faults = check(item, SIZE_ITEM)
        problems += place(document, faults, path)
        if fields is None:
            unread.add(_ALL_SIZES)
        else:
            sizes.append(Placed(read_size(fields), document, path))
    for path, item in _items(document, "classes"):
        fields, faults = check(item, CLASS_ITEM)
        problems += place(document, faults, path)
        if fields is None:
            unread.add(str(item.get("name")) if isinstance(item, dict) else "")
        elif head is not None:
            sla_class, found = _read_class(fields, head["metadata"]["name"], document, path)
            problems += found
            classes.append(Placed(sla_class, document, path))
    if head is None:
        return Part(document, problems=tuple(problems))
    budgets = tuple(_read_budget(fields) for fields in head["spec"]["gpuBudgets"])
    return Part(document, tuple(sizes), tuple(classes), tuple(problems), frozenset(unread), budgets)


def _items(document: Document, group: str) -> Iterator[tuple[Path, Any]]:
    """Give each size or class with its place; a catalogue that has none where they belong is its head's problem."""
    items = by_path(document.data, f"spec.{group}")
    return ((("spec", group, index), item) for index, item in enumerate(items if isinstance(items, list) else ()))


def join(parts: Sequence[Part]) -> Joined:
    """Put parts together, in order of precedence, and check that they fit."""
    problems = [problem for part in parts for problem in part.problems]
    taken: list[Problem] = []
    sizes: dict[str, Placed[SandboxSize]] = {}
    classes: dict[str, Placed[SlaClass]] = {}
    for part in parts:
        for size in part.sizes:
            _keep(sizes, size, problems, taken)
        for sla_class in part.classes:
            _keep(classes, sla_class, problems, taken)
    unread = frozenset[str]().union(*(part.unread for part in parts))
    if _ALL_SIZES not in unread:
        problems += check_classes(classes, [size.value for size in sizes.values()], unread)
    return Joined(
        sizes=tuple(size.value for size in sizes.values()),
        classes=tuple(sla_class.value for sla_class in classes.values()),
        problems=(*problems, *taken),
        taken=frozenset(taken),
        budgets=tuple(budget for part in parts for budget in part.budgets),
    )


_ALL_SIZES = "*"  # no name of a class: some size could not be read, so what sizes hold cannot be judged


def make_catalog(
    sizes: Sequence[SandboxSize], classes: Sequence[SlaClass], budgets: Iterable[GpuBudget] = ()
) -> Catalog:
    """Order sizes, classes and budgets and hash them: the order of a file changes nothing."""
    ordered = tuple(sorted(sizes, key=lambda size: size.order))
    named = {c.name: c for c in sorted(classes, key=lambda sla_class: sla_class.name)}
    least_first = tuple(sorted(set(budgets), key=lambda budget: budget.order))
    return Catalog(ordered, named, revision_of(ordered, named, least_first), least_first)


def _keep(kept: dict[str, Placed[T]], new: Placed[T], problems: list[Problem], taken: list[Problem]) -> None:
    """Take over *new* unless its name is taken; the same thing in two files is no conflict."""
    old = kept.setdefault(new.value.name, new)
    if old is new:
        return
    name = new.value.name
    if old.document is new.document:
        problems.append(new.problem(f"{name!r} is defined at {old.where} already; rename or remove one", "name"))
    elif _definition(old.value) != _definition(new.value):
        message = f"{name!r} is defined at {old.where} already with other figures; rename or remove one"
        taken.append(new.problem(message, "name"))


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
        local_disk=fields["localDisk"],
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
        tolerations=read_tolerations(fields["tolerations"]),
        tunable=tuple(sorted(tunable, key=lambda item: item[0].index)),
        best_effort=tuple(d for d in DIMENSIONS if d.path in fields["bestEffort"]),
        fallback=tuple(fields["fallback"]),
        namespaces=_read_namespaces(fields),
        gpu=ClassGpu(tuple(sorted(gpu["models"])), gpu["count"], GpuMode(gpu["mode"]), gpu["evictable"])
        if gpu
        else None,
        deprecated=Deprecation(deprecated["message"], deprecated.get("replacedBy"), deprecated.get("refuseFrom"))
        if deprecated
        else None,
    ), problems


def _read_budget(fields: Mapping[str, Any]) -> GpuBudget:
    return GpuBudget(_read_namespaces(fields), fields["minutesPerDay"])


def _read_namespaces(fields: Mapping[str, Any]) -> tuple[Requirement, ...] | None:
    return read_selector(fields["namespaces"]) if "namespaces" in fields else None


def read_selector(fields: Mapping[str, Any]) -> tuple[Requirement, ...]:
    """Read a label selector as the conditions that must all hold."""
    labels = [Requirement(key, "In", (value,)) for key, value in sorted(fields.get("matchLabels", {}).items())]
    expressions = [
        Requirement(e["key"], e["operator"], tuple(sorted(e.get("values", ()))))
        for e in fields.get("matchExpressions", ())
    ]
    return (*labels, *sorted(expressions, key=lambda r: (r.key, r.operator, r.values)))

"""What an edit changes: sizes and classes that came, went, or say something else now. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from catalog.dimension import DIMENSIONS, Dimension, render
from catalog.model import Catalog, GpuBudget, Requirement, SandboxSize, SizeGpu, SlaClass
from catalog.quantity import render_bytes, render_cpu_m

T = TypeVar("T")


class Direction(StrEnum):
    """Which way a figure went: between two figures, or from or to "not published"."""

    RAISED = "raised"
    LOWERED = "lowered"
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class FigureChange:
    """One promised figure of a size, before and after; None where nobody published it."""

    dimension: Dimension
    old: int | None
    new: int | None

    @property
    def direction(self) -> Direction:
        """Which way the figure went."""
        if self.old is None:
            return Direction.PUBLISHED
        if self.new is None:
            return Direction.WITHDRAWN
        return Direction.RAISED if self.new > self.old else Direction.LOWERED

    def __str__(self) -> str:
        figures = f"{render(self.dimension, self.old)} → {render(self.dimension, self.new)}"
        return f"{self.dimension} {figures} ({self.direction})"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field, by its YAML path, as text a person reads; None where it is not set."""

    path: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        old, new = ("not set" if text is None else repr(text) if text == "" else text for text in (self.old, self.new))
        return f"{self.path} {old} → {new}"


@dataclass(frozen=True, slots=True)
class SizeChange:
    """What changed of one size: figures that are promised, and everything else."""

    name: str
    figures: tuple[FigureChange, ...]
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class ClassChange:
    """What changed of one class, field by field."""

    name: str
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class CatalogDiff:
    """
    What differs between two catalogues; every list is sorted by name.

    Attributes:
        old_revision: Revision before, with new_revision. They are equal where a class only moved to another catalogue
            object, which is a change of its field `catalog` all the same.
    """

    old_revision: str
    new_revision: str
    sizes_added: tuple[str, ...] = ()
    sizes_removed: tuple[str, ...] = ()
    sizes_changed: tuple[SizeChange, ...] = ()
    classes_added: tuple[str, ...] = ()
    classes_removed: tuple[str, ...] = ()
    classes_changed: tuple[ClassChange, ...] = ()
    budgets: tuple[FieldChange, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        sizes = self.sizes_added or self.sizes_removed or self.sizes_changed
        return not (sizes or self.classes_added or self.classes_removed or self.classes_changed or self.budgets)


def diff_catalogs(old: Catalog, new: Catalog) -> CatalogDiff:
    """Compare two catalogues; the order in which they were written changes nothing."""
    old_sizes, new_sizes = ({size.name: size for size in catalog.sizes} for catalog in (old, new))
    return CatalogDiff(
        old_revision=old.revision,
        new_revision=new.revision,
        sizes_added=tuple(sorted(new_sizes.keys() - old_sizes.keys())),
        sizes_removed=tuple(sorted(old_sizes.keys() - new_sizes.keys())),
        sizes_changed=tuple(_size_change(a, b) for a, b in _differing(old_sizes, new_sizes)),
        classes_added=tuple(sorted(new.classes.keys() - old.classes.keys())),
        classes_removed=tuple(sorted(old.classes.keys() - new.classes.keys())),
        classes_changed=tuple(
            ClassChange(a.name, _field_changes(_class_fields(a), _class_fields(b)))
            for a, b in _differing(old.classes, new.classes)
        ),
        budgets=_field_changes(_budgets(old.gpu_budgets), _budgets(new.gpu_budgets)),
    )


def _differing(old: Mapping[str, T], new: Mapping[str, T]) -> Iterator[tuple[T, T]]:
    """Pair what both have under one name and do not have alike."""
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            yield old[name], new[name]


def _size_change(old: SandboxSize, new: SandboxSize) -> SizeChange:
    pairs = zip(DIMENSIONS, old.figures, new.figures, strict=True)
    figures = tuple(FigureChange(d, before, after) for d, before, after in pairs if before != after)
    return SizeChange(old.name, figures, _field_changes(_size_fields(old), _size_fields(new)))


def _field_changes(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[FieldChange, ...]:
    paths = sorted(old.keys() | new.keys())
    return tuple(FieldChange(p, old.get(p), new.get(p)) for p in paths if old.get(p) != new.get(p))


def _size_fields(size: SandboxSize) -> dict[str, str]:
    """Write what a size has besides its promised figures, as path → text; what is not set is left out."""
    fields = {"family": size.family, "arch": size.arch, "cost": render_cpu_m(size.cost_m)}
    if size.generation is not None:
        fields["generation"] = str(size.generation)
    if size.local_disk:
        fields["localDisk"] = "true"
    fields |= {path: str(value) for path, value in size.shown}
    return fields | (_gpu_fields(size.gpu) if size.gpu else {})


def _gpu_fields(gpu: SizeGpu) -> dict[str, str]:
    memory = None if gpu.memory_bytes is None else render_bytes(gpu.memory_bytes)
    fields = {"gpu": "yes", "gpu.model": gpu.model, "gpu.share": gpu.share, "gpu.memory": memory}
    return {path: text for path, text in fields.items() if text is not None}


def _class_fields(c: SlaClass) -> dict[str, str]:
    """Write a class as path → text; what is not set is left out."""
    fields: dict[str, str | None] = {
        "catalog": c.catalog,
        "description": c.description or None,
        "sizes.families": ", ".join(sorted(c.sizes.families)) or None,
        "sizes.names": ", ".join(sorted(c.sizes.names)) or None,
        "sizes.minGeneration": None if c.sizes.min_generation is None else str(c.sizes.min_generation),
        "reserve": c.reserve,
        "runtime": c.runtime,
        "tolerations": "; ".join(" ".join(f"{key}={value}" for key, value in t) or "any" for t in c.tolerations)
        or None,
        "bestEffort": ", ".join(d.path for d in c.best_effort) or None,
        "fallback": ", ".join(c.fallback) or None,
        "namespaces": None if c.namespaces is None else render_selector(c.namespaces),
    }
    fields |= {f"floor.{d}": d.render(c.floor[d.index]) for d in DIMENSIONS if c.floor[d.index]}
    fields |= {f"tunable.{d}": "no maximum" if m is None else f"up to {d.render(m)}" for d, m in c.tunable}
    if c.gpu:
        evictable = str(c.gpu.evictable).lower()
        fields |= {"gpu.models": ", ".join(c.gpu.models) or "any", "gpu.count": str(c.gpu.count)}
        fields |= {"gpu.mode": c.gpu.mode.value, "gpu.evictable": evictable}
    if c.deprecated:
        day = c.deprecated.refuse_from
        fields |= {"deprecated": "yes", "deprecated.message": c.deprecated.message or None}
        fields |= {"deprecated.replacedBy": c.deprecated.replaced_by}
        fields |= {"deprecated.refuseFrom": day.isoformat() if day else None}
    return {path: text for path, text in fields.items() if text is not None}


def _budgets(budgets: tuple[GpuBudget, ...]) -> dict[str, str]:
    """Write budgets as namespaces → minutes; of several of one selector, the smallest holds."""
    return {
        render_selector(budget.namespaces or ()): f"{budget.minutes_per_day} GPU-minutes a day"
        for budget in reversed(budgets)
    }


def render_selector(requirements: tuple[Requirement, ...]) -> str:
    """Write the conditions of a label selector for a person."""
    parts = [f"{r.key} {r.operator} {', '.join(r.values)}".strip() for r in requirements]
    return " and ".join(parts) or "every namespace"


def render_diff(diff: CatalogDiff) -> list[str]:
    """Write a diff as lines for a person: "+" came, "-" went, "~" changed."""
    lines = [f"revision {diff.old_revision} → {diff.new_revision}"]
    lines += [f"- size {name}" for name in diff.sizes_removed]
    lines += [f"+ size {name}" for name in diff.sizes_added]
    for size in diff.sizes_changed:
        lines += [f"~ size {size.name}: {change}" for change in (*size.figures, *size.fields)]
    lines += [f"- class {name}" for name in diff.classes_removed]
    lines += [f"+ class {name}" for name in diff.classes_added]
    for sla_class in diff.classes_changed:
        lines += [f"~ class {sla_class.name}: {change}" for change in sla_class.fields]
    return lines + [f"~ GPU budget of {change}" for change in diff.budgets]


def dump_diff(diff: CatalogDiff) -> dict[str, Any]:
    """Write a diff as JSON: figures as integers in base units."""
    return {
        "oldRevision": diff.old_revision,
        "newRevision": diff.new_revision,
        "sizes": {
            "added": list(diff.sizes_added),
            "removed": list(diff.sizes_removed),
            "changed": [
                {"name": s.name, "figures": [_dump_figure(f) for f in s.figures], "fields": _dump_fields(s.fields)}
                for s in diff.sizes_changed
            ],
        },
        "classes": {
            "added": list(diff.classes_added),
            "removed": list(diff.classes_removed),
            "changed": [{"name": c.name, "fields": _dump_fields(c.fields)} for c in diff.classes_changed],
        },
        "gpuBudgets": [{"namespaces": c.path, "old": c.old, "new": c.new} for c in diff.budgets],
    }


def _dump_figure(change: FigureChange) -> dict[str, Any]:
    dimension = change.dimension.path
    return {"dimension": dimension, "old": change.old, "new": change.new, "direction": change.direction.value}


def _dump_fields(changes: tuple[FieldChange, ...]) -> list[dict[str, str | None]]:
    return [{"path": change.path, "old": change.old, "new": change.new} for change in changes]

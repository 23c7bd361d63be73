"""What a catalogue says, as frozen values; order and emptiness are settled on creation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final, TypeAlias

from catalog.dimension import GPU_COUNT, MEMORY, NOTHING, VCPU, Ask, Dimension, Figures

MAX_FALLBACKS: Final = 5
MAX_SIZES: Final = 4096  # of one catalogue


class Reserve(StrEnum):
    """How much of its size a pod takes: the whole of it, or what it asks."""

    SIZE = "size"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class SizeGpu:
    """
    The GPU of a size.

    Attributes:
        model: As published without the vendor's name; None where the source does not say.
        share: "1/4" where the size holds part of one GPU: shown, never counted as a GPU.
        memory_bytes: Of one whole GPU.
    """

    model: str | None = None
    share: str | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SandboxSize:
    """
    A named shape that really exists.

    Attributes:
        figures: What is promised, in the order of `DIMENSIONS`; None where nothing is published.
        cost_m: Rank in thousandths; the vCPU where the catalogue gives none.
        shown: Figures that are displayed and never promised (turbo, bursts), by their YAML path.
        local_disk: Whether it has disks of its host; no dimension counts them.
    """

    name: str
    family: str
    generation: int | None
    figures: Figures
    cost_m: int
    gpu: SizeGpu | None = None
    arch: str = "amd64"
    shown: tuple[tuple[str, int | str], ...] = ()
    local_disk: bool = False

    @property
    def order(self) -> tuple[int, int, int, str]:
        """The total order in which sizes are tried: cost, vCPU, memory, name."""
        return self.cost_m, self.figures[VCPU.index] or 0, self.figures[MEMORY.index] or 0, self.name

    @property
    def gpu_count(self) -> int:
        """Whole GPUs."""
        return self.figures[GPU_COUNT.index] or 0


@dataclass(frozen=True, slots=True)
class Requirement:
    """One `key operator values` condition, as label selectors and node affinity have it."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def as_expression(self) -> dict[str, Any]:
        """Write the requirement as Kubernetes does."""
        return {"key": self.key, "operator": self.operator, **({"values": list(self.values)} if self.values else {})}

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Judge labels by the four set-based operators of a label selector."""
        present = self.key in labels
        if self.operator == "In":
            return present and labels[self.key] in self.values
        if self.operator == "NotIn":
            return not present or labels[self.key] not in self.values
        return present if self.operator == "Exists" else not present


@dataclass(frozen=True, slots=True)
class SizeFilter:
    """
    Which sizes may serve a class.

    A size is allowed when its family or its name is listed (either list empty: no limit by it; both empty: every size)
    and its generation is at least *min_generation*.
    """

    families: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    min_generation: int | None = None

    @property
    def restricts(self) -> bool:
        """Whether any size is shut out."""
        return bool(self.families or self.names) or self.min_generation is not None

    def allows(self, size: SandboxSize) -> bool:
        """Tell whether *size* may serve the class."""
        listed = size.family in self.families or size.name in self.names or not (self.families or self.names)
        return listed and (self.min_generation is None or (size.generation or 0) >= self.min_generation)


Toleration: TypeAlias = tuple[tuple[str, str | int], ...]


def read_tolerations(written: Iterable[Mapping[str, str | int]]) -> tuple[Toleration, ...]:
    """Freeze tolerations; their order means nothing."""
    return tuple(sorted((tuple(sorted(t.items())) for t in written), key=str))


class GpuMode(StrEnum):
    """Whether a pod holds its GPU for life, or borrows one while it runs."""

    WHOLE_LIFE = "whole-life"
    ON_DEMAND = "on-demand"


@dataclass(frozen=True, slots=True)
class ClassGpu:
    """The GPU that a class gives: models by name (empty: any), how many, and how they are held."""

    models: tuple[str, ...] = ()
    count: int = 1
    mode: GpuMode = GpuMode.WHOLE_LIFE
    evictable: bool = False


@dataclass(frozen=True, slots=True)
class Deprecation:
    """A class on its way out: it warns, and from *refuse_from* on refuses new pods."""

    message: str = ""
    replaced_by: str | None = None
    refuse_from: date | None = None


def _selects(conditions: tuple[Requirement, ...] | None, labels: Mapping[str, str]) -> bool:
    """Tell whether labels meet all conditions of a selector; None selects everything."""
    return conditions is None or all(condition.matches(labels) for condition in conditions)


@dataclass(frozen=True, slots=True)
class SlaClass:
    """Floors over the dimensions, and how a cluster is to keep them."""

    name: str
    catalog: str
    description: str = ""
    floor: Ask = NOTHING
    sizes: SizeFilter = SizeFilter()
    reserve: Reserve | None = None
    runtime: str | None = None
    tolerations: tuple[Toleration, ...] = ()
    tunable: tuple[tuple[Dimension, int | None], ...] = ()
    best_effort: tuple[Dimension, ...] = ()
    fallback: tuple[str, ...] = ()
    namespaces: tuple[Requirement, ...] | None = None
    gpu: ClassGpu | None = None
    deprecated: Deprecation | None = None

    def maximum(self, dimension: Dimension) -> tuple[bool, int | None]:
        """Tell whether *dimension* is tunable, and up to what (None: no maximum)."""
        for tunable, maximum in self.tunable:
            if tunable is dimension:
                return True, maximum
        return False, None

    def open_to(self, namespace_labels: Mapping[str, str]) -> bool:
        """Tell whether a namespace with these labels may use the class."""
        return _selects(self.namespaces, namespace_labels)


@dataclass(frozen=True, slots=True)
class GpuBudget:
    """
    How many GPU-minutes a namespace may hold in a day.

    Attributes:
        namespaces: Labels of the namespaces that it is for, each by itself; None: every namespace.
    """

    namespaces: tuple[Requirement, ...] | None
    minutes_per_day: int

    @property
    def order(self) -> tuple[int, str]:
        """A total order: the order of a file changes nothing."""
        return self.minutes_per_day, repr(self.namespaces)


@dataclass(frozen=True, slots=True)
class Catalog:
    """
    All catalogues that a cluster serves, as one value.

    Attributes:
        sizes: In the order in which they are tried.
        classes: By name, sorted.
        revision: "sha256:" and the hash of the normalised model; see `catalog.revision`.
        gpu_budgets: In their order, the smallest first.
    """

    sizes: tuple[SandboxSize, ...]
    classes: Mapping[str, SlaClass]
    revision: str
    gpu_budgets: tuple[GpuBudget, ...] = ()

    def gpu_minutes(self, namespace_labels: Mapping[str, str]) -> int | None:
        """Say how many GPU-minutes a namespace with these labels may hold in a day; None: as many as it likes."""
        for budget in self.gpu_budgets:
            if _selects(budget.namespaces, namespace_labels):
                return budget.minutes_per_day
        return None

"""What a decision can be, as frozen values. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from catalog.dimension import Ask, Dimension
from catalog.fit import Choice
from catalog.model import Requirement, Reserve, SlaClass, Toleration
from catalog.pod import Texts
from catalog.target import State

MAX_WARNING_CHARACTERS: Final = 120  # longer ones may be cut by the API server


class Reason(StrEnum):
    """Why a pod was refused: the closed set that is also the metric label."""

    UNKNOWN_KEY = "UnknownKey"
    KEY_WITHOUT_CLASS = "KeyWithoutClass"
    UNKNOWN_CLASS = "UnknownClass"
    CLASS_NOT_OPEN = "ClassNotOpen"
    CLASS_RETIRED = "ClassRetired"
    INVALID_MINIMUM = "InvalidMinimum"
    NOT_TUNABLE = "NotTunable"
    ABOVE_MAXIMUM = "AboveMaximum"
    NO_SIZE_FITS = "NoSizeFits"
    NO_CONSUMER = "NoConsumer"
    RUNTIME_CONFLICT = "RuntimeConflict"
    LIMIT_CONFLICT = "LimitConflict"
    GPU_CONFLICT = "GpuConflict"
    INVALID_PHASE = "InvalidPhase"
    NO_COMMAND = "NoCommand"
    INVALID_POD = "InvalidPod"
    NOT_SIZED = "NotSized"
    BEYOND_SIZE = "BeyondSize"
    INTERNAL_ERROR = "InternalError"


class Skip(StrEnum):
    """Why a pod is none of our business."""

    NO_CLASS = "NoClass"
    OPTED_OUT = "OptedOut"
    MIRROR_POD = "MirrorPod"


@dataclass(frozen=True, slots=True)
class Holding:
    """
    One asked dimension: how it is kept, and by whom.

    Attributes:
        ask: What a size must hold.
        offer: What the size has for pods.
        kept: What is counted for the pod, or limited: of CPU and memory its request, which may be less than its limit.
    """

    dimension: Dimension
    ask: int
    offer: int
    kept: int
    state: State
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerWrite:
    """Requests and limits to set on one container, by its name, and variables that it does not have."""

    name: str
    requests: Texts = ()
    limits: Texts = ()
    env: Texts = ()


@dataclass(frozen=True, slots=True)
class Phase:
    """
    A container that has GPUs while it runs, and what borrows beside it.

    Attributes:
        options: For whom, and what.
        resources: Requests and limits of what borrows.
        own: The pod came with the container that borrows: it stays when the rest goes.
    """

    container: str
    image: str
    options: tuple[str, ...]
    resources: Texts = ()
    own: bool = False


@dataclass(frozen=True, slots=True)
class Effects:
    """What is to stand on the pod. Lists are added to; what is there already stays."""

    pod_requests: Texts = ()
    pod_limits: Texts = ()
    containers: tuple[ContainerWrite, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    annotations: Texts = ()
    tolerations: tuple[Toleration, ...] = ()
    runtime_class: str | None = None
    phase: Phase | None = None


@dataclass(frozen=True, slots=True)
class Ignore:
    """The pod is none of our business."""

    why: Skip


@dataclass(frozen=True, slots=True)
class Deny:
    """The pod cannot have what it asks; *message* says both figures and what to do."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Place:
    """
    The pod gets a size.

    Attributes:
        asked_class: The class that the pod named; another than sla_class where a fallback serves.
        demand: What the pod needs by itself.
        ask: The maximum of class floor, minima and demand.
        dropped: Best-effort dimensions that nobody on this target keeps.
        uncovered: Resources of the pod that no dimension stands for.
    """

    sla_class: SlaClass
    asked_class: str
    choice: Choice
    reserve: Reserve
    demand: Ask
    ask: Ask
    holdings: tuple[Holding, ...]
    dropped: tuple[Dimension, ...]
    uncovered: tuple[str, ...]
    effects: Effects
    warnings: tuple[str, ...] = ()


Decision: TypeAlias = Place | Ignore | Deny


def clip(warning: str) -> str:
    """Keep a warning within what the API server shows whole."""
    line = " ".join("".join(c if c.isprintable() else " " for c in warning).split())
    return line if len(line) <= MAX_WARNING_CHARACTERS else line[: MAX_WARNING_CHARACTERS - 1] + "…"

"""The target: what this cluster has, that is, which consumer honours which effect, and on which nodes. Pure.

A webhook only writes fields; each field needs somebody who reads it. A target lists those readers, so that nothing is
promised that nobody keeps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from catalog.dimension import (
    BASE_MHZ,
    DISK,
    MEMORY,
    NETWORK_BITS,
    NIC_QUEUES,
    PPS,
    RESERVABLE,
    TUNABLE,
    VCPU,
    Dimension,
    Figures,
)
from catalog.model import Requirement, SandboxSize, Toleration


class Mechanism(StrEnum):
    """How a consumer is told, and so what it can hold."""

    NODE_LABELS = "node-labels"  # scheduler: affinity to labels that the controller or a join script puts on nodes
    RESERVATION = "reservation"  # scheduler: integer extended resources that nodes publish
    CNI_BANDWIDTH = "cni-bandwidth"  # CNI bandwidth plugin, Cilium, Terway: annotations in bits/s
    ECI_BANDWIDTH = "eci-bandwidth"  # ECI: the same annotations, read as bytes/s
    ECI_USE_SPECS = "eci-use-specs"  # ECI: the sandbox is a machine of one of the named sizes
    CALICO_PACKET_RATE = "calico-packet-rate"  # Calico: packets/s, each direction
    KOORDINATOR_BLKIO = "koordinator-blkio"  # koordlet: IOPS and bytes/s of a block device


CAN_HOLD: Final[Mapping[Mechanism, Sequence[Dimension]]] = {
    Mechanism.NODE_LABELS: (BASE_MHZ, NIC_QUEUES),
    Mechanism.RESERVATION: RESERVABLE,
    Mechanism.CNI_BANDWIDTH: (NETWORK_BITS,),
    Mechanism.ECI_BANDWIDTH: (NETWORK_BITS,),
    Mechanism.ECI_USE_SPECS: TUNABLE,
    Mechanism.CALICO_PACKET_RATE: (PPS,),
    Mechanism.KOORDINATOR_BLKIO: DISK,
}


class State(StrEnum):
    """How an asked figure is kept: on a node that has it, counted among classed pods, or held against everybody."""

    PLACED = "placed"
    RESERVED = "reserved"
    ENFORCED = "enforced"


KEPT_AS: Final[Mapping[Mechanism, State]] = {
    Mechanism.NODE_LABELS: State.PLACED,
    Mechanism.RESERVATION: State.RESERVED,
    Mechanism.ECI_USE_SPECS: State.RESERVED,
    Mechanism.CNI_BANDWIDTH: State.ENFORCED,
    Mechanism.ECI_BANDWIDTH: State.ENFORCED,
    Mechanism.CALICO_PACKET_RATE: State.ENFORCED,
    Mechanism.KOORDINATOR_BLKIO: State.ENFORCED,
}


class Direction(StrEnum):
    """
    What a limit per direction makes of a figure that is published as the sum of both.

    EACH lets either direction use the whole promise; SPLIT halves it, so that the sum is never above the promise.
    """

    EACH = "each"
    SPLIT = "split"


class Resources(StrEnum):
    """Where CPU and memory are written: pod level (Kubernetes 1.34 and later), the first container, or nowhere."""

    POD = "pod"
    CONTAINERS = "containers"
    NONE = "none"


class Libraries(StrEnum):
    """What brings the driver's libraries into a pod that borrows its GPUs, at its start and without a GPU."""

    RUNTIME_CLASS = "runtimeClass"
    CDI = "cdi"
    ENV = "env"


NVIDIA: Final = "nvidia"  # the RuntimeClass of its GPU operator


@dataclass(frozen=True, slots=True)
class Consumer:
    """
    Somebody who honours an effect.

    Attributes:
        dimensions: What it holds; a subset of what its mechanism can.
        nodes: Labels of the nodes that have it; empty: all. It becomes placement.
        device: The block device that `koordinator-blkio` limits.
    """

    by: Mechanism
    dimensions: tuple[Dimension, ...]
    nodes: tuple[Requirement, ...] = ()
    direction: Direction = Direction.EACH
    device: str = ""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Labels and annotations for objects that podsla makes, beside its own."""

    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TargetGpu:
    """
    How GPUs are asked for here: the resource, the node label of the model, and how each model is spelt in it.

    Attributes:
        libraries: What borrowers get for the driver's libraries; None: nothing, their images have them.
        runtime_class: The RuntimeClass that brings them, where one does.
        phase_image: podsla's image, which borrows beside a GPU phase; None: no container can be one.
        placeholder_metadata: What the pods that reserve GPUs carry, for those who see to queues of pods.
    """

    resource: str
    model_label: str
    models: tuple[tuple[str, tuple[str, ...]], ...] = ()
    seats_percent: int = 140
    libraries: Libraries | None = None
    runtime_class: str = NVIDIA
    phase_image: str | None = None
    placeholder_metadata: Metadata = Metadata()

    def spellings(self, models: Sequence[str]) -> tuple[str, ...]:
        """Find the label values of *models* (none: of all); a model that this target cannot spell adds none."""
        return tuple(sorted(text for model, texts in self.models if not models or model in models for text in texts))


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime that classes may name: its RuntimeClass (None: the default), whether a VM backs it, its overhead."""

    name: str
    runtime_class: str | None = None
    vm_backed: bool = False
    overhead_cpu_m: int = 0
    overhead_memory_bytes: int = 0


_RUNC: Final = Runtime("runc")


@dataclass(frozen=True, slots=True)
class KarpenterExport:
    """What NodeOverlays say besides capacity: cost ranks as prices, and the weight among overlays (None: none)."""

    price: bool = False
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """
    One cluster, as far as sizes are concerned.

    Attributes:
        node_types: Size or family names that this cluster can have; empty: every size of the catalogue.
        overhead_cpu_m: What kubelet and system keep of a node, in millicores; with overhead_memory_bytes.
        capacity_percent: The share of a divisible figure that nodes publish.
        virtual_nodes: Every pod gets a machine of its own, so a size is had whole.
        tolerations: What every sized pod needs to be let onto these nodes.
        karpenter: The controller keeps Karpenter's NodeOverlays in step; None: it does not.
    """

    name: str
    description: str = ""
    node_types: tuple[str, ...] = ()
    overhead_cpu_m: int = 0
    overhead_memory_bytes: int = 0
    capacity_percent: int = 100
    resources: Resources = Resources.POD
    virtual_nodes: bool = False
    tolerations: tuple[Toleration, ...] = ()
    consumers: tuple[Consumer, ...] = ()
    runtimes: tuple[Runtime, ...] = (_RUNC,)
    gpu: TargetGpu | None = None
    karpenter: KarpenterExport | None = None

    def runtime(self, name: str | None) -> Runtime | None:
        """Find the runtime that a class names; the default one where it names none."""
        for runtime in self.runtimes:
            if runtime.name == (name or _RUNC.name):
                return runtime
        return _RUNC if name is None else None

    def with_overheads(self, overheads: Mapping[str, tuple[int, int]]) -> "Target":
        """Take what RuntimeClasses say that a sandbox costs, in millicores and bytes, in place of what stands here."""
        costs = [(runtime, overheads.get(runtime.runtime_class or "")) for runtime in self.runtimes]
        runtimes = tuple(
            replace(runtime, overhead_cpu_m=cost[0], overhead_memory_bytes=cost[1]) if cost else runtime
            for runtime, cost in costs
        )
        return replace(self, runtimes=runtimes)

    def runtime_of_class(self, runtime_class: str | None) -> Runtime:
        """Find the runtime behind a pod's RuntimeClass; one that this target does not name counts as the default."""
        named = (r for r in self.runtimes if r.runtime_class and r.runtime_class == runtime_class)
        return next(named, _RUNC)

    def consumers_of(self, dimension: Dimension) -> tuple[Consumer, ...]:
        """List who honours *dimension* here."""
        return tuple(c for c in self.consumers if dimension in c.dimensions)

    @property
    def names_sizes(self) -> bool:
        """Whether a pod gets a machine of a size that it names, so that nothing need be placed by label."""
        return any(consumer.by is Mechanism.ECI_USE_SPECS for consumer in self.consumers)

    @property
    def can_place(self) -> bool:
        """Whether a pod can be kept to some families: by size, by instance type, or by labels that somebody keeps."""
        labelled = any(consumer.by is Mechanism.NODE_LABELS for consumer in self.consumers)
        return self.names_sizes or bool(self.node_types) or labelled

    def can_name(self, models: Sequence[str]) -> bool:
        """Tell whether a pod can be sent to GPUs of these models (none: of any)."""
        if self.gpu is None:
            return False
        return not models or bool(self.node_types) or self.names_sizes or bool(self.gpu.spellings(models))

    def reaches(self, size: SandboxSize, models: Sequence[str]) -> bool:
        """Tell whether a pod that is placed by GPU model, of these or of any, can come to a node of *size*."""
        if self.gpu is None or self.names_sizes or not self.gpu.spellings(models):
            return True
        return size.gpu is not None and bool(self.gpu.spellings([size.gpu.model or ""]))

    def has(self, size: SandboxSize) -> bool:
        """Tell whether this cluster can have nodes of *size*."""
        return not self.node_types or size.name in self.node_types or size.family in self.node_types

    def offer(self, size: SandboxSize) -> Figures:
        """
        Say what pods may have of a node of *size*.

        CPU and memory less the node's own share, divisible figures times `capacity_percent`, everything else as it is:
        the same figures that nodes publish, so what is promised is what the scheduler counts.
        """
        figures = list(size.figures)
        for dimension, keep in ((VCPU, self.overhead_cpu_m), (MEMORY, self.overhead_memory_bytes)):
            figures[dimension.index] = max(0, (size.figures[dimension.index] or 0) - keep)
        for dimension in RESERVABLE:
            figure = size.figures[dimension.index]
            figures[dimension.index] = None if figure is None else figure * self.capacity_percent // 100
        return tuple(figures)

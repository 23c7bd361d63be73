"""From a chosen size to what stands on the pod, for this target. Pure.

One function per consumer writes its annotations; everything else is the same on every target.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from catalog.demand import COMPUTE, amount, overhead, standing
from catalog.dimension import (
    DIMENSIONS,
    DISK,
    DISK_BYTES,
    DISK_IOPS,
    GPU_COUNT,
    MEMORY,
    NETWORK_BITS,
    NOTHING,
    PPS,
    VCPU,
    Ask,
    Dimension,
    Figures,
    render,
)
from catalog.fit import Choice, Index
from catalog.keys import DO_NOT_DISRUPT, GPU_SEATS, INSTANCE_TYPE, SAFE_TO_EVICT
from catalog.model import GpuMode, Requirement, Reserve, SandboxSize, SlaClass
from catalog.pod import Container, Kind, Subject, Texts
from catalog.quantity import QuantityError, parse_integer, render_integer
from catalog.target import Consumer, Direction, Mechanism, Runtime, State
from webhook.compute import first_running, on_containers, raise_to
from webhook.decision import ContainerWrite, Effects, Holding, Phase, Reason
from webhook.libraries import Bringing

MAX_ECI_SPECS: Final = 5
CNI_RANGE_BITS: Final = (1_000, 10**15)  # the CNI bandwidth plugin takes 1k to 1P, and fails the sandbox beyond


@dataclass(frozen=True, slots=True)
class Granted:
    """What a class gives a pod, before it is written down.

    Attributes:
        subject: The pod, what borrows for its GPU phase among its containers.
        requested: CPU and memory that the scheduler counts for the pod as it came.
        kept: Dimensions beyond CPU and memory that the class floors or the pod tunes, and that somebody keeps.
    """

    subject: Subject
    sla_class: SlaClass
    runtime: Runtime
    reserve: Reserve
    demand: Ask
    requested: Ask
    ask: Ask
    floor: Ask
    kept: tuple[Dimension, ...]
    choice: Choice
    on_demand: bool
    phase: Phase | None = None

    def figure(self, dimension: Dimension) -> int:
        """What the pod gets in *dimension*: the whole of its size, or what it asks."""
        offered = self.choice.offer[dimension.index] or 0
        return offered if self.reserve is Reserve.SIZE else self.ask[dimension.index]


def effects(index: Index, granted: Granted, told: Texts) -> Effects:
    """Say what stands on the pod, *told* being its `annotations`."""
    target, subject = index.target, granted.subject
    whole = granted.reserve is Reserve.SIZE
    compute = raise_to(subject, _goals(granted), target.resources, whole=whole)
    bringing = _libraries(index, granted)
    writes = [*compute.containers, *_extended(index, granted), *bringing.variables()]
    return Effects(
        pod_requests=compute.pod_requests,
        pod_limits=compute.pod_limits,
        containers=_merged(writes),
        requirements=() if subject.daemonset else requirements(index, granted),
        annotations=tuple((key, text) for key, text in told if not _own_is_kept(subject, key)),
        tolerations=tuple(dict.fromkeys((*granted.sla_class.tolerations, *target.tolerations))),
        runtime_class=bringing.runtime_class or granted.runtime.runtime_class
        if subject.runtime_class is None
        else None,
        phase=granted.phase,
    )


def _libraries(index: Index, granted: Granted) -> Bringing:
    return Bringing(granted.subject, index.target.gpu if granted.on_demand else None)


def _goals(granted: Granted) -> Mapping[Dimension, int]:
    if granted.reserve is Reserve.ASK:
        return {d: granted.floor[d.index] for d in (VCPU, MEMORY)}
    costs = overhead(granted.subject, granted.runtime)
    return {d: (granted.choice.offer[d.index] or 0) - costs[resource] for d, resource in COMPUTE}


def _merged(writes: Sequence[ContainerWrite]) -> tuple[ContainerWrite, ...]:
    if len(writes) < 2:
        return tuple(writes)
    names = list(dict.fromkeys(write.name for write in writes))
    return tuple(
        ContainerWrite(
            name,
            tuple(item for write in writes if write.name == name for item in write.requests),
            tuple(item for write in writes if write.name == name for item in write.limits),
            tuple(item for write in writes if write.name == name for item in write.env),
        )
        for name in names
    )


def _extended(index: Index, granted: Granted) -> list[ContainerWrite]:
    """Reservations and GPUs, as integers with requests equal to limits, on the first container."""
    first = first_running(granted.subject)
    texts = []
    for dimension in granted.kept:
        more = granted.figure(dimension) - granted.demand[dimension.index]
        consumers = index.consumers_of(dimension)
        if dimension.resource and more > 0 and any(c.by is Mechanism.RESERVATION for c in consumers):
            texts.append((dimension.resource, dimension.render(_share(granted, dimension, dimension.resource, first))))
    gpu, target_gpu = granted.sla_class.gpu, index.target.gpu
    if gpu and target_gpu and granted.on_demand:
        texts.append((GPU_SEATS, str(gpu.count)))
    elif gpu and target_gpu and not granted.demand[GPU_COUNT.index]:
        texts.append((target_gpu.resource, str(gpu.count)))
    return [ContainerWrite(first.name, tuple(texts), tuple(texts))] if texts else []


def _share(granted: Granted, dimension: Dimension, resource: str, first: Container) -> int:
    """What the first container reserves, so that it and those beside it come to what the pod gets."""
    if not granted.demand[dimension.index]:
        return granted.figure(dimension)
    own = amount(first.limits, resource) or amount(first.requests, resource) or 0
    return own + granted.figure(dimension) - standing(granted.subject).needed.get(resource, 0)


def requirements(index: Index, granted: Granted) -> tuple[Requirement, ...]:
    """Say which nodes the pod may run on."""
    target, sla_class = index.target, granted.sla_class
    used = [c for d in granted.kept for c in index.consumers_of(d) if c.nodes]
    used += [c for c in target.consumers if c.by is Mechanism.ECI_USE_SPECS and c.nodes]
    found = list(dict.fromkeys(requirement for consumer in used for requirement in consumer.nodes))
    if not target.names_sizes:
        found += _hardware(index, granted)
        if sla_class.gpu and target.gpu:
            models = [s.gpu.model for s, _ in index.sizes_of(sla_class) if s.gpu and s.gpu.model]
            spellings = target.gpu.spellings(sla_class.gpu.models or models)
            found += [Requirement(target.gpu.model_label, "In", spellings)] if spellings else []
    return tuple(found)


def _hardware(index: Index, granted: Granted) -> list[Requirement]:
    target, sla_class = index.target, granted.sla_class
    if target.node_types:
        floor = tuple(want if d in granted.kept else 0 for d, want in zip(DIMENSIONS, granted.ask, strict=True))
        if floor == NOTHING and not sla_class.gpu and not sla_class.sizes.restricts:
            return []
        names = tuple(sorted(size.name for size in index.holders(sla_class, floor)))
        return [Requirement(INSTANCE_TYPE, "In", names)]
    floors = [
        Requirement(d.label, "Gt", (str(granted.ask[d.index] - 1),))
        for d in granted.kept
        if d.label and any(c.by is Mechanism.NODE_LABELS for c in index.consumers_of(d))
    ]
    return [*floors, *index.placements[sla_class.name]]


def annotations(index: Index, granted: Granted) -> Texts:
    """Say what each consumer is told by annotation."""
    found: dict[str, str] = {}
    for consumer in index.target.consumers:
        write = _WRITERS.get(consumer.by)
        held = [d for d in consumer.dimensions if d in granted.kept]
        if write and (held or consumer.by is Mechanism.ECI_USE_SPECS):
            found |= write(index, granted, consumer)
    if granted.on_demand and granted.sla_class.gpu and not granted.sla_class.gpu.evictable:
        found |= {SAFE_TO_EVICT: "false", DO_NOT_DISRUPT: "true"}
    found |= _libraries(index, granted).annotations()
    return tuple(sorted(found.items()))


def _cni_bandwidth(index: Index, granted: Granted, consumer: Consumer) -> dict[str, str]:
    text = render_integer(_per_direction(granted.figure(NETWORK_BITS), consumer))
    return {"kubernetes.io/egress-bandwidth": text, "kubernetes.io/ingress-bandwidth": text}


def _eci_bandwidth(index: Index, granted: Granted, consumer: Consumer) -> dict[str, str]:
    text = render_integer(_per_direction(granted.figure(NETWORK_BITS), consumer) // 8)  # ECI reads bytes/s
    return {"kubernetes.io/egress-bandwidth": text, "kubernetes.io/ingress-bandwidth": text}


def _eci_use_specs(index: Index, granted: Granted, consumer: Consumer) -> dict[str, str]:
    chosen = granted.choice.size
    holders = (size for size in index.holders(granted.sla_class, granted.ask) if _kind(size) == _kind(chosen))
    names = [size.name for size, _ in zip(holders, range(MAX_ECI_SPECS), strict=False)]
    return {"k8s.aliyun.com/eci-use-specs": ",".join(names)}


def _kind(size: SandboxSize) -> tuple[object, ...]:
    """What ECI lets nobody mix in one list: GPUs, architectures, local disks."""
    return size.gpu, size.arch, size.local_disk


def _calico_packet_rate(index: Index, granted: Granted, consumer: Consumer) -> dict[str, str]:
    text = str(_per_direction(granted.figure(PPS), consumer))
    return {"qos.projectcalico.org/egressPacketRate": text, "qos.projectcalico.org/ingressPacketRate": text}


def _koordinator_blkio(index: Index, granted: Granted, consumer: Consumer) -> dict[str, str]:
    limits: dict[str, int] = {}
    for dimension, unit in ((DISK_IOPS, "IOPS"), (DISK_BYTES, "BPS")):
        if dimension in granted.kept and dimension in consumer.dimensions:
            figure = _per_direction(granted.figure(dimension), consumer)
            limits |= {f"read{unit}": figure, f"write{unit}": figure}
    block = {"name": consumer.device, "type": "device", "ioCfg": limits}
    return {"koordinator.sh/blkioQOS": orjson.dumps({"blocks": [block]}, option=orjson.OPT_SORT_KEYS).decode()}


_WRITERS: Final[Mapping[Mechanism, Callable[[Index, Granted, Consumer], dict[str, str]]]] = {
    Mechanism.CNI_BANDWIDTH: _cni_bandwidth,
    Mechanism.ECI_BANDWIDTH: _eci_bandwidth,
    Mechanism.ECI_USE_SPECS: _eci_use_specs,
    Mechanism.CALICO_PACKET_RATE: _calico_packet_rate,
    Mechanism.KOORDINATOR_BLKIO: _koordinator_blkio,
}


def _per_direction(figure: int, consumer: Consumer) -> int:
    return figure // 2 if consumer.direction is Direction.SPLIT else figure


def _own_is_kept(subject: Subject, key: str) -> bool:
    return any(written == key for written, _ in subject.limits_written)


def limit_conflict(index: Index, granted: Granted, told: Texts) -> tuple[Reason, str] | None:
    """
    Find what the pod says itself that would undo what is written: an annotation of its own, or another runtime.

    A lower limit is the pod's own choice and stays. A higher one would break the promise to others, and is never
    lowered silently.
    """
    kept_out = _libraries(index, granted).conflict(granted.sla_class, granted.runtime)
    if kept_out:
        return kept_out
    wanted = dict(told)
    for key, own in granted.subject.limits_written:
        ours = wanted.get(key)
        if ours is None or own == ours or key in (SAFE_TO_EVICT, DO_NOT_DISRUPT):
            continue
        try:
            higher = parse_integer(own) > parse_integer(ours)
        except QuantityError:
            higher = True
        if higher:
            name = granted.sla_class.name
            message = f"annotation {key} is {own!r}, and class {name!r} gives {ours!r}; remove the annotation"
            return Reason.LIMIT_CONFLICT, f"{message}, or ask for more with a podsla.io/min- annotation"
    if NETWORK_BITS in granted.kept and any(c.by is Mechanism.CNI_BANDWIDTH for c in index.consumers_of(NETWORK_BITS)):
        bits = granted.figure(NETWORK_BITS)
        low, high = CNI_RANGE_BITS
        if not low <= bits <= high:
            message = (
                f"network.bitsPerSecond is {bits}, and the CNI plugin limits {low} to {high} only; ask within that"
            )
            return Reason.LIMIT_CONFLICT, message
    return None


def holdings(index: Index, granted: Granted) -> tuple[Holding, ...]:
    """Say, per asked dimension, how it is kept and by whom."""
    return tuple(_holding(index, granted, d, granted.choice.offer) for d in DIMENSIONS if granted.ask[d.index])


def _holding(index: Index, granted: Granted, dimension: Dimension, offer: Figures) -> Holding:
    offered = offer[dimension.index] or 0
    ask = granted.ask[dimension.index]
    if dimension in (VCPU, MEMORY):
        return _compute_holding(index, granted, dimension, offered)
    if dimension is GPU_COUNT:
        state = State.PLACED if granted.on_demand else State.RESERVED
        return Holding(dimension, ask, offered, ask, state, (index.target.gpu.resource,) if index.target.gpu else ())
    keepers = index.keepers[dimension.index]
    on_claim = dimension in DISK and bool(granted.subject.claims)  # the claim's volume is another disk than is counted
    kept = granted.figure(dimension) if dimension.resource and dimension in granted.kept else ask
    return Holding(dimension, ask, offered, kept, State.PLACED if on_claim else keepers.state, keepers.names)


def _compute_holding(index: Index, granted: Granted, dimension: Dimension, offered: int) -> Holding:
    ask, whole = granted.ask[dimension.index], granted.reserve is Reserve.SIZE
    if index.target.names_sizes:
        return Holding(dimension, ask, offered, offered, State.ENFORCED, (Mechanism.ECI_USE_SPECS.value,))
    enforced = whole and not on_containers(granted.subject, index.target.resources)
    kept = offered if whole else max(granted.requested[dimension.index], granted.floor[dimension.index])
    return Holding(dimension, ask, offered, kept, State.ENFORCED if enforced else State.RESERVED, ("kubelet",))


def warnings(index: Index, granted: Granted, told: Texts) -> list[str]:
    """What the developer should know of the effects."""
    found = []
    disk = ", ".join(d.path for d in granted.kept if d in DISK)
    if disk:
        found += [
            f"volume {name[:40]} is a claim, on another disk than {disk} counts" for name in granted.subject.claims
        ]
    wanted = dict(told)
    for key, own in granted.subject.limits_written:
        if key in wanted and own != wanted[key]:
            found.append(f"annotation {key}={own} is the pod's own and stays; the class gives {wanted[key]}")
    if granted.sla_class.sizes.restricts and not index.placeable:
        found.append("the class's families are not placed: no consumer publishes podsla.io/family on nodes")
    if granted.demand[GPU_COUNT.index] and not granted.sla_class.gpu:
        found.append(f"the pod asks for {render(GPU_COUNT, granted.demand[GPU_COUNT.index])} GPU of any model")
    return [*found, *_libraries(index, granted).notices(), *_capped(granted)]


def _capped(granted: Granted) -> Iterator[str]:
    """Say where the limits of all containers together keep a pod from using its floor."""
    if not (granted.floor[VCPU.index] or granted.floor[MEMORY.index]):
        return
    running = [c for c in granted.subject.containers if c.kind is not Kind.INIT]
    for dimension, resource in COMPUTE:
        limits = [amount(container.limits, resource) for container in running]
        floor = granted.floor[dimension.index]
        total = sum(limit for limit in limits if limit is not None)
        if floor and None not in limits and total < floor:
            have, want = dimension.render(total), dimension.render(floor)
            yield f"its containers' limits let the pod use {dimension} {have} of the class's {want}; raise them"


def is_on_demand(subject: Subject, sla_class: SlaClass, annotated: str | None) -> bool:
    """Tell whether the pod borrows its GPU while it runs."""
    return sla_class.gpu is not None and (annotated is not None or sla_class.gpu.mode is GpuMode.ON_DEMAND)

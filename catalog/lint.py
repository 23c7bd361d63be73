"""What is wrong with a catalogue on one target, though each is right by itself. Pure.

`catalog.check` refuses what no cluster could serve; here stands what this cluster cannot, and what it keeps less of
than a reader would think. An error refuses every pod of a class; a warning does not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from catalog.check import allows
from catalog.dimension import DIMENSIONS, GPU_COUNT, MEMORY, RESERVABLE, VCPU, Ask, Dimension, lacking, render
from catalog.fit import Index, compile_index
from catalog.model import Catalog, Reserve, SandboxSize, SlaClass
from catalog.problems import nearest
from catalog.target import Target

MAX_NAMES: Final = 5  # sizes that one message lists


class Severity(StrEnum):
    """Whether pods are refused, or get less than the catalogue seems to say."""

    ERROR = "error"
    WARNING = "warning"


class LintReason(StrEnum):
    """What is wrong: the closed set that rules in a pipeline can name."""

    NO_NODE_TYPE = "NoNodeType"  # every size of the class is one that the target cannot have
    NO_SIZE_HOLDS = "NoSizeHolds"  # nodes offer less than their size says, and less than the floor
    NO_CONSUMER = "NoConsumer"  # a floor, or a minimum that pods may set, that nobody keeps: refused
    FLOOR_DROPPED = "FloorDropped"  # as NoConsumer, and best effort: dropped
    UNKNOWN_RUNTIME = "UnknownRuntime"
    UNKNOWN_GPU_MODEL = "UnknownGpuModel"
    SIZE_NOT_WHOLE = "SizeNotWhole"  # pods get the whole of a size, and no node has room for it
    TUNABLE_BEYOND_OFFER = "TunableBeyondOffer"
    NO_DESCRIPTION = "NoDescription"
    UNKNOWN_NODE_TYPE = "UnknownNodeType"
    MIXED_ARCH = "MixedArch"  # an image of one architecture may land on the other
    NOT_PLACED = "NotPlaced"  # families that no label of the nodes tells apart


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """
    One thing to know before a catalogue is served.

    Attributes:
        subject: "class net-intensive" or "target kubernetes".
        path: The field below it, as "floor.network.pps"; "" for the whole.
        message: What is so, with both figures, and what to do.
    """

    severity: Severity
    subject: str
    path: str
    reason: LintReason
    message: str

    def __str__(self) -> str:
        where = f"{self.subject}: {self.path}" if self.path else self.subject
        return f"{self.severity}: {where}: {self.message} ({self.reason})"


def lint(catalog: Catalog, target: Target) -> tuple[Finding, ...]:
    """
    Judge a catalogue on a target: errors first, then by subject and field.

    What would refuse every pod of a class is a warning where one of its fallbacks serves.
    """
    index = compile_index(catalog, target)
    refusals = {name: tuple(_refusals(c, index)) for name, c in catalog.classes.items()}
    found = [*_node_types(catalog, target)]
    for name, c in catalog.classes.items():
        found += [*_tunable(c, index), *_dropped(c, target), *_partly_spelt(c, target), *_not_whole(c, index)]
        if c.sizes.restricts and not target.can_place:
            message = f"target {target.name!r} cannot keep pods to them; add a consumer `by: node-labels`, or nodeTypes"
            found.append(_warning(c, "sizes", LintReason.NOT_PLACED, message))
        archs = sorted({size.arch for size in catalog.sizes if target.has(size) and allows(c, size)})
        if len(archs) > 1:
            message = f"sizes of {' and '.join(archs)} serve the class, and nothing keeps an image from the wrong one"
            message += "; list families of one, or give pods a nodeSelector kubernetes.io/arch"
            found.append(_warning(c, "sizes", LintReason.MIXED_ARCH, message))
        if not c.description:
            found.append(_warning(c, "description", LintReason.NO_DESCRIPTION, "is missing; say what the class is for"))
        served = next((fallback for fallback in c.fallback if not refusals[fallback]), None)
        found += refusals[name] if served is None else (_softened(refusal, served) for refusal in refusals[name])
    return tuple(sorted(found))


def _softened(refusal: Finding, fallback: str) -> Finding:
    message = f"{refusal.message}; until then fallback {fallback!r} serves every pod of it"
    return replace(refusal, severity=Severity.WARNING, message=message)


def _error(c: SlaClass, path: str, reason: LintReason, message: str) -> Finding:
    return Finding(Severity.ERROR, f"class {c.name}", path, reason, message)


def _warning(c: SlaClass, path: str, reason: LintReason, message: str) -> Finding:
    return Finding(Severity.WARNING, f"class {c.name}", path, reason, message)


def _node_types(catalog: Catalog, target: Target) -> Iterator[Finding]:
    known = {size.name for size in catalog.sizes} | {size.family for size in catalog.sizes}
    for name in target.node_types:
        if name not in known:
            message = f"{name!r} is no size and no family of the catalogue; {nearest(name, known)}"
            reason = LintReason.UNKNOWN_NODE_TYPE
            yield Finding(Severity.WARNING, f"target {target.name}", "nodeTypes", reason, message)


def _refusals(c: SlaClass, index: Index) -> Iterator[Finding]:
    """Find what refuses every pod of the class by itself, fallbacks aside."""
    target = index.target
    if target.runtime(c.runtime) is None:
        known = ", ".join(runtime.name for runtime in target.runtimes) or "none"
        message = f"target {target.name!r} has no runtime {c.runtime!r} (it has {known}); add it to its runtimes"
        yield _error(c, "runtime", LintReason.UNKNOWN_RUNTIME, message)
    if c.gpu and not target.can_name(c.gpu.models):
        models = ", ".join(c.gpu.models) or "a GPU of any model"
        message = f"target {target.name!r} has no name for {models}; add it to the target's gpu.models"
        yield _error(c, "gpu.models", LintReason.UNKNOWN_GPU_MODEL, message)
    for d in _unkept(c, target):
        if d not in c.best_effort:
            message = f"the floor is {d.render(c.floor[d.index])}, and nobody on target {target.name!r} keeps it"
            message += "; add a consumer to the target, or list it in bestEffort"
            yield _error(c, f"floor.{d}", LintReason.NO_CONSUMER, message)
    ask = _ask(c, target)
    if not any(index.holders(c, ask)):
        yield _unheld(c, ask, index)


def _unkept(c: SlaClass, target: Target) -> list[Dimension]:
    return [d for d in DIMENSIONS if d.min_key and c.floor[d.index] and not target.consumers_of(d)]


def _ask(c: SlaClass, target: Target) -> Ask:
    """What every pod of the class asks at least, less what is dropped."""
    unkept = _unkept(c, target)
    ask = [0 if d in unkept else c.floor[d.index] for d in DIMENSIONS]
    ask[GPU_COUNT.index] = c.gpu.count if c.gpu else 0
    return tuple(ask)


def _unheld(c: SlaClass, ask: Ask, index: Index) -> Finding:
    target = index.target
    if not any(index.sizes_of(c)):
        sizes = [size for size in index.catalog.sizes if allows(c, size)]
        message = f"target {target.name!r} has none of the {len(sizes)} sizes that may serve it; add one of "
        return _error(c, "sizes", LintReason.NO_NODE_TYPE, f"{message}{_names(sizes)} to its nodeTypes")
    for d in DIMENSIONS:
        figure, size = index.best(c, d)
        if ask[d.index] > (figure or 0):
            published = f" ({size.name}, published {render(d, size.figures[d.index])})" if size else ""
            message = f"the floor is {d.render(ask[d.index])}, and the most that a node of target {target.name!r} "
            message += f"offers is {render(d, figure)}{published}; lower the floor, or {_cure(d)}"
            return _error(c, "gpu.count" if d is GPU_COUNT else f"floor.{d}", LintReason.NO_SIZE_HOLDS, message)
    size, offer = min(index.sizes_of(c), key=lambda item: (len(lacking(item[1], ask)), item[0].order))
    short = ", ".join(f"{d} {render(d, offer[d.index])} of {d.render(ask[d.index])}" for d in lacking(offer, ask))
    message = f"no one size on target {target.name!r} holds all of it; {size.name} comes closest with {short}"
    return _error(c, "floor", LintReason.NO_SIZE_HOLDS, f"{message}; lower the floor, or add sizes to its nodeTypes")


def _cure(dimension: Dimension) -> str:
    if dimension in (VCPU, MEMORY):
        return "allow larger sizes: nodeOverhead is the node's own"
    return "raise capacityPercent" if dimension in RESERVABLE else "add sizes to the target's nodeTypes"


def _names(sizes: Sequence[SandboxSize]) -> str:
    names = [size.name for size in sizes]
    return ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")


def _dropped(c: SlaClass, target: Target) -> Iterator[Finding]:
    for d in _unkept(c, target):
        if d in c.best_effort:
            message = f"the floor is {d.render(c.floor[d.index])}, best effort, and nobody on target {target.name!r} "
            yield _warning(c, f"floor.{d}", LintReason.FLOOR_DROPPED, f"{message}keeps it: dropped from every pod")


def _partly_spelt(c: SlaClass, target: Target) -> Iterator[Finding]:
    models = c.gpu.models if c.gpu and target.can_name(c.gpu.models) else ()
    for model in models:
        if not target.can_name([model]):
            message = f"target {target.name!r} has no name for {model}, so no pod of the class runs on one"
            message += "; add it to the target's gpu.models"
            yield _warning(c, "gpu.models", LintReason.UNKNOWN_GPU_MODEL, message)


def _tunable(c: SlaClass, index: Index) -> Iterator[Finding]:
    target = index.target
    for d, maximum in c.tunable:
        path = f"tunable.{d}"
        if not target.consumers_of(d):
            if d not in c.best_effort and not c.floor[d.index]:
                message = f"nobody on target {target.name!r} keeps it, so a pod that sets {d.min_key} is refused"
                message += "; add a consumer to the target, or list it in bestEffort"
                yield _warning(c, path, LintReason.NO_CONSUMER, message)
            continue
        figure, size = index.best(c, d)
        if maximum is not None and size and maximum > (figure or 0):
            message = f"the maximum is {d.render(maximum)}, and the most that a node of target {target.name!r} offers "
            message += f"is {render(d, figure)} ({size.name}); pods that ask for more are refused: lower it"
            yield _warning(c, path, LintReason.TUNABLE_BEYOND_OFFER, message)


def _not_whole(c: SlaClass, index: Index) -> Iterator[Finding]:
    """Find sizes that pods get whole although each node of the class offers less than they say, larger ones too."""
    target = index.target
    runtime = target.runtime(c.runtime)
    whole = c.reserve is Reserve.SIZE or (c.reserve is None and runtime is not None and runtime.vm_backed)
    if target.virtual_nodes or not whole:
        return
    sizes = list(index.sizes_of(c))
    small = [(size, offer) for size, offer in sizes if not any(index.holders(c, _whole(c, size, target)))]
    if small:
        size, offer = small[0]
        short = lacking(offer, _whole(c, size, target))
        figures = ", ".join(f"{d} {render(d, offer[d.index])} of {render(d, size.figures[d.index])}" for d in short)
        message = f"pods get whole sizes, and no node of target {target.name!r} has room for {len(small)} of "
        message += f"{len(sizes)} ({_names([s for s, _ in small])}); a pod of {size.name} gets {figures}"
        yield _warning(c, "sizes", LintReason.SIZE_NOT_WHOLE, message)


def _whole(c: SlaClass, size: SandboxSize, target: Target) -> Ask:
    """All of a size that its pod reserves: CPU, memory, and what the class floors or lets tune."""
    ask = list(_ask(c, target))
    for d in (VCPU, MEMORY, *RESERVABLE):
        if d in (VCPU, MEMORY) or ask[d.index] or (c.maximum(d)[0] and target.consumers_of(d)):
            ask[d.index] = max(ask[d.index], size.figures[d.index] or 0)
    return tuple(ask)

"""Which class a pod asks for, and which size it gets. Pure, total, deterministic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from catalog.demand import CPU, RAM, demand, overhead, sums, uncovered
from catalog.dimension import (
    BY_MIN_KEY,
    DIMENSIONS,
    GPU_COUNT,
    MEMORY,
    NOTHING,
    TUNABLE,
    VCPU,
    Ask,
    Dimension,
    at_least,
    lacking,
    render,
    render_lacking,
)
from catalog.fit import Index
from catalog.keys import CLASS, DEFAULT_CLASS, GPU, GPU_ON_DEMAND, GPU_PHASE, OPT_OUT
from catalog.model import Reserve, SlaClass
from catalog.pod import Subject, Texts
from catalog.problems import nearest
from catalog.quantity import QuantityError
from catalog.target import Mechanism, Runtime, Target
from webhook.compute import raised_floor
from webhook.decision import Decision, Deny, Ignore, Place, Reason, Skip, clip
from webhook.effects import Granted, annotations, effects, holdings, is_on_demand, limit_conflict, warnings
from webhook.phase import beside, plan_phase, read_phase

Labels = Mapping[str, str]

_KNOWN_KEYS = (CLASS, GPU, GPU_PHASE, *BY_MIN_KEY)
_FALLS_BACK = (Reason.NO_SIZE_FITS, Reason.NO_CONSUMER)


@dataclass(frozen=True, slots=True)
class Asked:
    """
    What a pod wrote, read and checked.

    Attributes:
        phase: The container that alone has the GPU, while it runs; such a pod is on demand whether it says so or not.
    """

    sla_class: SlaClass
    minima: Ask
    gpu: str | None
    phase: str | None = None


def decide(subject: Subject, namespace_labels: Labels, index: Index, today: date) -> Decision:
    """
    Decide what a pod gets.

    Args:
        subject: The pod, as `catalog.pod.read_pod` reads it.
        namespace_labels: Those of its namespace: its default class, and what it may use.
        index: The serving catalogue, compiled for this cluster's target.
        today: For classes that are refused from some day on.
    """
    asked = resolve(subject, namespace_labels, index, today)
    if not isinstance(asked, Asked):
        return asked
    first = _serve(subject, asked, asked.sla_class, index)
    if isinstance(first, Place):
        return _with_warnings(first, _deprecation(asked.sla_class))
    tried: list[str] = []
    for name in asked.sla_class.fallback if first.reason in _FALLS_BACK else ():
        fallback = index.catalog.classes[name]
        usable = fallback.open_to(namespace_labels) and _retired(fallback, today) is None
        second = _serve_fallback(subject, asked, fallback, index) if usable else None
        if isinstance(second, Place):
            served = f"class {asked.sla_class.name!r} cannot be had ({first.reason}); fallback {name!r} serves"
            return _with_warnings(second, [served, *_deprecation(fallback)])
        tried.append(f"fallback {name!r}: {second.reason if second else 'not open to this namespace'}")
    return replace(first, message="; ".join([first.message, *tried]))


def replay(subject: Subject, asked_class: str, served_class: str, index: Index) -> Place | None:
    """
    Decide again as was decided once, whatever the pod's namespace may use today.

    Returns:
        What *served_class* gave, for a pod that asked for *asked_class*; None where it could not have been so.
    """
    sla_class = index.catalog.classes.get(asked_class)
    asked = _asked(subject, sla_class, index) if sla_class else None
    if sla_class is None or not isinstance(asked, Asked):
        return None
    first = _serve(subject, asked, sla_class, index)
    if asked_class == served_class:
        return first if isinstance(first, Place) else None
    if isinstance(first, Place) or first.reason not in _FALLS_BACK or served_class not in sla_class.fallback:
        return None
    second = _serve_fallback(subject, asked, index.catalog.classes[served_class], index)
    return second if isinstance(second, Place) else None


def resolve(subject: Subject, namespace_labels: Labels, index: Index, today: date) -> Asked | Ignore | Deny:
    """Find the class that the pod asks for, check that it may, and check everything that it wrote."""
    keys = dict(subject.keys)
    if subject.mirror:
        return Ignore(Skip.MIRROR_POD)
    unknown = next((key for key in keys if key not in _KNOWN_KEYS), None)
    if unknown is not None:
        return Deny(Reason.UNKNOWN_KEY, f"{unknown} is no key of podsla; {nearest(unknown, _KNOWN_KEYS)}")
    if subject.stray_labels:
        label = subject.stray_labels[0]
        return Deny(Reason.UNKNOWN_KEY, f"{label} is a label here, and has to be an annotation; move it")
    default = None if subject.daemonset or subject.bound else namespace_labels.get(DEFAULT_CLASS)
    name = keys.get(CLASS, default)
    if name is None or name == OPT_OUT:
        useless = next((key for key in keys if key != CLASS), None)
        if useless is not None:
            message = f"{useless} has no effect without a class; add {CLASS}, or remove it"
            return Deny(Reason.KEY_WITHOUT_CLASS, message)
        return Ignore(Skip.NO_CLASS if name is None else Skip.OPTED_OUT)
    sla_class = index.catalog.classes.get(name)
    if sla_class is None:
        classes = index.catalog.classes
        known = nearest(name, classes) if classes else "no class is published yet: see `podsla catalog apply`"
        return Deny(Reason.UNKNOWN_CLASS, f"class {name!r} is in no catalogue; {known}")
    if not sla_class.open_to(namespace_labels):
        conditions = ", ".join(f"{r.key} {r.operator} {','.join(r.values)}".strip() for r in sla_class.namespaces or ())
        message = f"class {name!r} is open to namespaces with {conditions} only; ask the owner of {sla_class.catalog!r}"
        return Deny(Reason.CLASS_NOT_OPEN, message)
    return _retired(sla_class, today) or _asked(subject, sla_class, index)


def _asked(subject: Subject, sla_class: SlaClass, index: Index) -> Asked | Deny:
    keys = dict(subject.keys)
    gpu = keys.get(GPU, GPU_ON_DEMAND if GPU_PHASE in keys else None)
    if gpu is not None and (gpu != GPU_ON_DEMAND or sla_class.gpu is None):
        return _wrong_gpu(gpu, sla_class, index)
    phase = read_phase(subject, keys[GPU_PHASE]) if GPU_PHASE in keys else None
    if isinstance(phase, Deny):
        return phase
    minima = _minima(keys, sla_class)
    return minima if isinstance(minima, Deny) else Asked(sla_class, minima, gpu, phase)


def _retired(sla_class: SlaClass, today: date) -> Deny | None:
    deprecated = sla_class.deprecated
    if deprecated is None or deprecated.refuse_from is None or today < deprecated.refuse_from:
        return None
    use = f"use {deprecated.replaced_by!r}" if deprecated.replaced_by else f"ask the owner of {sla_class.catalog!r}"
    message = f"class {sla_class.name!r} takes no new pods since {deprecated.refuse_from}; {use}. {deprecated.message}"
    return Deny(Reason.CLASS_RETIRED, message.strip())


def _deprecation(sla_class: SlaClass) -> list[str]:
    deprecated = sla_class.deprecated
    if deprecated is None:
        return []
    until = f" and refuses new pods from {deprecated.refuse_from}" if deprecated.refuse_from else ""
    use = f"; use {deprecated.replaced_by}" if deprecated.replaced_by else ""
    return [f"class {sla_class.name} is deprecated{until}{use}. {deprecated.message}".strip()]


def _wrong_gpu(value: str, sla_class: SlaClass, index: Index) -> Deny:
    if value != GPU_ON_DEMAND:
        return Deny(Reason.INVALID_MINIMUM, f"{GPU} is {value!r}; the only value is {GPU_ON_DEMAND!r}")
    message = f"class {sla_class.name!r} names no GPU to borrow; classes that do: {_with_gpu(index)}"
    return Deny(Reason.NOT_TUNABLE, message)


def _with_gpu(index: Index) -> str:
    return ", ".join(name for name, c in index.catalog.classes.items() if c.gpu) or "none"


def _minima(keys: Labels, sla_class: SlaClass) -> Ask | Deny:
    minima = list(NOTHING)
    for key, text in keys.items():
        dimension = BY_MIN_KEY.get(key)
        if dimension is None:
            continue
        try:
            value = dimension.parse(text)
        except QuantityError as error:
            return Deny(Reason.INVALID_MINIMUM, f"{key}: {error}")
        tunable, maximum = sla_class.maximum(dimension)
        if not tunable:
            known = ", ".join(str(d.min_key) for d, _ in sla_class.tunable) or "nothing"
            return Deny(
                Reason.NOT_TUNABLE,
                f"class {sla_class.name!r} fixes {dimension}; {key} cannot be set; it lets tune: {known}",
            )
        if maximum is not None and value > maximum:
            asked = (
                f"{key} is {dimension.render(value)}, and class {sla_class.name!r} allows {dimension.render(maximum)}"
            )
            return Deny(Reason.ABOVE_MAXIMUM, f"{asked} at most; lower it, or choose a class that allows more")
        minima[dimension.index] = value
    return tuple(minima)


def _serve_fallback(subject: Subject, asked: Asked, fallback: SlaClass, index: Index) -> Place | Deny:
    """Try a fallback: what the pod itself asked for stays, a GPU to borrow among it."""
    if asked.gpu and fallback.gpu is None:
        return _wrong_gpu(asked.gpu, fallback, index)
    return _serve(subject, asked, fallback, index)


def _serve(subject: Subject, asked: Asked, sla_class: SlaClass, index: Index) -> Place | Deny:
    """Try one class: is everything that it promises kept here, and does a size hold the ask."""
    target = index.target
    runtime = target.runtime(sla_class.runtime)
    refusal = _unkept(subject, sla_class, index, runtime)
    if refusal or runtime is None:
        return refusal or Deny(Reason.NO_CONSUMER, "")
    phase = plan_phase(subject, asked.phase, sla_class, target.gpu) if asked.phase and target.gpu else None
    if isinstance(phase, Deny):
        return phase
    subject = beside(subject, phase)
    summed = sums(subject)
    needs = demand(subject, target.gpu.resource if target.gpu else None, runtime, summed=summed)
    promised = at_least(sla_class.floor, asked.minima)
    dropped = _dropped(subject, promised, index)
    for dimension in dropped:
        if dimension not in sla_class.best_effort and not index.consumers_of(dimension):
            return _no_consumer(dimension, promised, sla_class, index)
    on_demand = is_on_demand(subject, sla_class, asked.gpu)
    if sla_class.gpu and (conflict := _gpu_conflict(needs, sla_class, target, on_demand=on_demand)):
        return conflict
    floor = _floor(subject, summed.requested, promised, dropped, sla_class, index)
    ask = at_least(_with_overhead(floor, subject, runtime), needs)
    choice = index.choose(sla_class, ask)
    if choice is None:
        return Deny(Reason.NO_SIZE_FITS, _nothing_fits(sla_class, ask, index))
    granted = Granted(
        subject=subject,
        sla_class=sla_class,
        runtime=runtime,
        reserve=sla_class.reserve or (Reserve.SIZE if _is_whole(subject, target, runtime) else Reserve.ASK),
        demand=needs,
        requested=(summed.requested.get(CPU, 0), summed.requested.get(RAM, 0)),
        ask=ask,
        floor=floor,
        kept=tuple(d for d in TUNABLE if floor[d.index]),
        choice=choice,
        on_demand=on_demand,
        phase=phase,
    )
    told = annotations(index, granted)
    conflicting = limit_conflict(index, granted, told)
    if conflicting:
        return Deny(*conflicting)
    return _place(granted, asked, dropped, index, told)


def _place(granted: Granted, asked: Asked, dropped: Sequence[Dimension], index: Index, told: Texts) -> Place:
    found = [
        f"{d} is dropped: a DaemonSet's pods run on every node, whatever it has"
        if index.consumers_of(d)
        else f"{d} is best effort and dropped: nobody keeps it on {index.target.name!r}"
        for d in dropped
    ]
    gpu = index.target.gpu
    return Place(
        sla_class=granted.sla_class,
        asked_class=asked.sla_class.name,
        choice=granted.choice,
        reserve=granted.reserve,
        demand=granted.demand,
        ask=granted.ask,
        holdings=holdings(index, granted),
        dropped=tuple(dropped),
        uncovered=uncovered(granted.subject, gpu.resource if gpu else None),
        effects=effects(index, granted, told),
        warnings=tuple(map(clip, [*found, *warnings(index, granted, told)])),
    )


def _floor(
    subject: Subject,
    now: Mapping[str, int],
    promised: Ask,
    dropped: Sequence[Dimension],
    sla_class: SlaClass,
    index: Index,
) -> Ask:
    """What the pod gets whatever it demands: the class's promise less what was dropped, as it will be written."""
    floor = list(promised)
    for dimension in dropped:
        floor[dimension.index] = 0
    compute = {dimension: promised[dimension.index] for dimension in (VCPU, MEMORY)}
    for dimension, raised in raised_floor(subject, now, compute, index.target.resources).items():
        floor[dimension.index] = raised
    if sla_class.gpu:
        floor[GPU_COUNT.index] = sla_class.gpu.count
    return tuple(floor)


def _dropped(subject: Subject, promised: Ask, index: Index) -> list[Dimension]:
    """List what is promised and cannot be kept: by nobody here, or by placement alone of a DaemonSet's pod."""
    return [
        d
        for d in TUNABLE
        if promised[d.index]
        and (subject.daemonset or not index.consumers_of(d))
        and all(consumer.by is Mechanism.NODE_LABELS for consumer in index.consumers_of(d))
    ]


def _is_whole(subject: Subject, target: Target, runtime: Runtime) -> bool:
    """Tell whether the pod gets a machine of its own here: a virtual node, or a VM that class or pod asks for."""
    return target.virtual_nodes or runtime.vm_backed or target.runtime_of_class(subject.runtime_class).vm_backed


def _with_overhead(floor: Ask, subject: Subject, runtime: Runtime) -> Ask:
    """Add what the sandbox itself costs to the CPU and memory that are written."""
    if not (subject.overhead or runtime.runtime_class):
        return floor
    costs = overhead(subject, runtime)
    more = {VCPU: costs[CPU], MEMORY: costs[RAM]}
    return tuple(want + more.get(d, 0) if want else 0 for d, want in zip(DIMENSIONS, floor, strict=True))


def _unkept(subject: Subject, sla_class: SlaClass, index: Index, runtime: Runtime | None) -> Deny | None:
    target = index.target
    if runtime is None:
        known = ", ".join(r.name for r in target.runtimes) or "none"
        message = (
            f"class {sla_class.name!r} needs runtime {sla_class.runtime!r}, and target {target.name!r} has {known}"
        )
        return Deny(Reason.NO_CONSUMER, f"{message}; add it to the target's runtimes")
    own = subject.runtime_class
    if own is not None and sla_class.runtime is not None and own != runtime.runtime_class:
        theirs = runtime.runtime_class or "the default runtime"
        message = f"the pod has runtimeClassName {own!r}, and class {sla_class.name!r} runs on {theirs!r}; remove it"
        return Deny(Reason.RUNTIME_CONFLICT, message)
    if sla_class.gpu is None:
        return None
    if not target.can_name(sla_class.gpu.models):
        models = ", ".join(sla_class.gpu.models) or "any model"
        message = f"class {sla_class.name!r} gives a GPU ({models}), and target {target.name!r} has no name for it"
        return Deny(Reason.NO_CONSUMER, f"{message}; add it to the target's gpu.models")
    return None


def _no_consumer(dimension: Dimension, promised: Ask, sla_class: SlaClass, index: Index) -> Deny:
    want = dimension.render(promised[dimension.index])
    message = (
        f"class {sla_class.name!r} promises {dimension} {want}, and target {index.target.name!r} has nobody to keep it"
    )
    return Deny(Reason.NO_CONSUMER, f"{message}; add a consumer to the target, or list it in the class's bestEffort")


def _gpu_conflict(needs: Ask, sla_class: SlaClass, target: Target, *, on_demand: bool) -> Deny | None:
    if on_demand and target.names_sizes:
        message = f"class {sla_class.name!r} lends GPUs of shared nodes, and target {target.name!r} has none"
        return Deny(Reason.NO_CONSUMER, f"{message}; name a class that gives a GPU for the life of the pod")
    own, given = needs[GPU_COUNT.index], sla_class.gpu.count if sla_class.gpu else 0
    if own and on_demand:
        message = f"the pod holds {own} GPU for its whole life, and asks to borrow one on demand; remove the limit"
        return Deny(Reason.GPU_CONFLICT, message)
    if own and own < given:
        message = f"the pod limits itself to {own} GPU, and class {sla_class.name!r} gives {given}; remove the limit"
        return Deny(Reason.GPU_CONFLICT, message)
    return None


def _nothing_fits(sla_class: SlaClass, ask: Ask, index: Index) -> str:
    """Name, per dimension, what was asked and the best that exists; those that nobody has first."""
    short, fits = list[str](), list[str]()
    for dimension in DIMENSIONS:
        want = ask[dimension.index]
        figure, size = index.best(sla_class, dimension)
        if want and (figure is None or figure < want):
            text = f"{dimension} asks {dimension.render(want)}, best is {render(dimension, figure)}"
            short.append(f"{text} ({size.name})" if size else text)
        elif want:
            fits.append(f"{dimension} {dimension.render(want)}")
    if ask[GPU_COUNT.index] and not index.best(sla_class, GPU_COUNT)[0]:
        short = [f"it asks for a GPU, and no size of the class has one; classes with a GPU: {_with_gpu(index)}"]
    sizes = list(index.sizes_of(sla_class))
    if not short and sizes:
        size, offer = min(sizes, key=lambda item: (len(lacking(item[1], ask)), item[0].order))
        missing = render_lacking(offer, ask)
        short = [f"each alone exists, but no one size has all; {size.name} comes closest with {missing}"]
    on = f"on target {index.target.name!r}"
    head = f"no size of class {sla_class.name!r} {on} holds the pod"
    if not sizes:
        head = f"class {sla_class.name!r} has no size {on}"
    cure = f"ask for less, or ask the owner of catalogue {sla_class.catalog!r} for more"
    rest = [f"what fits: {', '.join(fits)}"] if fits else []
    return f"{head}: {'; '.join([*short, *rest, cure])}"


def _with_warnings(place: Place, found: Sequence[str]) -> Place:
    return replace(place, warnings=(*map(clip, found), *place.warnings)) if found else place

"""What a schema cannot say of classes: can any size serve them, and does everything they name exist. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from catalog.dimension import DIMENSIONS, GPU_COUNT, Dimension, lacking, render
from catalog.model import SandboxSize, SlaClass
from catalog.problems import Problem, nearest


class PlacedClass(Protocol):
    """A class and where it was written."""

    @property
    def value(self) -> SlaClass: ...

    def problem(self, message: str, *inner: str | int) -> Problem: ...


def check_classes(
    classes: Mapping[str, PlacedClass], sizes: Sequence[SandboxSize], unread: Collection[str]
) -> Iterator[Problem]:
    """Find every class that could never be served as it stands; *unread* are classes that have faults of their own."""
    families = {size.family for size in sizes}
    names = {size.name for size in sizes}
    models = {size.gpu.model for size in sizes if size.gpu and size.gpu.model}
    for placed in classes.values():
        c = placed.value
        if not sizes:
            yield placed.problem(
                "no size is loaded to serve it; name the catalogue that has them too, as the shipped `ecs`"
            )
            continue
        yield from _unknown(placed, sorted(c.sizes.families), families, "family", "sizes", "families")
        yield from _unknown(placed, sorted(c.sizes.names), names, "size", "sizes", "names")
        yield from _unknown(placed, c.gpu.models if c.gpu else (), models, "GPU model of any size", "gpu", "models")
        yield from _references(placed, classes, unread)
        yield from _serveable(placed, [size for size in sizes if allows(c, size)])


def allows(sla_class: SlaClass, size: SandboxSize) -> bool:
    """Tell whether *size* may serve the class: family, name, generation, and GPU model where the class names some."""
    models = sla_class.gpu.models if sla_class.gpu else ()
    return sla_class.sizes.allows(size) and (not models or (size.gpu is not None and size.gpu.model in models))


def _unknown(placed: PlacedClass, written: Sequence[str], known: set[str], kind: str, *path: str) -> Iterator[Problem]:
    for name in written:
        if name not in known:
            yield placed.problem(f"{name!r} is no {kind}; {nearest(name, known)}", *path)


def _references(placed: PlacedClass, classes: Mapping[str, PlacedClass], unread: Collection[str]) -> Iterator[Problem]:
    c, known = placed.value, {*classes, *unread}
    yield from _unknown(placed, c.fallback, known, "class", "fallback")
    if len(set(c.fallback)) < len(c.fallback):
        yield placed.problem("names a class twice; keep one", "fallback")
    cycle = _cycle(c.name, classes)
    if cycle:
        yield placed.problem(f"comes back to the class itself: {' → '.join(cycle)}; remove one of them", "fallback")
    if c.deprecated and c.deprecated.replaced_by is not None:
        replacement = c.deprecated.replaced_by
        yield from _unknown(placed, (replacement,), known - {c.name}, "other class", "deprecated", "replacedBy")


def _cycle(start: str, classes: Mapping[str, PlacedClass]) -> tuple[str, ...]:
    """Find a way from a class through fallbacks back to itself."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen = set[str]()
    while ways:
        way = ways.pop()
        for name in classes[way[-1]].value.fallback if way[-1] in classes else ():
            if name == start:
                return (*way, name)
            if name not in seen:
                seen.add(name)
                ways.append((*way, name))
    return ()


def _serveable(placed: PlacedClass, allowed: Sequence[SandboxSize]) -> Iterator[Problem]:
    c = placed.value
    if not allowed:
        yield placed.problem("no size is of these families, names, generations and GPU models; widen them", "sizes")
        return
    ask = list(c.floor)
    if c.gpu:
        ask[GPU_COUNT.index] = c.gpu.count
    blank = False
    for d in DIMENSIONS:
        best = best_of(allowed, d)
        if ask[d.index] and best is None:
            blank = True
            yield placed.problem(f"none of the {len(allowed)} allowed sizes publishes {d}; drop the floor", *_floor(d))
        elif ask[d.index] > (best or 0):
            blank = True
            wants = f"{d} is {d.render(ask[d.index])}, and the best allowed size has {render(d, best)}"
            yield placed.problem(f"{wants}; lower it or allow other sizes", *_floor(d))
        tunable, maximum = c.maximum(d)
        if tunable and maximum is not None and maximum < c.floor[d.index]:
            wants = f"{d.render(maximum)} is below the floor of {d.render(c.floor[d.index])}"
            yield placed.problem(f"{wants}; raise it, or drop the tunable", "tunable", d.path, "max")
        if tunable and maximum is not None and maximum > (best or 0):
            wants = f"{d.render(maximum)} is above every allowed size (best: {render(d, best)})"
            yield placed.problem(f"{wants}; lower it to what exists", "tunable", d.path, "max")
    if not blank and all(lacking(size.figures, tuple(ask)) for size in allowed):
        closest = min(allowed, key=lambda size: (len(lacking(size.figures, tuple(ask))), size.order))
        short = ", ".join(map(str, lacking(closest.figures, tuple(ask))))
        yield placed.problem(f"no one size holds all of it; {closest.name} comes closest and lacks {short}", "floor")


def _floor(dimension: Dimension) -> tuple[str, ...]:
    return ("gpu", "count") if dimension is GPU_COUNT else ("floor", *dimension.path.split("."))


def best_of(sizes: Sequence[SandboxSize], dimension: Dimension) -> int | None:
    """Find the largest figure that any of *sizes* publishes in *dimension*."""
    return max((f for size in sizes if (f := size.figures[dimension.index]) is not None), default=None)

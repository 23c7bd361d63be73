"""Which size holds an ask: the cheapest, in every dimension at once. Pure.

An index is compiled once for a catalogue and a target. Sizes stand in the order in which they are tried; for each
dimension it keeps, per figure, the set of sizes that have at least that figure, as the bits of one integer. The sizes
that hold an ask are the intersection of a few such sets, and the cheapest of them is the lowest bit.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from catalog.check import allows
from catalog.dimension import DIMENSIONS, Ask, Dimension, Figures, lacking
from catalog.keys import FAMILY, GENERATION, INSTANCE_TYPE
from catalog.model import Catalog, Requirement, SandboxSize, SlaClass
from catalog.target import KEPT_AS, Consumer, State, Target

MAX_STEPS: Final = 256  # figures kept per dimension: bounds memory where every size has a figure of its own


@dataclass(frozen=True, slots=True)
class Ladder:
    """
    For one dimension, the sizes that have at least each figure.

    Attributes:
        figures: Ascending.
        sets: Beside each figure, the sizes that have it or more.
        exact: Every figure that occurs is a step, so that a set holds no size too small.
    """

    figures: tuple[int, ...]
    sets: tuple[int, ...]
    exact: bool

    def holding(self, ask: int) -> int:
        """Find the sizes that have *ask* or more; where not exact, a few too small may be among them."""
        step = bisect_left(self.figures, ask)
        if step == len(self.figures):
            return 0
        return self.sets[step] if self.exact or self.figures[step] == ask else self.sets[max(0, step - 1)]


@dataclass(frozen=True, slots=True)
class Keepers:
    """Who keeps one dimension on a target, and how strongly."""

    consumers: tuple[Consumer, ...]
    state: State
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """
    The size that was chosen, and why no smaller one was.

    Attributes:
        driver: The dimension without which a cheaper size would do (the one that saves most); None where the size is
            the cheapest of its class, or where no one dimension alone made the difference.
        without_driver: That cheaper size.
        smaller: The next cheaper size of the class; None where there is none.
    """

    size: SandboxSize
    offer: Figures
    driver: Dimension | None
    without_driver: SandboxSize | None
    smaller: SandboxSize | None
    smaller_offer: Figures | None


@dataclass(frozen=True, slots=True)
class Index:
    """
    A catalogue, compiled for a target.

    Attributes:
        offers: What nodes of each size offer, in the order of the catalogue's sizes.
        allowed: Per class, the sizes that may serve it here.
        placements: Per class, the node labels that its families and generation ask for.
        placeable: This target can keep pods to some families.
        exact: Every ladder is, so that an intersection holds no size too small.
    """

    catalog: Catalog
    target: Target
    offers: tuple[Figures, ...]
    ladders: tuple[Ladder, ...]
    allowed: Mapping[str, int]
    keepers: tuple[Keepers, ...]
    placements: Mapping[str, tuple[Requirement, ...]]
    exact: bool
    placeable: bool

    def consumers_of(self, dimension: Dimension) -> tuple[Consumer, ...]:
        """List who honours *dimension* on this target."""
        return self.keepers[dimension.index].consumers

    def choose(self, sla_class: SlaClass, ask: Ask) -> Choice | None:
        """Find the cheapest size of the class that holds *ask*; None where there is none."""
        allowed = self.allowed[sla_class.name]
        asked = [d for d in DIMENSIONS if ask[d.index]]
        sets = [self.ladders[d.index].holding(ask[d.index]) for d in asked]
        chosen = self._first(_meet(allowed, sets), ask)
        if chosen is None:
            return None
        driver, without = self._driver(allowed, asked, sets, ask, chosen)
        below = (allowed & ((1 << chosen) - 1)).bit_length() - 1
        sizes = self.catalog.sizes
        return Choice(
            size=sizes[chosen],
            offer=self.offers[chosen],
            driver=driver,
            without_driver=None if without is None else sizes[without],
            smaller=sizes[below] if below >= 0 else None,
            smaller_offer=self.offers[below] if below >= 0 else None,
        )

    def holders(self, sla_class: SlaClass, ask: Ask) -> Iterator[SandboxSize]:
        """List the sizes of the class that hold *ask*, cheapest first."""
        sets = [self.ladders[d.index].holding(ask[d.index]) for d in DIMENSIONS if ask[d.index]]
        for position in _bits(_meet(self.allowed[sla_class.name], sets)):
            if not lacking(self.offers[position], ask):
                yield self.catalog.sizes[position]

    def sizes_of(self, sla_class: SlaClass) -> Iterator[tuple[SandboxSize, Figures]]:
        """List the sizes that may serve the class here, cheapest first, with what nodes of them offer."""
        for position in _bits(self.allowed[sla_class.name]):
            yield self.catalog.sizes[position], self.offers[position]

    def best(self, sla_class: SlaClass, dimension: Dimension) -> tuple[int | None, SandboxSize | None]:
        """Find the most that any size of the class offers in *dimension*, and the cheapest size that does."""
        best: tuple[int | None, SandboxSize | None] = None, None
        for size, offer in self.sizes_of(sla_class):
            figure = offer[dimension.index]
            if figure is not None and (best[0] is None or figure > best[0]):
                best = figure, size
        return best

    def _first(self, candidates: int, ask: Ask) -> int | None:
        if self.exact:
            return (candidates & -candidates).bit_length() - 1 if candidates else None
        return next((p for p in _bits(candidates) if not lacking(self.offers[p], ask)), None)

    def _driver(
        self, allowed: int, asked: Sequence[Dimension], sets: Sequence[int], ask: Ask, chosen: int
    ) -> tuple[Dimension | None, int | None]:
        cheaper = allowed & ((1 << chosen) - 1)
        best: tuple[int, Dimension] | None = None
        for skipped, dimension in enumerate(asked):
            candidates = _meet(cheaper, [s for position, s in enumerate(sets) if position != skipped])
            if candidates:
                relaxed = tuple(0 if i == dimension.index else want for i, want in enumerate(ask))
                first = self._first(candidates, relaxed)
                if first is not None and (best is None or first < best[0]):
                    best = first, dimension
        return (best[1], best[0]) if best else (None, None)


def compile_index(catalog: Catalog, target: Target) -> Index:
    """Compile a catalogue for a target: done once per revision, so that a decision costs a few set operations."""
    offers = tuple(target.offer(size) for size in catalog.sizes)
    here = [target.has(size) for size in catalog.sizes]
    allowed = {
        name: sum(1 << p for p, size in enumerate(catalog.sizes) if here[p] and _serves(sla_class, size, target))
        for name, sla_class in catalog.classes.items()
    }
    ladders = tuple(_ladder(offers, d) for d in DIMENSIONS)
    return Index(
        catalog=catalog,
        target=target,
        offers=offers,
        ladders=ladders,
        allowed=allowed,
        keepers=tuple(_keepers(target, d) for d in DIMENSIONS),
        placements={name: tuple(_placement(catalog, c, allowed[name])) for name, c in catalog.classes.items()}
        if target.can_place
        else dict.fromkeys(catalog.classes, ()),
        exact=all(ladder.exact for ladder in ladders),
        placeable=target.can_place,
    )


def _serves(sla_class: SlaClass, size: SandboxSize, target: Target) -> bool:
    """Tell whether a size may serve a class here: the class allows it, and its pods are let onto such nodes."""
    return allows(sla_class, size) and (sla_class.gpu is None or target.reaches(size, sla_class.gpu.models))


def _placement(catalog: Catalog, sla_class: SlaClass, allowed: int) -> Iterator[Requirement]:
    filters = sla_class.sizes
    if filters.min_generation is not None:
        yield Requirement(GENERATION, "Gt", (str(filters.min_generation - 1),))
    if filters.names:
        yield Requirement(INSTANCE_TYPE, "In", tuple(sorted(catalog.sizes[p].name for p in _bits(allowed))))
    elif filters.families:
        yield Requirement(FAMILY, "In", tuple(sorted(filters.families)))


def _keepers(target: Target, dimension: Dimension) -> Keepers:
    consumers = target.consumers_of(dimension)
    state = max((KEPT_AS[consumer.by] for consumer in consumers), key=list(State).index, default=State.PLACED)
    return Keepers(consumers, state, tuple(sorted({consumer.by.value for consumer in consumers})))


def _ladder(offers: Sequence[Figures], dimension: Dimension) -> Ladder:
    """Climb down from the largest figure, gathering sizes; keep every figure, or evenly spaced ones where too many."""
    known = sorted(((f, p) for p, row in enumerate(offers) if (f := row[dimension.index]) is not None), reverse=True)
    distinct = sorted({figure for figure, _ in known})
    stride = max(1, -(-len(distinct) // MAX_STEPS))
    kept = {*distinct[::stride], *distinct[-1:]}
    sets: dict[int, int] = {}
    gathered = 0
    for figure, position in known:
        gathered |= 1 << position
        if figure in kept:
            sets[figure] = gathered
    steps = tuple(sorted(sets))
    return Ladder(steps, tuple(sets[step] for step in steps), exact=stride == 1)


def _meet(start: int, sets: Sequence[int]) -> int:
    for members in sets:
        start &= members
    return start


def _bits(members: int) -> Iterator[int]:
    while members:
        lowest = members & -members
        yield lowest.bit_length() - 1
        members ^= lowest

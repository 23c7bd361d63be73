"""How running pods stand to what serves: how many use each class, and whose size no longer has what they were promised.

Pure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from catalog.dimension import BY_PATH, Figures
from catalog.quantity import QuantityError
from nodes.bound import Bound


@dataclass(frozen=True, slots=True)
class ClassUse:
    """
    Pods of one class.

    Attributes:
        pods: That got it.
        misfits: Those of them whose size is gone, or offers less than they were promised: created anew, they would get
            another size, or be refused.
    """

    name: str
    pods: int
    misfits: int


def class_uses(bound: Iterable[Bound], offer: Callable[[str], Figures | None]) -> tuple[ClassUse, ...]:
    """
    Count, sorted by class.

    Args:
        bound: Pods that are not over; those that wait for a node do not count.
        offer: What a size offers now, by its name; None: it is gone.
    """
    return tuple(
        ClassUse(name, len(users), sum(not holds(offer(one.size), one.kept) for one in users))
        for name, users in by_class(bound).items()
    )


def by_class(bound: Iterable[Bound]) -> Mapping[str, Sequence[Bound]]:
    """Group by the class that they got, sorted by it; pods that wait for a node, or got none, are left out."""
    found: dict[str, list[Bound]] = {}
    for one in bound:
        if one.sla_class and one.node:
            found.setdefault(one.sla_class, []).append(one)
    return dict(sorted(found.items()))


def holds(offer: Figures | None, kept: Mapping[str, str]) -> bool:
    """Tell whether a size still offers what was promised of it."""
    return offer is not None and first_short(offer, kept) is None


def first_short(offer: Figures, kept: Mapping[str, str]) -> str | None:
    """Name the first dimension, by its path, of which less is offered than was promised."""
    return next((path for path, text in sorted(kept.items()) if _short(offer, path, text)), None)


def _short(offer: Figures, path: str, text: str) -> bool:
    dimension = BY_PATH.get(path)
    if dimension is None:
        return False  # a dimension of another version of podsla
    figure = offer[dimension.index]
    try:
        return figure is None or figure < dimension.parse(text)
    except QuantityError:
        return False

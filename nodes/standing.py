"""How running pods stand to what serves: how many use each class, and whose size no longer has what they were promised.

Pure.
"""

from collections.abc import Callable, Iterable, Mapping
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
    pods: dict[str, int] = {}
    misfits: dict[str, int] = {}
    for one in bound:
        if one.sla_class and one.node:
            pods[one.sla_class] = pods.get(one.sla_class, 0) + 1
            misfits[one.sla_class] = misfits.get(one.sla_class, 0) + (not holds(offer(one.size), one.kept))
    return tuple(ClassUse(name, pods[name], misfits[name]) for name in sorted(pods))


def holds(offer: Figures | None, kept: Mapping[str, str]) -> bool:
    """Tell whether a size still offers what was promised of it."""
    return offer is not None and not any(_short(offer, path, text) for path, text in kept.items())


def _short(offer: Figures, path: str, text: str) -> bool:
    dimension = BY_PATH.get(path)
    if dimension is None:
        return False  # a dimension of another version of podsla
    figure = offer[dimension.index]
    try:
        return figure is None or figure < dimension.parse(text)
    except QuantityError:
        return False

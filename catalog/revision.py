"""The revision of a catalogue: a hash of what it means, not of how it was written. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import orjson

from catalog.dimension import Dimension
from catalog.model import MAX_SIZES, GpuBudget, SandboxSize, SlaClass


def revision_of(
    sizes: Sequence[SandboxSize], classes: Mapping[str, SlaClass], budgets: Sequence[GpuBudget] = ()
) -> str:
    """
    Hash the normalised model: integers, defaults filled in, sorted by name.

    Which catalogue object a class stands in is left out, so that a move changes no revision.
    """
    model: dict[str, Any] = {
        "sizes": {size.name: _size(size) for size in sizes},
        "classes": {name: canonical(sla_class, without="catalog") for name, sla_class in classes.items()},
    }
    if budgets:  # so that a catalogue without any has the revision that it always had
        model["gpuBudgets"] = [canonical(budget) for budget in budgets]
    return "sha256:" + hashlib.sha256(orjson.dumps(model, option=orjson.OPT_SORT_KEYS)).hexdigest()


@lru_cache(maxsize=MAX_SIZES)
def _size(size: SandboxSize) -> orjson.Fragment:
    """Write a size once: it goes into the revision of its catalogue, and into that of all which serve together."""
    return orjson.Fragment(orjson.dumps(canonical(size), option=orjson.OPT_SORT_KEYS))


def canonical(value: Any, *, without: str = "") -> Any:
    """Turn a frozen value into plain JSON that has one form only."""
    if isinstance(value, Dimension):
        return value.path
    if is_dataclass(value):
        return {f.name: canonical(getattr(value, f.name)) for f in fields(value) if f.name != without}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [canonical(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value

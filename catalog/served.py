"""What is to be served, found among the objects of the API server: accepted catalogues and the accepted target. Pure.

Everybody who serves or publishes reads what was accepted, never what was merely written: all replicas agree, and one
that starts while an edit is bad starts on the last good one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from catalog.accept import Memo, merge_parts
from catalog.keys import TARGET
from catalog.model import Catalog
from catalog.quantity import parse_cpu_m, parse_integer
from catalog.stored import Kept, by_age, kept_of, read_kept
from catalog.target import Target
from catalog.target_reader import read_target
from catalog.yamltext import parse_documents

Object: TypeAlias = Mapping[str, Any]
Overheads: TypeAlias = Mapping[str, tuple[int, int]]

TARGET_CONFIG_MAP: Final = "podsla-target"
TARGET_KEY: Final = "target.yaml"


@dataclass(frozen=True, slots=True)
class Accepted:
    """
    What is to be served.

    Attributes:
        kept: The accepted spec of each catalogue, the oldest catalogue first.
        target: The accepted target as YAML, by its number; None: none was accepted.
        overheads: What a pod sandbox costs, in millicores and bytes, by RuntimeClass.
    """

    kept: tuple[Kept, ...]
    target: tuple[int, str] | None
    overheads: Overheads

    @property
    def key(self) -> object:
        """Equal as long as the same is to be served."""
        return tuple((kept.name, kept.revision) for kept in self.kept), self.target, frozenset(self.overheads.items())


@dataclass(frozen=True, slots=True)
class Served:
    """A catalogue and a target that go together; *problems* name what of them does not fit together."""

    catalog: Catalog
    target: Target
    problems: tuple[str, ...]


def find_accepted(
    catalogs: Iterable[Object], revisions: Iterable[Object], classes: Iterable[Object]
) -> Accepted | None:
    """
    Find what is to be served.

    Args:
        catalogs: SpecCatalogs.
        revisions: ControllerRevisions of podsla's namespace.
        classes: RuntimeClasses.

    Returns:
        None while a revision that a catalogue serves is not seen yet: it is written before the catalogue's status, and
        may be seen after it.
    """
    revisions = tuple(revisions)
    kept = read_kept(revisions)
    good: list[Kept] = []
    for thing in by_age(catalogs):
        serving = (thing.get("status") or {}).get("serving")
        found = next((one for one in kept_of(thing, kept) if one.revision == serving), None)
        if found is not None:
            good.append(found)
        elif serving:
            return None
    return Accepted(tuple(good), _newest_target(revisions), read_overheads(classes))


def build(accepted: Accepted, default: Target, memo: Memo) -> Served:
    """
    Merge what is to be served; a class that leans on what is gone is served as far as it can be.

    Args:
        default: The target where none was accepted yet.
        memo: Keeps what was read from call to call: an edit of one catalogue has no other read again.

    Raises:
        InvalidError: The accepted target cannot be read, which a newer podsla may have written.
    """
    specs = [({"metadata": {"name": k.catalog}, "spec": k.spec}, (k.name, k.revision)) for k in accepted.kept]
    merged = merge_parts([memo.read(thing, key).part for thing, key in specs])
    memo.forget()
    target = default
    if accepted.target is not None:
        target = read_target(parse_documents(accepted.target[1], f"configmap/{TARGET_CONFIG_MAP}"))
    return Served(merged.catalog, target.with_overheads(accepted.overheads), merged.problems)


def read_overheads(classes: Iterable[Object]) -> Overheads:
    """Read what RuntimeClasses say that a pod sandbox costs: millicores and bytes, by name."""
    fixed = {thing["metadata"]["name"]: (thing.get("overhead") or {}).get("podFixed") or {} for thing in classes}
    return {
        name: (parse_cpu_m(cost.get("cpu", "0")), parse_integer(cost.get("memory", "0")))
        for name, cost in fixed.items()
    }


def _newest_target(revisions: Iterable[Object]) -> tuple[int, str] | None:
    targets = [r for r in revisions if TARGET in (r["metadata"].get("labels") or {})]
    newest = max(targets, key=lambda revision: int(revision["revision"]), default=None)
    return None if newest is None else (newest["revision"], newest["data"][TARGET_KEY])

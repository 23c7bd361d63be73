"""Which accepted specs served together, and when: what a record's revision stands for. Pure.

A record names the revision of all catalogues together. One ControllerRevision for each such revision says which
accepted specs it was made of, so that they are kept as long as a pod names it, and can be read again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from catalog.accept import merge
from catalog.keys import MERGED, REVISION
from catalog.model import Catalog
from catalog.stored import Kept, Object

KEPT_MERGED: Final = 10  # and every one that a pod's record names


@dataclass(frozen=True, slots=True)
class MergedRevision:
    """
    What served together.

    Attributes:
        name: Of the ControllerRevision.
        revision: "sha256:" and the hash of all that served.
        number: The higher, the newer.
        parts: ControllerRevisions of the accepted specs, by their catalogue's name, the oldest catalogue first.
    """

    name: str
    revision: str
    number: int
    parts: tuple[tuple[str, str], ...]


def read_merged(revisions: Iterable[Object]) -> tuple[MergedRevision, ...]:
    """Read them, newest first; other ControllerRevisions are passed over."""
    found = [_read(thing) for thing in revisions if MERGED in (thing["metadata"].get("labels") or {})]
    return tuple(sorted(found, key=lambda one: (-one.number, one.name)))


def _read(thing: Object) -> MergedRevision:
    parts = tuple((part["catalog"], part["revision"]) for part in thing["data"]["parts"])
    metadata = thing["metadata"]
    return MergedRevision(metadata["name"], metadata["annotations"][REVISION], thing["revision"], parts)


def is_noted(accepted: Iterable[Kept], merged: Iterable[MergedRevision]) -> bool:
    """
    Tell whether there is a note of these specs together, so that a record that is written now is believed later.

    A note counts whatever revision it names: another version of podsla may hash the same specs differently, and an
    upgrade must not wait for it. Nothing at all needs no note.
    """
    parts = _parts(accepted)
    return not parts or any(one.parts == parts for one in merged)


def _parts(accepted: Iterable[Kept]) -> tuple[tuple[str, str], ...]:
    return tuple((kept.catalog, kept.name) for kept in accepted)


@dataclass(frozen=True, slots=True)
class MergedPlan:
    """
    What to write so that the newest one is what serves.

    Attributes:
        create: A new ControllerRevision; None: there is one.
        renew: One that is there and serves again: its name, and its new number.
        delete: Names of those that nobody needs any more.
    """

    create: dict[str, Any] | None
    renew: tuple[str, int] | None
    delete: tuple[str, ...]


def plan_merged(
    serving: str, accepted: Sequence[Kept], merged: Sequence[MergedRevision], used: Collection[str], namespace: str
) -> MergedPlan:
    """
    Compare what serves with what is noted.

    Args:
        serving: The revision of all that serves.
        accepted: The specs that it is made of.
        merged: As `read_merged` reads them.
        used: Revisions that records of pods name.
        namespace: Where ControllerRevisions are kept.
    """
    delete = tuple(one.name for one in merged[KEPT_MERGED:] if one.revision not in used and one.revision != serving)
    parts = _parts(accepted)
    number = merged[0].number + 1 if merged else 1
    same = next((one for one in merged if one.revision == serving and one.parts == parts), None)
    if same is None:
        return MergedPlan(_object(serving, parts, number, namespace), None, delete)
    return MergedPlan(None, None if same == merged[0] else (same.name, number), delete)


def _object(revision: str, parts: Iterable[tuple[str, str]], number: int, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"podsla-{revision.removeprefix('sha256:')[:10]}-{number}",
            "namespace": namespace,
            "labels": {MERGED: "true"},
            "annotations": {REVISION: revision},
        },
        "revision": number,
        "data": {"parts": [{"catalog": catalog, "revision": name} for catalog, name in parts]},
    }


def needed(merged: Iterable[MergedRevision], used: Collection[str]) -> frozenset[str]:
    """Name the ControllerRevisions of specs that must be kept: those of revisions that *used* names."""
    return frozenset(name for one in merged if one.revision in used for _, name in one.parts)


def catalog_of(merged: MergedRevision, kept: Mapping[str, Kept]) -> Catalog | None:
    """
    Read what served then.

    Args:
        kept: Accepted specs, by the name of their ControllerRevision.

    Returns:
        None where a part is gone with its catalogue, or is read differently by this version of podsla.
    """
    parts = [kept.get(name) for _, name in merged.parts]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    catalog = merge({part.catalog: part.spec for part in found}).catalog
    return catalog if catalog.revision == merged.revision else None

"""What becomes of an edit of catalogues before it is made, and what a rollback puts back. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

from catalog.accept import Memo, Parsed, judge, merge_parts, parse
from catalog.diff import CatalogDiff, diff_catalogs
from catalog.model import Catalog
from catalog.reader import Part, make_catalog
from catalog.stored import Kept, by_age, kept_of, last_good
from catalog.verdict import Verdict

Object: TypeAlias = Mapping[str, Any]


class RollbackError(ValueError):
    """There is nothing to go back to; the message says what there is."""


@dataclass(frozen=True, slots=True)
class Edited:
    """
    What an edit would make of what is served.

    Attributes:
        verdicts: Of the catalogues that are edited, as the controller would judge them now.
    """

    before: Catalog
    after: Catalog
    verdicts: tuple[Verdict, ...]


def try_edit(
    catalogs: Sequence[Object], kept: Sequence[Kept], edits: Mapping[str, Object], used: Mapping[str, int], now: str
) -> Edited:
    """
    Judge an edit as the controller would, and merge what would then be served.

    Args:
        catalogs: SpecCatalogs as they are.
        kept: What was accepted of them.
        edits: SpecCatalogs as they are to be, by name; others stay.
        used: How many pods run in each class.
        now: RFC 3339, when catalogues that do not exist yet would be created.
    """
    edited = [_applied(thing, edits.get(thing["metadata"]["name"])) for thing in catalogs]
    names = {thing["metadata"]["name"] for thing in catalogs}
    edited += [_new(name, edit, now) for name, edit in sorted(edits.items()) if name not in names]
    memo = _Read()
    verdicts = judge(edited, kept, memo, used)
    before = merge_parts(list(_served(catalogs, kept, memo))).catalog
    mine = tuple(verdict for verdict in verdicts if verdict.catalog in edits)
    taken = {verdict.catalog for verdict in mine if verdict.accepted}
    after = merge_parts(list(_served(edited, kept, memo, taken))).catalog if taken else before
    return Edited(before, after, mine)


class _Read(Memo):
    """Reads each spec once, wherever it stands: sizes by the hundred take a while, and what serves is kept twice."""

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[tuple[str, str], Parsed] = {}

    def read(self, thing: Object, key: object = None) -> Parsed:
        written = thing["metadata"]["name"], json.dumps(thing["spec"], sort_keys=True, default=str)
        if written not in self._found:
            self._found[written] = parse(thing)
        return self._found[written]


def _applied(thing: Object, edit: Object | None) -> Object:
    """Put an edit in place as server-side apply does: its spec, and its annotations beside those there."""
    if edit is None:
        return thing
    metadata = thing["metadata"]
    annotations = {**(metadata.get("annotations") or {}), **(edit["metadata"].get("annotations") or {})}
    edited = {**metadata, "annotations": annotations, "generation": metadata.get("generation", 0) + 1}
    return {**thing, "metadata": edited, "spec": edit["spec"]}


def _new(name: str, edit: Object, now: str) -> Object:
    metadata = {**edit["metadata"], "uid": f"new {name}", "generation": 1, "creationTimestamp": now}
    return {"metadata": metadata, "spec": edit["spec"]}


def _served(
    things: Sequence[Object], kept: Sequence[Kept], memo: _Read, taken: Set[str] = frozenset()
) -> Iterator[Part]:
    """Read what serves of each catalogue: the object where it is *taken* or says the same, else what was good last."""
    for thing in by_age(things):
        good, written = last_good(thing, kept), memo.read(thing)
        if thing["metadata"]["name"] in taken or (good and good.revision == written.revision):
            yield written.part
        elif good is not None:
            yield memo.read({"metadata": {"name": good.catalog}, "spec": good.spec}).part


@dataclass(frozen=True, slots=True)
class Revision:
    """
    One accepted spec of a catalogue.

    Attributes:
        created: RFC 3339; "" where it is not known.
        serving: It serves now.
        written: The object says the same.
    """

    number: int
    revision: str
    name: str
    created: str
    sizes: int
    classes: int
    serving: bool
    written: bool


def history(thing: Object, revisions: Sequence[Object], kept: Sequence[Kept]) -> tuple[Revision, ...]:
    """List what was accepted of a catalogue, newest first."""
    created = {r["metadata"]["name"]: str(r["metadata"].get("creationTimestamp") or "") for r in revisions}
    good, written = last_good(thing, kept), parse(thing).revision
    return tuple(
        Revision(
            number=one.number,
            revision=one.revision,
            name=one.name,
            created=created.get(one.name, ""),
            sizes=len(one.spec.get("sizes") or ()),
            classes=len(one.spec.get("classes") or ()),
            serving=one == good,
            written=one.revision == written,
        )
        for one in kept_of(thing, kept)
    )


def choose(thing: Object, kept: Sequence[Kept], number: int | None) -> Kept:
    """
    Choose what to go back to: revision *number*, or the newest that says something else than the object does.

    So an edit that was refused goes back to what still serves, and an accepted one to what served before it.

    Raises:
        RollbackError: There is no such revision.
    """
    own, written = kept_of(thing, kept), parse(thing).revision
    found = next((one for one in own if (one.revision != written if number is None else one.number == number)), None)
    if found is None:
        name = thing["metadata"]["name"]
        known = ", ".join(str(one.number) for one in own) or "none"
        wanted = "other accepted revision" if number is None else f"revision {number}"
        raise RollbackError(f"catalogue {name} has no {wanted}; kept are {known}: podsla catalog history {name}")
    return found


def compare(thing: Object, spec: Any) -> CatalogDiff:
    """Say what changes where a catalogue gets another spec."""
    return diff_catalogs(_catalog(thing), _catalog({**thing, "spec": spec}))


def _catalog(thing: Object) -> Catalog:
    """Read what is sound of one object; of two of a name the last."""
    part = parse(thing).part
    sizes = {size.value.name: size.value for size in part.sizes}
    classes = {sla_class.value.name: sla_class.value for sla_class in part.classes}
    return make_catalog(list(sizes.values()), list(classes.values()), part.budgets)

"""Which edits of catalogues are taken over, and what serves: catalogues of a cluster, judged together. Pure.

An edit is taken over if it is sound, fits what the others serve, and breaks nothing of theirs. A refused one changes
nothing: the last good revision of its catalogue serves on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from catalog.keys import ALLOW_REMOVAL
from catalog.model import Catalog, SlaClass
from catalog.problems import Problem
from catalog.reader import Joined, Part, join, make_catalog, read_part
from catalog.schema import API_VERSION
from catalog.stored import Kept, Object, by_age, kept_of, last_good
from catalog.verdict import Keep, Reason, Verdict, counted
from catalog.yamltext import Document, Numeral

NOBODY: Final[Mapping[str, int]] = {}
_NO_PLACE: Final[Mapping[Any, int]] = {}  # an object has no lines


@dataclass(frozen=True, slots=True)
class Parsed:
    """One spec, read: *revision* is the hash of its model, None where it is not sound."""

    part: Part
    revision: str | None


@dataclass(frozen=True, slots=True)
class Merged:
    """What a replica serves, and what of it does not fit together any more."""

    catalog: Catalog
    problems: tuple[str, ...]


def document_of(thing: Object) -> Document:
    """Make a document of an object, so that it is read as a file would be; its fields have no lines."""
    name = thing["metadata"].get("name")
    head = {"apiVersion": API_VERSION, "kind": "SpecCatalog", "metadata": {"name": name}}
    return Document({**head, "spec": _exact(thing.get("spec"))}, f"speccatalog/{name}", _NO_PLACE)


def _exact(value: Any) -> Any:
    """Turn numbers with a point back into the text that they were: no quantity is ever computed with a float."""
    if isinstance(value, float):
        return Numeral(repr(value))  # the shortest text that reads back as the same number
    if isinstance(value, Mapping):
        return {key: _exact(inner) for key, inner in value.items()}
    return [_exact(inner) for inner in value] if isinstance(value, list) else value


def parse(thing: Object) -> Parsed:
    """Read a SpecCatalog, or anything with `metadata.name` and `spec`; it never raises."""
    part = read_part(document_of(thing))
    sizes, classes = [size.value for size in part.sizes], [sla_class.value for sla_class in part.classes]
    unique = all(len({item.name for item in items}) == len(items) for items in (sizes, classes))
    sound = unique and not part.problems
    return Parsed(part, make_catalog(sizes, classes, part.budgets).revision if sound else None)


class Memo:
    """What `judge` remembers from call to call: each generation and each kept revision is read once."""

    def __init__(self) -> None:
        self._old: dict[object, Parsed] = {}
        self._new: dict[object, Parsed] = {}
        self.judged: object = None
        self.verdicts: tuple[Verdict, ...] = ()

    def read(self, thing: Object, key: object) -> Parsed:
        """Read *thing*; the same *key* says that it is the same as before, None that nobody knows."""
        parsed = self._old.get(key) or self._new.get(key) or parse(thing)
        if key is not None:
            self._new[key] = parsed
        return parsed

    def forget(self) -> None:
        """Forget what was not read since this was called last."""
        self._old, self._new = self._new, {}


@dataclass(frozen=True, slots=True)
class _Entry:
    """A catalogue as it stands, and what of it was good last (None: nothing); *edited* where they differ."""

    thing: Object
    edit: Parsed
    good: Kept | None
    good_part: Part | None
    edited: bool

    @property
    def file(self) -> str:
        return self.edit.part.document.file


def _read_entries(catalogs: Iterable[Object], kept: Sequence[Kept], memo: Memo) -> Iterator[_Entry]:
    for thing in by_age(catalogs):
        edit = memo.read(thing, _version(thing))
        good = last_good(thing, kept)
        if good is None:
            yield _Entry(thing, edit, None, None, edited=True)
            continue
        read = edit
        if edit.revision != good.revision:
            read = memo.read({"metadata": {"name": good.catalog}, "spec": good.spec}, (good.name, good.revision))
        # What cannot be read of a kept spec is not served, and nobody may lean on it.
        part = replace(read.part, unread=frozenset())
        yield _Entry(thing, edit, good, part, edited=edit.revision is None or edit.revision != read.revision)


def _allowed_removals(thing: Object) -> frozenset[str]:
    text = (thing["metadata"].get("annotations") or {}).get(ALLOW_REMOVAL, "")
    return frozenset(name.strip() for name in text.split(","))


def _in_use(sla_class: SlaClass, pods: int) -> str:
    first = "wait until they are gone" if sla_class.deprecated else "mark it `deprecated` first"
    return (
        f"class {sla_class.name!r} is gone, and {counted(pods, 'pod')} run{'s' if pods == 1 else ''} in it; "
        f"{first}, or annotate the catalogue {ALLOW_REMOVAL}: {sla_class.name}"
    )


_Names: TypeAlias = frozenset[str]


class _Trials:
    """
    What would be wrong if some edits were taken over and the others were not; each case is tried once.

    Attributes:
        in_use: The problems found so far that are classes which pods run in.
    """

    def __init__(self, entries: Sequence[_Entry], used: Mapping[str, int]) -> None:
        self.entries, self.used = {entry.file: entry for entry in entries}, used
        self.in_use: set[Problem] = set()
        self._tried: dict[tuple[tuple[str, bool], ...], Joined] = {}

    def joined(self, taken: _Names, last: str = "") -> Joined:
        """
        Join what serves with the edits *taken*; who comes first keeps a name.

        *last* is tried against all others as if they served, and comes after them; without it, all of *taken* does.
        """
        late = {last} if last else taken
        order = sorted(((file, file in taken) for file in self.entries), key=lambda item: item[0] in late)
        key = tuple(order)
        if key not in self._tried:
            parts = [self.entries[file].edit.part if edit else self.entries[file].good_part for file, edit in order]
            joined = join([part for part in parts if part is not None])
            removed = tuple(self._removed(joined, [self.entries[file] for file, edit in order if edit]))
            self.in_use.update(removed)
            self._tried[key] = replace(joined, problems=(*joined.problems, *removed))
        return self._tried[key]

    def _removed(self, joined: Joined, edited: Sequence[_Entry]) -> Iterator[Problem]:
        """Find classes that pods run in, and that nobody defines any more once these edits are taken over."""
        left = {sla_class.name for sla_class in joined.classes}
        for entry in edited:
            if entry.good_part is None or entry.edit.revision is None:
                continue
            gone = (one.value for one in entry.good_part.classes if one.value.name not in left)
            for sla_class in (one for one in gone if one.name in self.used):
                if sla_class.name not in _allowed_removals(entry.thing):
                    yield Problem(entry.file, 0, "spec.classes", _in_use(sla_class, self.used[sla_class.name]))

    def faults(self, taken: _Names, last: str = "") -> list[Problem]:
        """Find what is wrong with the edits *taken* (or with *last* alone), and what they break that was right."""
        mine = frozenset({last}) if last else taken
        found = self.joined(taken, last).problems
        if all(problem.file in mine for problem in found):
            return list(found)
        known = _places(self.joined(taken - mine).problems)
        return [problem for problem in found if problem.file in mine or _place(problem) not in known]

    def culprit(self, taken: _Names, problem: Problem) -> _Names:
        """Find the edit without which *problem* is not there: its own, else the newest."""
        newest_first = [file for file in reversed(self.entries) if file in taken]
        suspects = sorted(newest_first, key=lambda file: file != problem.file)
        guilty = (f for f in suspects if _place(problem) not in _places(self.joined(taken - {f}).problems))
        return frozenset({next(guilty, suspects[0])})


def _place(problem: Problem) -> tuple[str, str]:
    return problem.file, problem.path


def _places(problems: Iterable[Problem]) -> set[tuple[str, str]]:
    return {_place(problem) for problem in problems}


def _settle(trials: _Trials, sound: Sequence[str]) -> _Names:
    """
    Find the edits that are right together.

    From all that are sound, those at fault are dropped until the others fit; then each dropped one gets its chance
    anew, since what stood in its way may have been dropped too.
    """
    taken = frozenset(sound)
    while faults := trials.faults(taken):
        taken -= trials.culprit(taken, faults[0])
    while more := next((f for f in sound if f not in taken and not trials.faults(taken | {f}, last=f)), None):
        taken |= {more}
    return taken


def judge(
    catalogs: Sequence[Object], kept: Sequence[Kept], memo: Memo, used: Mapping[str, int] = NOBODY
) -> tuple[Verdict, ...]:
    """
    Judge the newest edit of every catalogue, together; sorted by name.

    An older object (by creation, then by name) keeps a name that two define differently. Edits that need one another
    are accepted together. What serves and was not edited is never refused for what another edit does; where it leans
    on a catalogue that was deleted, its problems are told, and it serves on as far as it can.

    Args:
        catalogs: SpecCatalogs as they are now.
        kept: What was accepted of them before.
        memo: Keeps what was read from call to call.
        used: How many pods run in each class; a class that none runs in is left out.
    """
    inputs = _fingerprint(catalogs, kept, used)
    if inputs is not None and inputs == memo.judged:
        return memo.verdicts
    entries = list(_read_entries(catalogs, kept, memo))
    memo.forget()
    trials = _Trials(entries, used)
    sound = [entry.file for entry in entries if entry.edited and entry.edit.revision is not None]
    taken = _settle(trials, sound)
    verdicts = [_verdict(entry, trials, taken, kept) for entry in entries]
    memo.judged, memo.verdicts = inputs, tuple(sorted(verdicts, key=lambda verdict: verdict.catalog))
    return memo.verdicts


def _fingerprint(catalogs: Sequence[Object], kept: Sequence[Kept], used: Mapping[str, int]) -> object:
    """Tell inputs apart without reading them; None where an object does not say which one it is."""
    serving = [
        (_version(thing), (thing.get("status") or {}).get("serving"), _allowed_removals(thing)) for thing in catalogs
    ]
    if any(version is None for version, _, _ in serving):
        return None
    return serving, [(k.name, k.number) for k in kept], dict(used)


def _version(thing: Object) -> tuple[str, int] | None:
    uid, generation = thing["metadata"].get("uid"), thing["metadata"].get("generation")
    return (uid, generation) if uid and generation else None


def _verdict(entry: _Entry, trials: _Trials, taken: _Names, kept: Sequence[Kept]) -> Verdict:
    reason, problems = _findings(entry, trials, taken)
    serves = entry.file in taken or not entry.edited
    serving = entry.edit.revision if serves else entry.good.revision if entry.good else None
    part = entry.edit.part if serves else entry.good_part
    return Verdict(
        catalog=entry.thing["metadata"]["name"],
        revision=entry.edit.revision,
        serving=serving,
        reason=reason,
        problems=problems,
        sizes=len(part.sizes) if part else 0,
        classes=len(part.classes) if part else 0,
        keep=_keep(entry, kept) if serves else None,
    )


def _findings(entry: _Entry, trials: _Trials, taken: _Names) -> tuple[Reason, tuple[str, ...]]:
    """Say what is wrong with an edit in the company of those that are taken over."""
    file = entry.file
    last = file if entry.edited and file not in taken else ""
    tried = taken | {last} if last else taken
    joined = trials.joined(tried, last)
    own = [problem for problem in joined.problems if problem.file == file]
    others = [p for p in trials.faults(tried, last) if p.file != file] if last and entry.edit.revision else []
    lines = (*map(_line, own), *(f"breaks {problem}" for problem in sorted(others)))
    if own and trials.in_use.issuperset(own):
        return Reason.CLASS_IN_USE, lines
    if own:
        return Reason.NAME_TAKEN if joined.taken.issuperset(own) else Reason.INVALID_CATALOG, lines
    return Reason.BREAKS_CATALOG if others else Reason.ACCEPTED, lines


def _line(problem: Problem) -> str:
    return f"{problem.path}: {problem.message}" if problem.path else problem.message


def _keep(entry: _Entry, kept: Sequence[Kept]) -> Keep | None:
    """Say what to keep, so that what serves is the newest that is kept."""
    own = kept_of(entry.thing, kept)
    if entry.edit.revision is None or (own and own[0].revision == entry.edit.revision):
        return None
    stored = next((k for k in own if k.revision == entry.edit.revision), None)
    return Keep(entry.edit.revision, own[0].number + 1 if own else 1, stored)


def merge(specs: Mapping[str, Any]) -> Merged:
    """Put together what is served: accepted specs by the name of their catalogue, the oldest first."""
    return merge_parts([parse({"metadata": {"name": name}, "spec": spec}).part for name, spec in specs.items()])


def merge_parts(parts: Sequence[Part]) -> Merged:
    """
    Put together what is served, each spec read already, the oldest first.

    What was accepted may not fit together any more, when a catalogue that others lean on was deleted. Then everything
    that can still be kept is served: a class loses the fallbacks that are gone, and one that no size can hold any more
    refuses its pods with the reason. None at all give an empty catalogue.
    """
    joined = join(parts)
    known = {sla_class.name for sla_class in joined.classes}
    classes = [replace(c, fallback=tuple(name for name in c.fallback if name in known)) for c in joined.classes]
    return Merged(make_catalog(joined.sizes, classes, joined.budgets), tuple(map(str, sorted(set(joined.problems)))))

"""What became of an edit of a catalogue, and how its status says so. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from catalog.stored import Kept, Object

MAX_MESSAGE_CHARACTERS: Final = 1024
MAX_LINE_CHARACTERS: Final = 600  # of one problem
CONDITION: Final = "Accepted"


class Reason(StrEnum):
    """What became of the newest edit of a catalogue: the closed set that is also the condition's reason."""

    ACCEPTED = "Accepted"
    INVALID_CATALOG = "InvalidCatalog"  # a field is wrong, or names what no catalogue has
    NAME_TAKEN = "NameTaken"  # an older catalogue defines a size or class of this name differently
    BREAKS_CATALOG = "BreaksCatalog"  # another catalogue leans on what the edit takes away
    CLASS_IN_USE = "ClassInUse"  # pods run in a class that the edit takes away


@dataclass(frozen=True, slots=True)
class Keep:
    """What is to be kept before it serves: as a new object, or (*stored*) as one that is there, under a new number."""

    revision: str
    number: int
    stored: Kept | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What became of the newest edit of one catalogue.

    Attributes:
        catalog: Its name.
        revision: Of the spec as it stands; None where it is not sound.
        serving: The revision that serves from now on; None: nothing of this catalogue.
        problems: All of them, a line each; none: the edit is accepted.
        sizes: How many serve.
        classes: How many serve.
        keep: What to keep before the status says that it serves.
    """

    catalog: str
    revision: str | None
    serving: str | None
    reason: Reason
    problems: tuple[str, ...]
    sizes: int
    classes: int
    keep: Keep | None

    @property
    def accepted(self) -> bool:
        """Whether the newest edit serves."""
        return self.reason is Reason.ACCEPTED


def status_of(verdict: Verdict, thing: Object, now: datetime) -> dict[str, Any]:
    """
    Write what became of an edit as a JSON merge patch of the object's status; empty where the status says so already.

    Where only numbers of its sentence are new, as of one that counts pods, that waits for whoever writes the counts.

    Args:
        now: In UTC; when the condition changed, if it did.
    """
    old = thing.get("status") or {}
    condition, conditions = condition_of(verdict, thing), old.get("conditions") or []
    new = {
        "observedGeneration": condition["observedGeneration"],
        "revision": verdict.revision,
        "serving": verdict.serving,
        "sizes": verdict.sizes,
        "classes": verdict.classes,
        "conditions": conditions if is_said(condition, conditions) else with_condition(conditions, condition, now),
    }
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    return {"status": changed} if changed else {}


def condition_of(verdict: Verdict, thing: Object) -> dict[str, Any]:
    """Say in a condition what became of the newest edit of an object."""
    return {
        "type": CONDITION,
        "status": "True" if verdict.accepted else "False",
        "reason": verdict.reason.value,
        "message": message_of(verdict),
        "observedGeneration": thing["metadata"].get("generation"),
    }


def is_said(condition: Mapping[str, Any], conditions: Iterable[Object]) -> bool:
    """Tell whether conditions say all of one, but perhaps for the numbers in its sentence."""
    return any(_without_numbers(one, condition) == _without_numbers(condition, condition) for one in conditions)


def _without_numbers(one: Object, keys: Iterable[str]) -> dict[str, Any]:
    return {key: re.sub(r"\d+", "", str(one.get(key))) if key == "message" else one.get(key) for key in keys}


def settled(thing: Object, verdict: Verdict) -> Object:
    """Make of an object what it will be once its status names what serves from now on."""
    return {**thing, "status": {**(thing.get("status") or {}), "serving": verdict.serving}}


def with_condition(conditions: Sequence[Object], new: Mapping[str, Any], now: datetime) -> list[Any]:
    """Put a condition in the place of the one of its type; its time is *now*, in UTC, where its status changed."""
    before: Mapping[str, Any] = next((c for c in conditions if c.get("type") == new["type"]), {})
    since = before.get("lastTransitionTime") if before.get("status") == new["status"] else None
    condition = {**new, "lastTransitionTime": since or f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    return [condition if c is before else c for c in conditions] + [condition] * (not before)


def message_of(verdict: Verdict) -> str:
    """Say in one text of up to `MAX_MESSAGE_CHARACTERS` what became of an edit: the first problems, and what serves."""
    if verdict.accepted:
        return f"{counted(verdict.sizes, 'size')} and {counted(verdict.classes, 'class')} are served"
    if verdict.serving is None:
        end = "nothing of it is served"
    elif verdict.serving == verdict.revision:
        end = "what still holds of it is served on"
    else:
        end = f"{verdict.serving[:19]} is served on"
    lines = [p if len(p) <= MAX_LINE_CHARACTERS else f"{p[: MAX_LINE_CHARACTERS - 1]}…" for p in verdict.problems]
    for told in range(len(lines), 0, -1):
        more = (
            [f"and {len(lines) - told} more: `podsla catalog lint` of its file tells all"] if told < len(lines) else []
        )
        text = "; ".join([*lines[:told], *more, end])
        if len(text) <= MAX_MESSAGE_CHARACTERS:
            break
    return text


def counted(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"

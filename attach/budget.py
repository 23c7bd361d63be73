"""
GPU-minutes of namespaces: what each has held today, and whether it may hold more. Pure.

What an attachment has held since midnight, in UTC, stands in a ledger by its UID, so noting it twice changes nothing.
The ledger outlives the object: neither deleting an attachment nor a controller that dies gives minutes back.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from attach.api import Attachment, Type, parse_time, render_time

LEDGER: Final = "podsla-gpu-ledger"  # the ConfigMap
KEY: Final = "ledger.json"
DAY_S: Final = 86400
NOTE_EVERY_S: Final = 60  # of a GPU that is held: so much is lost at most where an object goes without its finalizer


@dataclass(frozen=True, slots=True)
class Ledger:
    """
    GPU-seconds of one day.

    Attributes:
        day: As 2027-03-01.
        held: By namespace, then by the UID of the attachment.
    """

    day: str = ""
    held: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def noted_s(self, one: "Attachment | KeptReady") -> int:
        """Say what stands in it of an attachment, or of what is kept ready."""
        return self.held.get(one.namespace, {}).get(one.uid, 0)


@dataclass(frozen=True, slots=True)
class KeptReady:
    """A GPU that a namespace keeps ready: the UID of the pod that reserves it, and since when, since 1970."""

    namespace: str
    uid: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Budget:
    """
    What a namespace may hold today, and what it has held.

    Attributes:
        used_s: GPU-seconds.
        until_s: When the day ends, since 1970.
    """

    minutes: int
    used_s: int
    until_s: float

    @property
    def spent(self) -> bool:
        """Whether it may hold no more today."""
        return self.used_s >= self.minutes * 60

    def __str__(self) -> str:
        used = f"{self.used_s // 60} of its {self.minutes} GPU-minutes of today are used"
        return f"{used}; there are more from {render_time(self.until_s)} on, or ask the owner of the catalogue"


def day_of(now_s: float) -> str:
    """Name the day, in UTC."""
    return render_time(now_s).partition("T")[0]


def day_ends_s(now_s: float) -> float:
    """Say when the day ends."""
    return (now_s // DAY_S + 1) * DAY_S


def held_today_s(attachment: Attachment, noted_s: int, now_s: float) -> int:
    """
    Count what an attachment has held of today, in GPU-seconds.

    What its pod keeps open past its end counts, as it does for others; a quarantine is nobody's to pay.

    Args:
        noted_s: What the ledger says, which it never falls below.
    """
    status = attachment.status
    quarantined = status.condition(Type.QUARANTINED)
    if status.attached_s is None or quarantined.get("status") == "False":  # one that is over does not say its beginning
        return noted_s
    end_s = min(now_s, attachment.finished_s or now_s)
    if quarantined:
        end_s = min(end_s, parse_time(quarantined["lastTransitionTime"]).timestamp())
    begin_s = max(status.attached_s, day_ends_s(now_s) - DAY_S)
    return max(noted_s, int(end_s - begin_s) * attachment.spec.count)


def bring_up_to(
    ledger: Ledger, attachments: Iterable[Attachment], now_s: float, ready: Iterable[KeptReady] = ()
) -> Ledger:
    """
    Count what is held now; what stands in the ledger of attachments that are gone stays there for the day.

    Args:
        ready: What is kept for the next attachment is held, too.
    """
    day = day_of(now_s)
    held = {name: dict(each) for name, each in ledger.held.items()} if ledger.day == day else {}
    for attachment in attachments:
        own = held.get(attachment.namespace, {})
        figure_s = held_today_s(attachment, own.get(attachment.uid, 0), now_s)
        if figure_s:
            held[attachment.namespace] = {**own, attachment.uid: figure_s}
    for one in ready:
        own = held.get(one.namespace, {})
        since_midnight_s = int(now_s - max(one.since_s, day_ends_s(now_s) - DAY_S))
        held[one.namespace] = {**own, one.uid: max(own.get(one.uid, 0), since_midnight_s)}
    return Ledger(day, held)


def is_due(old: Ledger, new: Ledger, attachments: Iterable[Attachment], ready: Iterable[KeptReady] = ()) -> bool:
    """Say whether it must be written: a day begins, an attachment has ended, or one has held a minute more."""
    late_s = [(new.noted_s(one) - old.noted_s(one), one.is_finished) for one in attachments]
    late_s += [(new.noted_s(one) - old.noted_s(one), False) for one in ready]
    return old.day != new.day or any(s >= NOTE_EVERY_S or (s > 0 and ended) for s, ended in late_s)


def used_s(ledger: Ledger, namespace: str) -> int:
    """Sum up what a namespace has held."""
    return sum(ledger.held.get(namespace, {}).values())


def read_ledger(text: str) -> Ledger:
    """
    Read it.

    Raises:
        ValueError: It is not one.
    """
    if not text:
        return Ledger()
    try:
        written = json.loads(text)
        held = {str(name): {str(uid): int(s) for uid, s in each.items()} for name, each in written["held"].items()}
        return Ledger(str(written["day"]), held)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no ledger of GPU-seconds: {error!r}") from None


def render_ledger(ledger: Ledger) -> str:
    """Write it."""
    return json.dumps({"day": ledger.day, "held": ledger.held}, sort_keys=True)

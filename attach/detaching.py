"""How a device is taken back, and when it is free: decisions in the states from Draining on. Pure."""

import signal
from collections.abc import Sequence
from dataclasses import replace

from attach.case import (
    CHECK_EVERY_S,
    CLEAN_CHECKS,
    KILL_WITHIN_S,
    LOOK_EVERY_S,
    REVOKE_WITHIN_S,
    TERM_WITHIN_S,
    VERIFY_WITHIN_S,
    Case,
    describe,
    strangers_among,
    unhealthy,
)
from attach.entry import Do, Entry, Policy, Signal, Step, Trouble, Verb, Write
from attach.model import Holder, NodeState
from attach.reasons import Reason
from attach.transitions import Event


def draining(case: Case) -> Step:
    """Hide the nodes; give the pod its grace period, or as long as it needs of it."""
    if (step := _hide(case)) is not None:
        return step
    if case.seen.holders == () or case.is_past:
        return case.write(Event.DRAINED, case.entry.reason, case.entry.message, within_s=REVOKE_WITHIN_S)
    return case.wait(None, within_s=min(LOOK_EVERY_S, case.entry.until_s - case.now.boot_s))


def _hide(case: Case) -> Do | None:
    """Hide nodes of ours that stand there; a container that has ended, or that can't be entered, keeps them."""
    if case.container is None or case.seen.trouble is not None:
        return None
    standing = [node for node in reversed(case.entry.nodes) if case.seen.nodes.get(node) is NodeState.RIGHT]
    hidden = tuple(node for node in case.own(standing) if node in case.entry.made)
    return Do(Verb.HIDE, case.container, hidden) if hidden else None


def revoking(case: Case) -> Step:
    """Take the rules away."""
    entry, trouble = case.entry, case.seen.trouble
    denied = case.write(Event.DENIED, entry.reason, entry.message, within_s=VERIFY_WITHIN_S)
    if entry.container is None:
        return denied
    if trouble is None:  # even where nothing is seen to be allowed: a rule may be covered by another's denial
        return Do(Verb.DENY, entry.container, case.own(entry.granted), denied.entry)
    return case.write(Event.STUCK, trouble.reason, trouble.message) if case.is_past else case.wait(trouble)


def _deny_again(case: Case) -> Do | None:
    """Take back what a runtime or systemd has put there again."""
    entry, allowed = case.entry, case.seen.allowed
    if entry.container is None or isinstance(allowed, Trouble) or case.seen.trouble is not None:
        return None
    again = tuple(node for node in case.own(entry.granted) if node.rdev in allowed)
    return Do(Verb.DENY, entry.container, again) if again else None


def _rules(case: Case) -> Trouble | None:
    allowed = case.seen.allowed
    if isinstance(allowed, Trouble):
        return allowed
    if any(node.rdev in allowed for node in case.own(case.entry.granted)):
        return Trouble("StillAllowed", "a device rule stands there again as often as it is taken away")
    return None


def doubt(case: Case) -> Trouble | None:
    """Say why the devices aren't known to be free; None: they are."""
    entry, seen = case.entry, case.seen
    if (ruled := _rules(case)) is not None:
        return ruled
    if isinstance(seen.holders, Trouble):
        return seen.holders
    if seen.holders:
        return Trouble("DeviceBusy", f"{describe(seen.holders)} has the device open")
    if isinstance(seen.gpus, Trouble):
        return seen.gpus
    return unhealthy(entry.gpus, seen.gpus)


def _clean(case: Case, reason: Reason | None = None, message: str = "") -> Write:
    """Nothing of ours is left; without a reason of its own it ends for the reason that it was detached for."""
    event = Event.CLEAN_REFUSED if case.entry.failed else Event.CLEAN
    written = case.write(event, reason or case.entry.reason, message or case.entry.message)
    return Write(replace(written.entry, container=None, made=(), granted=()))


def verifying(case: Case) -> Step:
    """See that nobody has the device open any more."""
    if not case.is_past and (step := _deny_again(case) or _hide(case)) is not None:
        return step
    why = doubt(case)
    if why is None:
        unseen = next((state for state in case.seen.nodes.values() if isinstance(state, Trouble)), None)
        return case.wait(unseen) if unseen and not case.is_past else _clean(case)  # a node gives nothing by itself
    if why.reason == "DeviceBusy" and not isinstance(case.seen.holders, Trouble):
        return _busy(case, case.seen.holders, why)
    return case.write(Event.HELD_OTHERWISE, why.reason, why.message) if case.is_past else case.wait(why)


def _busy(case: Case, holders: Sequence[Holder], why: Trouble) -> Step:
    entry = case.entry
    strangers, own = _told_apart(entry, holders)
    if own and (entry.wish.policy is Policy.TERMINATE or entry.wish.reservation_lost):
        return _terminate(case, own, why)
    if not case.is_past:
        return case.wait(why)
    if strangers:
        message = f"{describe(strangers)} has the device open, and is not the pod's"
        return case.write(Event.HELD_OTHERWISE, "HeldByOther", message)
    return case.write(Event.HELD_BY_POD, "DeviceBusy", why.message)


def _told_apart(entry: Entry, holders: Sequence[Holder]) -> tuple[list[Holder], list[Holder]]:
    """Tell strangers from the target pod's own processes."""
    strangers = strangers_among(entry, holders)
    return strangers, [holder for holder in holders if holder not in strangers]


def _terminate(case: Case, own: Sequence[Holder], why: Trouble) -> Step:
    """TERM, and after a while KILL, as often as more holders appear; what outlives that is nobody's to give."""
    entry = case.entry
    if entry.signalled == signal.SIGKILL and case.is_past:
        return case.write(Event.HELD_OTHERWISE, "Unkillable", f"{describe(own)} was killed and has the device open")
    if entry.signalled == signal.SIGTERM and not case.is_past:
        return case.wait(why)
    kill = entry.signalled != 0 or entry.wish.reservation_lost
    number, within_s = (signal.SIGKILL, KILL_WITHIN_S) if kill else (signal.SIGTERM, TERM_WITHIN_S)
    until_s = entry.until_s if entry.signalled == signal.SIGKILL else case.now.boot_s + within_s
    return _signal(entry, own, number, until_s)


def _signal(entry: Entry, own: Sequence[Holder], number: signal.Signals, until_s: float) -> Signal:
    processes = tuple(sorted({holder.process for holder in own}, key=lambda process: process.pid))
    return Signal(processes, entry.wish.target.uid, number, replace(entry, signalled=int(number), until_s=until_s))


def overdue(case: Case) -> Step:
    """Wait for the target pod, whose the device still is."""
    if case.entry.wish.reservation_lost:
        return case.write(Event.LOST, "ReservationLost", "the device is no longer reserved", VERIFY_WITHIN_S)
    if (step := _deny_again(case) or _hide(case)) is not None:
        return step
    why, holders = doubt(case), case.seen.holders
    if why is None:
        return _clean(case, "Closed", "the pod has closed the device")
    if not isinstance(holders, Trouble) and (strangers := strangers_among(case.entry, holders)):
        return case.write(Event.HELD_OTHERWISE, "HeldByOther", f"{describe(strangers)} has the device open")
    if why.reason in ("DeviceLost", "DeviceUnhealthy"):  # nobody has it open any more
        return case.write(Event.HELD_OTHERWISE, why.reason, why.message)
    return case.wait(why)


def quarantined(case: Case) -> Step:
    """Ask for three clean checks in a row, some time apart, or an administrator's word."""
    entry = case.entry
    if (step := _deny_again(case)) is not None:
        return step
    if entry.wish.reservation_lost and not entry.signalled and not isinstance(case.seen.holders, Trouble):
        _, own = _told_apart(entry, case.seen.holders)
        if own:  # the kubelet gives the device away: no policy lets the pod keep it
            return _signal(entry, own, signal.SIGKILL, entry.until_s)
    if entry.wish.force and _rules(case) is None:  # no word makes up for a rule that still lets the pod in
        forced = case.write(Event.FORCED, "Forced", "released by force, unchecked").entry
        return _deny_first(case, Write(replace(forced, container=None)))
    if not case.is_past:
        return case.wait(Trouble(entry.reason, entry.message), within_s=entry.until_s - case.now.boot_s)
    why = doubt(case)
    if why is not None:
        again = case.wait(why, within_s=CHECK_EVERY_S)
        return Write(replace(entry, clean_checks=0)) if entry.clean_checks else again
    if entry.clean_checks + 1 >= CLEAN_CHECKS:
        return _deny_first(case, _clean(case, "FoundFree", f"found free {CLEAN_CHECKS} times in a row"))
    return Write(replace(entry, clean_checks=entry.clean_checks + 1, until_s=case.now.boot_s + CHECK_EVERY_S))


def _deny_first(case: Case, after: Write) -> Step:
    """Deny once more before the end: a rule that something else covered when it could not be denied is not seen."""
    entry, trouble = case.entry, case.seen.trouble
    if entry.container is None:
        return after
    return case.wait(trouble) if trouble else Do(Verb.DENY, entry.container, case.own(entry.granted), after.entry)

"""
The next step of an attachment that the journal knows. Pure: it is a function of what is wanted, kept and seen.

A rule comes before its node and goes after it, so that no node stands there without permission. What can't be found out
counts as busy. Access is taken back before anybody asks who still has the device open.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from attach.attaching import attached, attaching
from attach.case import Case, is_same
from attach.detaching import draining, overdue, quarantined, revoking, verifying
from attach.entry import Drop, Entry, Now, Step, Wait, Wish, Write, lease_until
from attach.model import Process
from attach.transitions import Event, State


def plan(case: Case) -> Step:
    """Decide the next step; `Wait` once there is nothing to do."""
    renewed = take_over(case.entry, case.wish, case.now)
    if renewed != case.entry:
        return Write(renewed)
    return _PLANS[case.entry.state](case)


def take_over(entry: Entry, wish: Wish | None, now: Now) -> Entry:
    """Take over what may change of a wish: a lease is renewed, never shortened; an end is never called back."""
    if wish is None or entry.is_final:
        return entry
    old = entry.wish
    lost, same = wish.reservation_lost, is_same(old, wish)
    new = replace(
        old,
        target=wish.target if same and entry.container is None and entry.state is State.ATTACHING else old.target,
        release=old.release or wish.release,
        reservation_lost=old.reservation_lost or lost,
        force=wish.force,
    )
    if same and entry.state in (State.ATTACHING, State.ATTACHED) and wish.renew_time_s > old.renew_time_s:
        new = replace(new, renew_time_s=wish.renew_time_s)
        entry = replace(entry, lease_until_s=lease_until(new, now))
    if entry.state is State.DRAINING and lost and not old.reservation_lost:
        entry = replace(entry, until_s=now.boot_s)
    return replace(entry, wish=new)


def after_boot(entry: Entry, residents: frozenset[Process], now: Now) -> Entry:
    """Keep of an entry what a boot leaves true: what is wanted, and what is not known to be free."""
    if entry.is_final:
        return entry
    if entry.state is State.ATTACHED:
        entry = entry.after(Event.DRIFTED, "NodeRebooted", "the node was started anew", now)
    return replace(
        entry,
        container=None,
        made=(),
        granted=(),
        residents=residents,
        until_s=now.boot_s,
        lease_until_s=lease_until(entry.wish, now),
    )


def _over(case: Case) -> Step:
    return Drop(case.entry.uid) if case.wish is None else Wait()


_PLANS: Final[Mapping[State, Callable[[Case], Step]]] = {
    State.ATTACHING: attaching,
    State.ATTACHED: attached,
    State.DRAINING: draining,
    State.REVOKING: revoking,
    State.VERIFYING: verifying,
    State.OVERDUE: overdue,
    State.QUARANTINED: quarantined,
    State.RELEASED: _over,
    State.FAILED: _over,
}

"""How a container comes to open its devices, and stays so: decisions in the states Attaching and Attached. Pure."""

from dataclasses import replace
from typing import Final

from attach.case import ATTACH_WITHIN_S, Case, announce, describe, is_same, renumbered, strangers_among, unhealthy
from attach.entry import Do, Step, Trouble, Verb, Write, residents_among
from attach.model import Access, Container, NodeState
from attach.reasons import Over, Reason
from attach.transitions import Event

_STANDS: Final = frozenset({NodeState.RIGHT, NodeState.HOST})


def ended(case: Case) -> Over | None:
    """Say why an attachment is to end, or None."""
    wish, now = case.entry.wish, case.now
    if wish.reservation_lost:
        return "ReservationLost", "the device is no longer reserved for the pod"
    if wish.release is not None:
        return wish.release
    if case.wish is None:
        return "Withdrawn", "it is no longer in the desired state"
    if now.wall_s >= wish.expires_s or now.boot_s >= case.entry.lease_until_s:
        return "LeaseExpired", f"its lease of {wish.lease_s} s was not renewed"
    return None


def _end(case: Case) -> Step | None:
    why = ended(case)
    if why is None:
        return None
    wish = case.entry.wish
    return case.write(Event.ENDED, *why, within_s=0.0 if wish.reservation_lost else float(wish.grace_s))


def attaching(case: Case) -> Step:
    """Make rules and nodes, in the container that runs now."""
    entry, seen = case.entry, case.seen
    if (step := _end(case)) is not None:
        return step
    if entry.container is not None and (unfit := renumbered(case) or unhealthy(entry.gpus, seen.gpus)):
        return case.fail(unfit.reason, unfit.message)
    if isinstance(seen.container, Trouble):
        return _retry(case, seen.container)
    if entry.container is None:
        return _adopt(case)
    if case.container is None:  # whatever runs in the old cgroup still must not open the device
        gone = replace(entry, container=None, made=(), granted=())
        return _retry(case, seen.trouble) if seen.trouble else Do(Verb.DENY, entry.container, entry.granted, gone)
    if seen.trouble is not None:
        return _retry(case, seen.trouble)
    return _make(case, case.container)


def _make(case: Case, container: Container) -> Step:
    """Say what is going to be made, allow what isn't allowed, show what doesn't stand there, see it opened."""
    entry, seen = case.entry, case.seen
    if isinstance(seen.allowed, Trouble):
        return _retry(case, seen.allowed)
    for node, state in seen.nodes.items():
        if isinstance(state, Trouble):
            return _retry(case, state)
        if state is NodeState.FOREIGN:
            return case.fail("NodeForeign", f"something else stands at {node.path} in the container; remove it")
    announced = announce(entry, seen, case.others)
    if announced != entry:
        return Write(announced)
    missing = tuple(node for node in entry.nodes if node.rdev not in seen.allowed)
    if missing:
        return Do(Verb.ALLOW, container, missing)
    absent = tuple(node for node in entry.nodes if seen.nodes[node] is NodeState.ABSENT)
    return Do(Verb.SHOW, container, absent) if absent else _verify(case)


def _verify(case: Case) -> Step:
    for node in case.entry.nodes:
        access = case.seen.access[node]
        if isinstance(access, Trouble):
            return _retry(case, access)
        if access is not Access.OPENS:
            words = {Access.DENIED: "is denied", Access.MISSING: "does not exist", Access.FAILS: "fails"}
            return _retry(case, Trouble("VerifyFailed", f"opening {node.path} in the container {words[access]}"))
    return case.write(Event.OPENED, "Attached", "the container opens every device")


def _adopt(case: Case) -> Step:
    """Go on in the container that runs now; its rules and nodes are its own until looked at."""
    entry, seen = case.entry, case.seen
    if seen.container is None or isinstance(seen.container, Trouble):
        return case.wait(Trouble("ContainerGone", "the container has ended; waiting for it to start again"))
    gpus = seen.gpus
    if isinstance(gpus, Trouble):
        return case.wait(gpus)
    if (unfit := unhealthy(entry.gpus, gpus)) is not None:
        return case.fail(unfit.reason, unfit.message)
    if isinstance(seen.holders, Trouble):
        return case.wait(seen.holders)
    residents = entry.residents | residents_among(seen.holders)
    strangers = [holder for holder in strangers_among(entry, seen.holders) if holder.process not in residents]
    if strangers:
        return case.wait(Trouble("DeviceBusy", f"{describe(strangers)} has the device open"))
    found = tuple(gpus[uuid] for uuid in entry.wish.devices)
    until_s = case.now.boot_s + ATTACH_WITHIN_S
    return Write(replace(entry, container=seen.container, gpus=found, residents=residents, until_s=until_s))


def _retry(case: Case, trouble: Trouble) -> Step:
    """Try again, until it is refused or has lasted too long."""
    if trouble.refused or (case.is_past and case.entry.container is not None):
        return case.fail(trouble.reason, trouble.message)
    return case.wait(trouble)


def attached(case: Case) -> Step:
    """Look for an end and for drift."""
    entry, seen = case.entry, case.seen
    if (step := _end(case)) is not None:
        return step
    if (moved := renumbered(case)) is not None:
        return case.fail(moved.reason, moved.message)
    if isinstance(seen.container, Trouble):
        return case.wait(seen.container)
    if case.container is None:
        return _repair(case, "ContainerGone", "the container has ended")
    if isinstance(seen.allowed, Trouble):
        return case.wait(seen.allowed)
    if missing := [node.path for node in entry.nodes if node.rdev not in seen.allowed]:
        return _repair(case, "RuleGone", f"the device rule for {', '.join(missing)} is gone")
    states = {node: seen.nodes[node] for node in entry.nodes}
    for state in states.values():
        if isinstance(state, Trouble):
            return case.wait(state)
    if missing := [node.path for node, state in states.items() if state not in _STANDS]:
        return _repair(case, "NodeGone", f"{', '.join(missing)} is no longer what was made")
    unfit = unhealthy(entry.gpus, seen.gpus)
    if case.wish is not None and not is_same(entry.wish, case.wish):
        unfit = Trouble("SpecChanged", "pod and devices of an attachment can't change; make another attachment")
    left_s = min(entry.lease_until_s - case.now.boot_s, entry.wish.expires_s - case.now.wall_s)
    return case.wait(unfit, within_s=max(0.0, left_s))


def _repair(case: Case, reason: Reason, message: str) -> Step:
    return case.write(Event.DRIFTED, reason, message, within_s=ATTACH_WITHIN_S)

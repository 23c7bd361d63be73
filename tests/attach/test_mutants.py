"""Tests of the tests: for each invariant a bug is planted, and a check of that invariant must find it."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import attach.attaching
import attach.begin
import attach.case
import attach.detaching
import attach.observe
import attach.plan
import attach.reconcile
from attach.entry import Entry, Now, Observed, Trouble, Wish
from attach.journal import Journal
from attach.observe import Node
from attach.transitions import Event
from tests.attach.machine import NodeMachine
from tests.attach.stories import STORIES, tell
from tests.attach.world import World

SEARCH = settings(
    max_examples=400, stateful_step_count=30, derandomize=True, database=None, deadline=None,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck), report_multiple_bugs=False, print_blob=False,
)  # fmt: skip

_held, _observe, _save = attach.begin._holder, attach.observe._holders, attach.reconcile.Reconciler._save
_apply, _after_boot, _announce = attach.reconcile.Reconciler._apply, attach.plan.after_boot, attach.case.announce


def _never(*_: Any) -> None:
    return None


def _holders_or_none(node: Node, *rest: Any) -> Any:
    found = _observe(node, *rest)
    return () if isinstance(found, Trouble) else found


def _holder_but_quarantined(uuid: str, entries: Any) -> Entry | None:
    return _held(uuid, [entry for entry in entries if entry.state != "Quarantined"])


def _announce_nothing(entry: Entry, _seen: Observed, _others: Any) -> Entry:
    return entry


def _make_all(entry: Entry, seen: Observed, others: Any) -> Entry:
    return replace(_announce(entry, seen, others), made=entry.nodes)


def _say_attached(case: Any, _container: Any) -> Any:
    return case.write(Event.OPENED, "Attached", "unseen")


def _endless(_wish: Wish, now: Now) -> float:
    return now.boot_s + 1e9


def _by_its_word(case: Any) -> tuple[str, str] | None:
    return ("ReleaseRequested", "") if case.entry.wish.release or case.wish is None else None


def _save_later(self: Any, journal: Journal) -> None:
    """Keep the first line of an attachment in memory until the second."""
    known = journal.entries.keys() == self.journal.entries.keys()
    self.journal = journal
    if known:
        _save(self, journal)


def _boot_keeps_numbers(entry: Entry, residents: Any, now: Now) -> Entry:
    return replace(_after_boot(entry, residents, now), container=entry.container)


MUTANTS: list[Any] = [
    pytest.param(attach.begin, "_holder", _never, id="I1: the journal isn't asked who has the device"),
    pytest.param(
        attach.begin,
        "residents_among",
        lambda held: frozenset(h.process for h in held),
        id="I1: a device that somebody has open is given away",
    ),
    pytest.param(attach.begin, "_numbers_taken", _never, id="I1: a number that was moved to another GPU is given away"),
    pytest.param(attach.begin, "_holder", _holder_but_quarantined, id="I2: a quarantined device is handed on"),
    pytest.param(attach.attaching, "announce", _announce_nothing, id="I3: what is made is not announced"),
    pytest.param(attach.reconcile.Reconciler, "_save", _save_later, id="I3: effects before the journal is saved"),
    pytest.param(attach.attaching, "renumbered", _never, id="I4: numbers are believed for ever"),
    pytest.param(attach.observe, "_holders", _holders_or_none, id="I6: unknown is taken for free"),
    pytest.param(attach.attaching, "ended", _by_its_word, id="I7: leases don't end"),
    pytest.param(attach.begin, "lease_until", _endless, id="I7: leases end by the wall clock alone"),
    pytest.param(attach.detaching, "strangers_among", lambda *_: [], id="I8: everybody is killed"),
    pytest.param(attach.attaching, "announce", _make_all, id="I9: what the runtime gave is taken for ours"),
    pytest.param(attach.attaching, "_make", _say_attached, id="I11: attached before it was seen"),
    pytest.param(attach.detaching, "doubt", _never, id="I11: released before it was seen free"),
    pytest.param(attach.detaching, "_deny_again", _never, id="I11: a rule that came back is left"),
]


def faults() -> Iterator[str]:
    """Tell every story, then let anything happen; what no check forbids may still break a story's own steps."""
    for story in STORIES:
        try:
            tell(story, World())
        except (AssertionError, KeyError) as fault:
            yield str(fault)
    try:
        run_state_machine_as_test(NodeMachine, settings=SEARCH)
    except AssertionError as fault:
        yield str(fault)


@pytest.mark.parametrize(("module", "name", "bug"), MUTANTS)
def test_a_planted_bug_is_found(
    module: Any, name: str, bug: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A check begins what it says with the invariants that it is of."""
    monkeypatch.setattr(module, name, bug)
    invariant = request.node.callspec.id.partition(":")[0]

    assert any(re.match(rf"(I\d+, )*{invariant}\b", fault) for fault in faults())

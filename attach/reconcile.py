"""
The loop body: brings every attachment of the node nearer to what is desired, as far as it goes now.

Level-triggered: each pass reads the journal, the desired state and the node afresh, so it may run at any time, any
number of times, and after any crash. The journal says what is about to be done before the first effect of it.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, assert_never

from attach.begin import begin, find_gpus, refusal
from attach.case import LOOK_EVERY_S, Case
from attach.entry import (
    Do,
    Drop,
    Entry,
    Now,
    Observed,
    Signal,
    Step,
    Trouble,
    Verb,
    Wait,
    Wish,
    Write,
    residents_among,
)
from attach.errors import AttachError, Unknown
from attach.journal import Journal, decode, encode
from attach.model import Container, DeviceNode, Gpu, Holder, Process
from attach.observe import Node, observe_gpus, observe_held, observe_new, trouble_of
from attach.plan import after_boot, plan
from attach.points import Hook, nowhere, point
from attach.reasons import Reason
from attach.transitions import State

MAX_STEPS: Final = 64  # of one attachment in one pass; a whole attach with eight GPUs takes some thirty
AFTER_SIGNAL_S: Final = 0.1
TAKERS: Final = frozenset({State.ATTACHING, State.ATTACHED})

_log: Final = logging.getLogger(__name__)


class Clock(Protocol):
    """Time, and which boot it is."""

    def now(self) -> Now:
        """Read both clocks."""

    def boot_id(self) -> str:
        """Read what is another after every boot."""


class Store(Protocol):
    """Where the journal is."""

    def load(self) -> bytes | None:
        """Read it; None: there has never been one."""

    def save(self, data: bytes) -> None:
        """Replace it as a whole; on return it outlives a crash."""


class Recorder(Protocol):
    """What is counted."""

    def stepped(self, verb: str, result: str, duration_s: float) -> None:
        """Note a step: "Done", or the reason why it failed."""

    def moved(self, before: Entry | None, after: Entry) -> None:
        """Note that the journal says something else of an attachment."""

    def held(self, holders: int) -> None:
        """Note how many processes were found to have a device open that is to be free."""


@dataclass(frozen=True, slots=True)
class Desired:
    """
    What is wanted of this node, as far as it could be read.

    Attributes:
        refused: What is wrong with a wish, by its UID; what the journal says of that attachment stays.
        complete: Whether an attachment that is not named is no longer wanted.
        system_pods: UIDs of pods that may have any device open, as the device plugin and monitoring do.
    """

    wishes: Mapping[str, Wish] = field(default_factory=dict)
    refused: Mapping[str, Trouble] = field(default_factory=dict)
    complete: bool = True
    system_pods: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Status:
    """
    How an attachment stands after a pass.

    Attributes:
        entry: None: it has not begun, and nothing is held.
        reason, message: What it waits for, or how it ended.
        holders: Who has its devices open, where that was looked at.
    """

    uid: str
    entry: Entry | None
    reason: Reason
    message: str
    due_s: float | None = None
    holders: tuple[Holder, ...] = ()


class Reconciler:
    """
    Reconciles the attachments of one node.

    Attributes:
        at: Called at every crash point.
    """

    def __init__(self, node: Node, store: Store, clock: Clock, recorder: Recorder, at: Hook = nowhere) -> None:
        self.node, self.store, self.clock, self.recorder, self.at = node, store, clock, recorder, at
        self.journal = Journal("")
        self._unsaved = False  # a disk that is full keeps nobody's access open: what narrows it is not held up

    def reconcile(self, desired: Desired) -> list[Status]:
        """
        Bring every attachment as far as it goes now.

        Raises:
            JournalError: The journal can't be used; nothing was done.
        """
        self.recall()
        gpus = observe_gpus(self.node) if self.journal.entries or desired.wishes else {}  # asking may cost a process
        if self.journal.boot_id != self.clock.boot_id():
            self._after_boot(gpus)
        known = frozenset(self.journal.entries)
        statuses = [self._advance(entry.uid, desired, gpus) for entry in self._takers_last()]
        statuses += [self._begin(wish, desired, gpus) for uid, wish in desired.wishes.items() if uid not in known]
        statuses += [
            Status(uid, None, trouble.reason, trouble.message)
            for uid, trouble in desired.refused.items()
            if uid not in known
        ]
        return sorted(statuses, key=lambda status: status.uid)

    def recall(self) -> Mapping[str, Entry]:
        """
        Read the journal anew.

        Raises:
            JournalError: It can't be used.
        """
        if self._unsaved:
            self._save(self.journal)
            return self.journal.entries
        data = self.store.load()
        self.journal = Journal(self.clock.boot_id()) if data is None else decode(data)
        return self.journal.entries

    def _takers_last(self) -> list[Entry]:
        """Take back before giving: what becomes free can be given in the same pass."""
        return sorted(self.journal.entries.values(), key=lambda entry: (entry.state in TAKERS, entry.uid))

    def _begin(self, wish: Wish, desired: Desired, gpus: Mapping[str, Gpu] | Trouble) -> Status:
        entries, now = self.journal.entries.values(), self.clock.now()
        found = refusal(wish, desired.wishes.values(), entries, now) or find_gpus(wish, gpus)
        if isinstance(found, Trouble):
            return Status(wish.uid, None, found.reason, found.message)
        seen = observe_new(self.node, wish, found, desired.system_pods)
        step = begin(wish, found, entries, seen, now)
        if isinstance(step, Trouble):
            return Status(wish.uid, None, step.reason, step.message)
        if (trouble := self._apply(step)) is not None:
            return Status(wish.uid, None, trouble.reason, trouble.message)
        return self._advance(wish.uid, desired, gpus)

    def _advance(self, uid: str, desired: Desired, gpus: Mapping[str, Gpu] | Trouble) -> Status:
        """Take steps until there is nothing more to do now, or one of them changes nothing."""
        trouble: Trouble | None = None
        last: Step | None = None
        for _ in range(MAX_STEPS):
            entry = self.journal.entries[uid]
            seen = observe_held(self.node, entry, gpus, desired.system_pods, trouble)
            wish = desired.wishes.get(uid) or (entry.wish if uid in desired.refused or not desired.complete else None)
            step = plan(Case(wish, entry, self.journal.others(uid), seen, self.clock.now()))
            if isinstance(step, Wait):
                return self._status(entry, seen, step, desired)
            if step == last and trouble is None:
                trouble = Trouble("NoEffect", "the step was taken, and nothing came of it")
                continue
            trouble = self._apply(step)
            if isinstance(step, Drop):
                return Status(uid, None, entry.reason, entry.message)
            if isinstance(step, Signal):
                return self._status(
                    self.journal.entries[uid], seen, Wait(self.clock.now().boot_s + AFTER_SIGNAL_S), desired
                )
            last = step
        return self._status(self.journal.entries[uid], seen, Wait(self.clock.now().boot_s + LOOK_EVERY_S), desired)

    def _status(self, entry: Entry, seen: Observed, wait: Wait, desired: Desired) -> Status:
        holders = () if isinstance(seen.holders, Trouble) else seen.holders
        if holders:
            self.recorder.held(len(holders))
        refused = desired.refused.get(entry.uid)
        why = wait.trouble or refused or entry
        return Status(entry.uid, entry, why.reason, why.message, wait.until_s, holders)

    def _apply(self, step: Step) -> Trouble | None:
        match step:
            case Write(entry):
                try:
                    self._put(entry)
                except Unknown as error:
                    return trouble_of(error)
            case Drop(uid):
                self._save(replace(self.journal, entries={e.uid: e for e in self.journal.others(uid)}))
            case Do():
                return self._do(step)
            case Signal():
                for process in step.processes:
                    self._signal(process, step.pod_uid, step.number)
                self._put(step.then)
            case Wait():
                pass
            case _:
                assert_never(step)
        return None

    def _do(self, step: Do) -> Trouble | None:
        effects = {Verb.ALLOW: self._allow, Verb.SHOW: self._show_all, Verb.HIDE: self._hide_all, Verb.DENY: self._deny}
        started_s = self.clock.now().boot_s
        try:
            effects[step.verb](step)
        except AttachError as error:
            self.recorder.stepped(step.verb, error.reason, self.clock.now().boot_s - started_s)
            return trouble_of(error)
        self.recorder.stepped(step.verb, "Done", self.clock.now().boot_s - started_s)
        if step.then is not None:
            self._put(step.then)
        return None

    def _show_all(self, step: Do) -> None:
        for node in step.nodes:
            self._show(step.container, node)

    def _hide_all(self, step: Do) -> None:
        for node in step.nodes:
            self._hide(step.container, node)

    @point("allow")
    def _allow(self, step: Do) -> None:
        self.node.rules.allow(step.container.cgroup, step.nodes)

    @point("show")
    def _show(self, container: Container, node: DeviceNode) -> None:
        self.node.nodes.show(container, node)

    @point("hide")
    def _hide(self, container: Container, node: DeviceNode) -> None:
        self.node.nodes.hide(container, node)

    @point("deny")
    def _deny(self, step: Do) -> None:
        self.node.rules.deny(step.container.cgroup, step.nodes)

    @point("signal")
    def _signal(self, process: Process, pod_uid: str, number: int) -> None:
        self.node.processes.signal(process, pod_uid, number)

    @point("save the journal")
    def _save(self, journal: Journal) -> None:
        """
        Write the journal down; what takes access back is only kept in mind where that fails, and written down later.

        Raises:
            Unknown: It fails, and effects are about to come that the journal on disk does not announce.
        """
        try:
            self.store.save(encode(journal))
        except OSError as error:
            message = f"the journal can't be written: {error.strerror}; make room on the disk, or let it be written"
            if not self._unsaved:
                _log.critical("journal not written", extra={"fields": {"error": message}})
            if _announces_more(self.journal, journal):
                raise Unknown("JournalUnwritable", message) from error
            self._unsaved = True
        else:
            self._unsaved = False
        self.journal = journal

    def _put(self, entry: Entry) -> None:
        """Say so in the journal, then in the log."""
        before = self.journal.entries.get(entry.uid)
        self._save(replace(self.journal, entries={**self.journal.entries, entry.uid: entry}))
        self._tell(before, entry)

    def _tell(self, before: Entry | None, entry: Entry) -> None:
        if before is not None and before.state is entry.state:
            return
        self.recorder.moved(before, entry)
        fields = {
            "uid": entry.uid,
            "pod": str(entry.wish.target),
            "devices": list(entry.wish.devices),
            "from": before.state if before else None,
            "to": entry.state,
            "reason": entry.reason,
            "detail": entry.message,
        }
        _log.info("attachment changed", extra={"fields": fields})

    def _after_boot(self, gpus: Mapping[str, Gpu] | Trouble) -> None:
        """Containers, processes and numbers of another boot mean nothing; what must be free must still be seen free."""
        rdevs = set() if isinstance(gpus, Trouble) else {gpu.node.rdev for gpu in gpus.values()}
        try:
            residents = residents_among(self.node.processes.holders(rdevs))
        except AttachError:
            residents = frozenset()
        now, before = self.clock.now(), self.journal.entries
        entries = {uid: after_boot(entry, residents, now) for uid, entry in before.items()}
        self._save(Journal(self.clock.boot_id(), entries))
        for uid, entry in entries.items():
            self._tell(before[uid], entry)


def _announces_more(before: Journal, after: Journal) -> bool:
    """Tell whether a journal announces an attachment, a node or a rule that the one before does not."""
    old = before.entries
    return any(uid not in old or not _announced(one) <= _announced(old[uid]) for uid, one in after.entries.items())


def _announced(entry: Entry) -> set[object]:
    nodes = {("node", entry.container, at) for at in entry.made}
    return nodes | {("rule", entry.container, at) for at in entry.granted}

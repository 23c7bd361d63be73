"""Decisions by what they were taken of: pods of one workload are alike, so all but the first two are looked up."""

from datetime import date
from typing import Final

from catalog.fit import Index
from catalog.pod import Subject
from webhook.decide import Labels, decide
from webhook.decision import Decision, Place
from webhook.record import render_record

MAX_DECISIONS: Final = 256  # workloads that are rolled out at the same time
MAX_MET: Final = 4096  # pods among which the second of a workload is known as such
MAX_RECORD_CHARACTERS: Final = 8192  # a pod of thousands of containers is not worth the memory

Key = tuple[Subject, frozenset[tuple[str, str]], date]


class Memo:
    """
    What one catalogue and target gave to which pods.

    A decision follows from a `Subject`, its namespace's labels and the day, and from nothing else: what is looked up
    is what would have been decided. Refusals are not kept, since their pods do not come by the hundred; nor is what is
    decided for the first time, since to keep what never comes again costs a tenth of a decision.
    """

    def __init__(self) -> None:
        self._taken: dict[Key, tuple[Place, str]] = {}
        self._met: set[int] = set()  # hashes of keys; two that share one are kept a pod early

    def __len__(self) -> int:
        return len(self._taken)

    def decide(self, subject: Subject, labels: Labels, index: Index, today: date) -> tuple[Decision, str]:
        """Decide, and write the record of a pod that had nothing of it by itself; "" where it gets no size."""
        key = subject, frozenset(labels.items()), today
        taken = self._taken.get(key)
        if taken is not None:
            return taken
        decision = decide(subject, labels, index, today)
        if not isinstance(decision, Place):
            return decision, ""
        record = render_record(decision, subject, index.catalog.revision, ())
        if hash(key) not in self._met:
            if len(self._met) >= MAX_MET:
                self._met.clear()
            self._met.add(hash(key))
        elif len(record) <= MAX_RECORD_CHARACTERS:
            if len(self._taken) >= MAX_DECISIONS:
                self._taken.clear()  # what is still rolled out is soon here again
            self._taken[key] = decision, record
        return decision, record

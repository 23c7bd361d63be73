"""EDGE: what the agent counts; written to a file that node-exporter's textfile collector reads, for no port is open."""

from collections import Counter as Tally
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, write_to_textfile

from attach.entry import Entry
from attach.transitions import State

BUCKETS_S: Final = (1e-4, 5e-4, 1e-3, 5e-3, 20e-3, 0.1, 0.5, 2.0)


class Metrics:
    """Metrics of one agent."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._steps = Counter("podsla_attach_steps", "Steps, by how they ended.", ["step", "result"], registry=registry)
        self._duration = Histogram(
            "podsla_attach_step_duration_seconds", "Time a step took.", ["step"], buckets=BUCKETS_S, registry=registry
        )
        self._moves = Counter("podsla_attach_transitions", "Changes of state.", ["to"], registry=registry)
        self._repairs = Counter("podsla_attach_repairs", "Drift that was found.", ["reason"], registry=registry)
        self._quarantines = Counter("podsla_attach_quarantines", "Devices held back.", ["reason"], registry=registry)
        self._holders = Counter(
            "podsla_attach_holders_found",
            "Processes found to have a device open that is to be free.",
            registry=registry,
        )
        self._states = Gauge("podsla_attachments", "Attachments of the node.", ["state"], registry=registry)
        self._journal = Gauge("podsla_attach_journal_usable", "0 while nothing is done.", registry=registry)
        self._problems = Gauge("podsla_attach_desired_problems", "Faults of the desired state.", registry=registry)
        self._pass = Histogram(
            "podsla_attach_pass_duration_seconds", "Time a pass took.", buckets=BUCKETS_S, registry=registry
        )

    def stepped(self, verb: str, result: str, duration_s: float) -> None:
        """Count a step: "Done", or the reason why it failed."""
        self._steps.labels(verb, result).inc()
        self._duration.labels(verb).observe(duration_s)

    def moved(self, before: Entry | None, after: Entry) -> None:
        """Count a change of state; a way back to Attaching is drift that is being repaired."""
        self._moves.labels(after.state).inc()
        if before is not None and after.state is State.ATTACHING:
            self._repairs.labels(after.reason).inc()
        if after.state is State.QUARANTINED:
            self._quarantines.labels(after.reason).inc(len(after.wish.devices))

    def held(self, holders: int) -> None:
        """Count processes that keep a device from being free."""
        self._holders.inc(holders)

    def passed(self, states: Iterable[State], problems: int, duration_s: float) -> None:
        """Note what a pass came to."""
        tally = Tally(states)
        for state in State:
            self._states.labels(state).set(tally[state])
        self._journal.set(1)
        self._problems.set(problems)
        self._pass.observe(duration_s)

    def stuck(self) -> None:
        """Note that the journal can't be used."""
        self._journal.set(0)

    def write(self, file: Path) -> None:
        """Replace the file."""
        write_to_textfile(str(file), self.registry)

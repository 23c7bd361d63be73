"""Creates pods at a steady rate while everything that can happen does, and counts what became of each."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from bench.cluster.load import Server, clear, create_pods
from bench.cluster.plan import Created
from bench.cluster.stand import OURS, pods_of
from bench.proc import tree
from catalog.keys import RECORD
from catalog.merged import read_merged
from kube.api import ApiError
from kube.kinds import CONTROLLER_REVISIONS, PODS
from tests.cluster.install import NAMESPACE
from tests.soak.events import Event, publish
from tests.soak.healed import wrong_at_last
from tests.soak.stand import HOME, Stand, Usage, usage
from tests.waiting import eventually

PER_S: Final = 20
SETTLE_S: Final = 3.0  # between two events
LOOK_S: Final = 10.0  # how often stored pods are looked at, and cleared away
CONNECTIONS: Final = 32
LATE_S: Final = 1.0
GROWTH: Final = (48, 40, 8)  # MiB, descriptors, threads: what warming up and a handover take


@dataclass(frozen=True, slots=True)
class Span:
    """When an event was under way, in seconds since the first pod was due."""

    event: Event
    began_s: float
    ended_s: float

    def holds(self, one: Created) -> bool:
        """Whether a pod was being created meanwhile, or just after."""
        return one.sent_s < self.ended_s + SETTLE_S and one.done_s > self.began_s


@dataclass
class Told:
    """
    What a soak saw.

    Attributes:
        began_s: When the first pod was due, by `time.perf_counter`: what all its moments count from.
        unpublished: Revisions that pods were decided with, and no catalogue ever had.
        met: Processes that were looked at.
        usage: By process: memory in MiB, descriptors and threads, when it was looked at for the second time and last.
        wrong: What stands wrong still, when everything has happened.
    """

    began_s: float = 0.0
    made: list[Created] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    revisions: set[str] = field(default_factory=set)
    published: set[str] = field(default_factory=set)
    stored_unmutated: int = 0
    met: set[str] = field(default_factory=set)
    usage: dict[str, tuple[Usage, Usage]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def unpublished(self) -> set[str]:
        return self.revisions - self.published

    @property
    def unmutated(self) -> int:
        """Pods that were created without a size."""
        return sum(not one.failed and not one.sized for one in self.made) + self.stored_unmutated

    @property
    def grew(self) -> list[str]:
        """Processes that take more than they did, and more than chance makes of it."""
        return [
            f"{name}: {first} → {last} (MiB, descriptors, threads)"
            for name, (first, last) in self.usage.items()
            if any(now > was + more for was, now, more in zip(first, last, GROWTH, strict=True))
        ]

    def failed(self, *, planned: bool) -> list[Created]:
        """Admissions that failed, apart from creates for which the API server or etcd was not there."""
        return [one for one in self.made if one.failed and self._is(one, planned=planned)]

    def _is(self, one: Created, *, planned: bool) -> bool:
        during = [span.event for span in self.spans if span.holds(one)]
        if any(event.api_down for event in during):
            return False
        return planned == all(event.planned for event in during)


def soak(stand: Stand, for_s: float, seed: int, everything: Sequence[Event], report: Callable[[str], None]) -> Told:
    """Create pods for at least *for_s* seconds, and go on until everything has happened once."""
    publish(stand)
    _wait_for_sizes(stand)
    told, chance = Told(), random.Random(seed)  # noqa: S311 - an order, no secret
    begun, stopped = threading.Event(), threading.Event()
    threads = [
        threading.Thread(target=_create, args=(stand, told, begun, stopped)),
        threading.Thread(target=_look, args=(stand, told, stopped)),
    ]
    for thread in threads:
        thread.start()
    try:
        begun.wait()
        while not told.spans or time.perf_counter() - told.began_s < for_s:
            for event in chance.sample(everything, len(everything)):
                if time.perf_counter() - told.began_s > for_s and len(told.spans) >= len(everything):
                    break
                _happen(stand, told, event, report)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    told.wrong = wrong_at_last(stand)
    return told


def _happen(stand: Stand, told: Told, event: Event, report: Callable[[str], None]) -> None:
    at_s = time.perf_counter() - told.began_s
    report(f"{at_s:6.0f} s  {event.name}")
    try:
        event.happen(stand)
    finally:
        told.spans.append(Span(event, at_s, time.perf_counter() - told.began_s))
    time.sleep(SETTLE_S)


def _create(stand: Stand, told: Told, begun: threading.Event, stopped: threading.Event) -> None:
    """Whoever comes late, after an API server that was away, leaves out what is past: no burst of all of it follows."""

    def moments() -> Iterator[float]:
        told.began_s = time.perf_counter()
        begun.set()
        for due_s in count(step=1 / PER_S):
            if stopped.is_set():
                return
            if time.perf_counter() - told.began_s < due_s + LATE_S:
                yield due_s

    told.made += create_pods(Server.of(stand.cluster.kubeconfig), HOME, pods_of(OURS), moments(), CONNECTIONS)


def _look(stand: Stand, told: Told, stopped: threading.Event) -> None:
    """Look at what is stored, again and again, and clear it away; an API server that is away is asked later."""
    while not stopped.wait(LOOK_S):
        with suppress(ApiError, OSError):
            _measure(stand, told)
            _count(stand, told)
            clear(stand.api, HOME)
    eventually(lambda: stand.api.send("GET", "/readyz").status == 200, "the API server is ready")
    _count(stand, told)


def _count(stand: Stand, told: Told) -> None:
    told.published |= _merged(stand)
    for revision in _deciding(stand):
        if revision:
            told.revisions.add(revision)
        else:
            told.stored_unmutated += 1
    told.published |= _merged(stand)


def _merged(stand: Stand, newest: int | None = None) -> set[str]:
    """The revisions that served, or the newest of them."""
    return {merged.revision for merged in read_merged(stand.api.list(CONTROLLER_REVISIONS, NAMESPACE))[:newest]}


def _deciding(stand: Stand) -> Iterator[str]:
    """The revision that each stored pod was decided with; "" of one that has no record."""
    for pod in stand.api.list(PODS, HOME):
        record = (pod["metadata"].get("annotations") or {}).get(RECORD)
        yield "" if record is None else json.loads(record)["revision"]


def _wait_for_sizes(stand: Stand) -> None:
    """Until all replicas serve all that was published: a moment ago some may have known the first catalogues alone."""

    def sized() -> bool:
        made = create_pods(Server.of(stand.cluster.kubeconfig), HOME, pods_of(OURS), [0.0] * 10, 4)
        served, newest = set(_deciding(stand)) - {""}, _merged(stand, newest=1)
        clear(stand.api, HOME)
        return all(one.sized for one in made) and served == newest

    eventually(sized, "podsla serves the catalogues")


def _measure(stand: Stand, told: Told) -> None:
    """Note what each process takes, now and when it was looked at for the second time: it may be starting at first."""
    for process in (*stand.controllers.values(), *stand.replicas.values()):
        with suppress(OSError):  # ended at this moment
            for pid in tree(process.pid):
                name = f"{process.name}, pid {pid}"
                if name in told.met:
                    first, _ = told.usage.get(name, (usage(pid), None))
                    told.usage[name] = (first, usage(pid))
                told.met.add(name)

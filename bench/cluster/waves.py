"""EDGE: the scenario of nodes in waves: how soon each carries its capacity, and what the controller keeps of them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from bench.cluster.moments import Moments, Spread, is_flat
from bench.cluster.nodes import CONTROLLER, CallCounter, Calls
from bench.cluster.stand import Stand, apply_catalogs
from bench.proc import resident_mib
from catalog.load import DEFAULT_TARGET, SHIPPED_CATALOG, load_catalog, load_target
from kube.kinds import NODES
from kube.watch import events_of
from podsla.output import note
from tests.cluster.nodes import nodes
from tests.cluster.state import ClusterError

CONNECTIONS: Final = 8  # that register nodes
DEADLINE_S: Final = 300
REST_S: Final = 15.0  # in which everybody comes to rest, and more than one look of the controller's at its pods is due
SELECTOR: Final = "type=wave"


@dataclass(frozen=True, slots=True)
class Wave:
    """
    What one wave came to.

    Attributes:
        count: Nodes.
        registered_s: From the first call that registers one until all are Ready and carry their capacity.
        waits: From Ready until capacity stands.
        since_seen: From when a node is first seen.
        calls: All calls of the controller until its nodes were gone and it rested.
        resident_mib: Memory of the controller after that.
    """

    count: int
    registered_s: float
    waits: Spread
    since_seen: Spread
    calls: Calls
    resident_mib: float

    @property
    def per_node(self) -> float:
        """Calls of the controller."""
        return sum(self.calls.by_kind.values()) / self.count


@dataclass(frozen=True, slots=True)
class Waves:
    """All waves; *before_mib*: memory of the controller before the first, with the catalogues published."""

    before_mib: float
    waves: tuple[Wave, ...]

    @property
    def slowest_s(self) -> float:
        """The largest median of a wave, from Ready until capacity stands."""
        return max(wave.waits.median_s for wave in self.waves)

    @property
    def flat(self) -> bool:
        """Whether memory stays."""
        return is_flat([wave.resident_mib for wave in self.waves])


def in_waves(stand: Stand, count: int, waves: int) -> Waves:
    """Publish the catalogues, then register and delete *count* nodes, several times; no name comes twice."""
    apply_catalogs(stand)
    time.sleep(REST_S)
    before_mib = resident_mib(stand.process(CONTROLLER).pid)
    return Waves(before_mib, tuple(_wave(stand, count, number) for number in range(waves)))


def _wave(stand: Stand, count: int, number: int) -> Wave:
    note(f"wave {number + 1}: {count} nodes", style="dim")
    counter = CallCounter(stand)
    started_s = time.monotonic()
    moments = _register(stand, list(wave_nodes(count, number)))
    registered_s = time.monotonic() - started_s
    stand.api.send("DELETE", NODES.path(), {"labelSelector": SELECTOR}, read_timeout_s=DEADLINE_S).drain_conn()
    while any(True for _ in stand.api.list(NODES, labelSelector=SELECTOR)):
        if time.monotonic() - started_s > 2 * DEADLINE_S:
            raise ClusterError(f"the nodes of wave {number + 1} are not gone after {2 * DEADLINE_S} s")
        time.sleep(1)
    time.sleep(REST_S)
    calls = counter.since(f"wave {number + 1}")
    mib = resident_mib(stand.process(CONTROLLER).pid)
    return Wave(count, registered_s, Spread.of(moments.waits_s()), Spread.of(moments.since_seen_s()), calls, mib)


def wave_nodes(count: int, number: int) -> Iterator[dict[str, Any]]:
    """Write nodes of twelve sizes in turn, with names of this wave; DaemonSets of the cluster keep off them."""
    for node in nodes(count, load_catalog([SHIPPED_CATALOG]), load_target(DEFAULT_TARGET)):
        metadata = node["metadata"]
        labels = {**metadata["labels"], "type": "wave"}
        yield {**node, "metadata": {**metadata, "name": f"wave-{number}-{metadata['name']}", "labels": labels}}


def _register(stand: Stand, written: list[dict[str, Any]]) -> Moments:
    """
    Register nodes over several connections, and watch until each is Ready and carries its capacity.

    Raises:
        ClusterError: They did not in time.
    """
    moments, until_s = Moments(), time.monotonic() + DEADLINE_S
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        made = [pool.submit(stand.api.create, NODES, node) for node in written]
        while moments.complete < len(written):
            if time.monotonic() > until_s:
                raise ClusterError(f"{moments.complete} of {len(written)} nodes carry capacity after {DEADLINE_S} s")
            if not _watch(stand, moments, len(written)):
                time.sleep(1)
    for one in made:
        one.result()
    return moments


def _watch(stand: Stand, moments: Moments, count: int) -> bool:
    """Note what happens to nodes until all are complete; False where the stream ended, as it does for a slow reader."""
    query = {"watch": "true", "labelSelector": SELECTOR, "timeoutSeconds": str(DEADLINE_S)}
    response = stand.api.send("GET", NODES.path(), query, read_timeout_s=DEADLINE_S)
    for event in events_of(response):
        if event.get("type") in ("ADDED", "MODIFIED"):
            moments.see(event["object"], time.monotonic())
        if moments.complete == count:
            break
    response.close()
    return moments.complete == count

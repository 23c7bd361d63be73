"""EDGE: an hour of real pods' phases, some times as fast: each borrows a GPU for its phases instead of keeping one."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from bench.cluster.lending import ask, make_namespace, seeing, until, what_stays
from bench.cluster.moments import Spread
from bench.cluster.phases import (
    HOUR,
    STEP_S,
    Due,
    Phases,
    hours,
    overlap_s,
    read_trace,
    script,
    share_busy,
    share_held,
)
from bench.cluster.played import CONNECTIONS, played_nodes, run_pods
from bench.cluster.stand import Stand, apply_catalogs
from bench.cluster.steps import Seen
from kube.kinds import GPU_ATTACHMENTS
from podsla.output import note
from tests.cluster.install import ROOT

DATA: Final = ROOT.parent / "shared" / "data"
WHERE: Final = "bench-phases"
NODES: Final = 9
GPUS: Final = 16
HOLD: Final = 1  # samples


@dataclass(frozen=True, slots=True)
class Replay:
    """
    GPU time, as shares of what it is where each pod keeps a GPU from its start to its end.

    Attributes:
        speed: How many times as fast the hour went by.
        held: From when a GPU was bound to a pod's attachment until nobody had it any more.
        bound: What would be held, were attach and release at once and free.
        busy: What the phases need.
        without: The part of the phases' own time in which the pod had no GPU yet.
        waits: From asking until it had its GPU, by the clock of this machine.
        late_s: The longest that the replay itself was late with a call.
    """

    pods: int
    attachments: int
    speed: float
    held: float
    bound: float
    busy: float
    without: float
    waits: Spread
    late_s: float
    twice: tuple[str, ...]
    left: tuple[str, ...]


def replay(stand: Stand, count: int, speed: float) -> Replay:
    """Play *count* pods' hours."""
    apply_catalogs(stand)
    make_namespace(stand, WHERE, {})
    pods = hours(read_trace(DATA), HOLD)[:count]
    with played_nodes(stand, [f"played-{number}" for number in range(NODES)], GPUS) as nodes:
        names = run_pods(stand, nodes, WHERE, len(pods))
        with seeing(stand.api) as seen:
            note(f"{len(pods)} pods, {STEP_S * HOUR / speed:.0f} s", style="dim")
            began_s, uids, late_s = _play(stand, seen, names, script(pods, speed))
            until(lambda: all(is_over(seen.at_s[uid]) for uid in uids.values()), "all placeholders are gone")
        left = [f"{node.name}: {node.open_devices} devices are open" for node in nodes if node.open_devices]
    left += [f"{uid}: {end}" for uid, end in seen.ended.items() if end != "Released"]
    left += what_stays(stand.api, WHERE)
    return _sum_up(pods, speed, seen, began_s, uids, late_s, left)


def is_over(at_s: Mapping[str, float]) -> bool:
    """Whether nothing more comes: the pod that reserved is gone, or there was none, for it ended while it waited."""
    return "gone" in at_s or ("ended" in at_s and "reserved" not in at_s)


def _play(
    stand: Stand, seen: Seen, names: Sequence[str], dues: Sequence[Due]
) -> tuple[float, dict[tuple[int, int], str], float]:
    """Ask and give back as the script says; when it began, UIDs by pod and phase, and how late calls were at most."""
    asked: dict[tuple[int, int], Future[str]] = {}
    late_s: list[float] = []
    began_s = time.time()

    def one(due: Due) -> str:
        late_s.append(time.time() - began_s - due.at_s)
        name = f"phase-{due.pod}-{due.phase}"
        if due.gives_back:
            uid = asked[due.pod, due.phase].result()
            stand.api.patch(GPU_ATTACHMENTS, name, {"spec": {"release": True}}, namespace=WHERE)
            return uid
        asked_s = time.time()
        uid = ask(stand.api, name, names[due.pod], WHERE)
        seen.note(uid, "asked", asked_s)
        return uid

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        done = []
        for due in dues:
            time.sleep(max(0.0, began_s + due.at_s - time.time()))
            done.append(pool.submit(one, due))
            if not due.gives_back:
                asked[due.pod, due.phase] = done[-1]
        for each in done:
            each.result()
    return began_s, {key: each.result() for key, each in asked.items()}, max(late_s)


def _sum_up(
    pods: Sequence[Phases],
    speed: float,
    seen: Seen,
    began_s: float,
    uids: dict[tuple[int, int], str],
    late_s: float,
    left: Sequence[str],
) -> Replay:
    step_s, moments = STEP_S / speed, {key: seen.at_s[uid] for key, uid in uids.items()}
    static_s = sum(pod.samples for pod in pods) * step_s
    held_s = sum(at_s["gone"] - at_s["scheduled"] for at_s in moments.values() if "scheduled" in at_s)
    busy_s = covered_s = 0.0
    for number, pod in enumerate(pods):
        spans = [(began_s + span.begin * step_s, began_s + span.end * step_s) for span in pod.busy]
        own = [at_s for (whose, _), at_s in moments.items() if whose == number and "told" in at_s]
        busy_s += sum(end - begin for begin, end in spans)
        covered_s += overlap_s(spans, [(at_s["told"], at_s["ended"]) for at_s in own])
    return Replay(
        pods=len(pods),
        attachments=len(uids),
        speed=speed,
        held=held_s / static_s,
        bound=share_held(pods),
        busy=share_busy(pods),
        without=1 - covered_s / busy_s,
        waits=Spread.of(sorted(at_s["told"] - at_s["asked"] for at_s in moments.values() if "told" in at_s)),
        late_s=late_s,
        twice=tuple(seen.twice),
        left=tuple(left),
    )

"""EDGE: a hundred attachments at once, on this machine as a node and on nodes that kwok plays."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from bench.cluster.lending import SEED, ask, make_namespace, run_borrower, seeing, until, what_stays
from bench.cluster.moments import Spread
from bench.cluster.played import CONNECTIONS, played_nodes, run_pods
from bench.cluster.stand import Stand
from bench.cluster.steps import Seen
from kube.kinds import GPU_ATTACHMENTS
from podsla.output import note
from tests.cluster.nodeconfig import HOST

WHERE: Final = "bench-crowd"
PLAYED: Final = ("played-0", "played-1", "played-2")
PLAYED_GPUS: Final = 4
REAL_PODS: Final = 2
REAL_PERCENT: Final = 40
USE_S: Final = 1.0
SERVED_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """
    Attachments that were all asked for at once, each of which used its GPU for `USE_S`.

    Attributes:
        asked_s: How long it took to create all of them.
        served_s: From then on until the last one had its GPU, by node.
        waits: From asking until it had its GPU.
        overtaken: How many waited for one that was created in a later second.
        twice: Devices that two had at once.
        left: What was not given back.
    """

    count: int
    asked_s: float
    served_s: dict[str, float]
    waits: Spread
    overtaken: int
    twice: tuple[str, ...]
    left: tuple[str, ...]


def crowd(stand: Stand, count: int) -> Crowd:
    """Ask for *count* at once, give each back after a while, and look what is left."""
    make_namespace(stand, WHERE, {})
    real = count * REAL_PERCENT // 100
    with played_nodes(stand, PLAYED, PLAYED_GPUS) as nodes:
        names = run_pods(stand, nodes, WHERE, count - real)
        at = dict.fromkeys(names, "played")
        own = [run_borrower(stand, f"own-{number}", WHERE) for number in range(REAL_PODS)]
        targets = [*names, *(own[number % REAL_PODS] for number in range(real))]
        random.Random(SEED).shuffle(targets)  # noqa: S311 - an order, no secret
        with seeing(stand.api) as seen:
            uids, asked_s = _ask_all(stand, seen, targets)
            _serve(stand, seen, uids)
            until(lambda: all("gone" in seen.at_s[uid] for uid in uids), "all placeholders are gone")
        left = [f"{node.name}: {node.open_devices} devices are open" for node in nodes if node.open_devices]
    first_s = min(seen.at_s[uid]["asked"] for uid in uids)
    served_s: dict[str, float] = {}
    for uid, target in uids.items():
        node = at.get(target, HOST)
        served_s[node] = max(served_s.get(node, 0.0), seen.at_s[uid]["told"] - first_s)
    waits = Spread.of(sorted(seen.at_s[uid]["told"] - seen.at_s[uid]["asked"] for uid in uids))
    left += [f"{uid}: {end}" for uid, end in seen.ended.items() if end != "Released"]
    left += what_stays(stand.api, WHERE)
    return Crowd(count, asked_s, served_s, waits, seen.overtaken, tuple(seen.twice), tuple(left))


def _ask_all(stand: Stand, seen: Seen, targets: Sequence[str]) -> tuple[dict[str, str], float]:
    """Create an attachment for each; their targets by UID, and how long that took."""
    note(f"{len(targets)} attachments at once", style="dim")

    def one(number: int) -> tuple[str, str]:
        asked_s = time.time()
        uid = ask(stand.api, f"crowd-{number}", targets[number], WHERE)
        seen.note(uid, "asked", asked_s)
        return uid, targets[number]

    began_s = time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        uids = dict(pool.map(one, range(len(targets))))
    return uids, time.monotonic() - began_s


def _serve(stand: Stand, seen: Seen, uids: dict[str, str]) -> None:
    """Give each back once it has had its GPU for a while, until all have ended."""
    names = {uid: f"crowd-{number}" for number, uid in enumerate(uids)}
    kept = dict(names)

    def served() -> bool:
        due = [uid for uid in kept if time.time() - seen.at_s[uid].get("told", time.time()) >= USE_S]
        for uid in due:
            stand.api.patch(GPU_ATTACHMENTS, kept.pop(uid), {"spec": {"release": True}}, namespace=WHERE)
        return not kept and uids.keys() <= seen.ended.keys()

    until(served, f"all {len(uids)} were served", SERVED_S)

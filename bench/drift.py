"""For how long a container is without its device where its rule or its node is taken away: the agent repairs it.

The agent is the command as the DaemonSet runs it, told by a file; the container's own process tries to open the device.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from bench.attach import Row
from bench.idle import fresh_worlds, run_agent
from tests.attach.contract import found
from tests.attach.node.conftest import missing
from tests.attach.node.containers import Machine
from tests.attach.node.drift import make_anew, rules_in
from tests.attach.node.files import attachment, write_desired, write_inventory
from tests.attach.node.world import RealWorkload, RealWorld
from tests.waiting import eventually

TIMES: Final = 20
EVERY_S: Final = 1.5  # as the DaemonSet has it
TRY_EVERY_S: Final = 0.005
BAR_S: Final = 2.0
_NOT_LOST_S: Final = 0.5


def bench_drift() -> Iterator[Row]:
    """Measure it on each version of cgroups that this machine has."""
    if lacking := missing():
        yield "drift of a device", "-", "-", f"not measured: {lacking}"
        return
    for world, here in fresh_worlds():
        for what, gaps_s in _measure(world, here).items():
            yield _row(f"cgroup {world.version}: without the device where {what}", gaps_s)


def _measure(world: RealWorld, here: Machine) -> Mapping[str, list[float]]:
    web, gpu = world.start(), world.devices[0]
    container = found(world, web)
    before = rules_in(container.cgroup)
    drifts: dict[str, Callable[[], object]] = {
        "its rule is made anew": partial(make_anew, container.cgroup, gpu, before),
        "its node is removed": partial(world.nodes.hide, container, gpu),
    }
    files = write_inventory(here.folder, world.devices)
    desired = write_desired(here.folder, attachment("u1", web.target, "GPU-0"))
    with run_agent(world.version, [*files, "--desired", str(desired), f"--every={EVERY_S}"], here.folder / "log"):
        eventually(lambda: web.opens(gpu.path) == 0, "it is attached")
        return {what: [_gap_s(drift, web, gpu.path) for _ in range(TIMES)] for what, drift in drifts.items()}


def _gap_s(drift: Callable[[], object], web: RealWorkload, path: str) -> float:
    """Let it drift at any moment; from then until the device opens again."""
    time.sleep(random.uniform(0, EVERY_S))  # noqa: S311 - any moment will do
    begun = time.monotonic()
    drift()
    while web.opens(path) == 0:  # of several programs, an open may still be under the one before
        if time.monotonic() - begun > _NOT_LOST_S:
            return 0.0  # it was repaired before anybody looked
    eventually(lambda: web.opens(path) == 0, "it is repaired", every_s=TRY_EVERY_S)
    return time.monotonic() - begun


def _row(what: str, gaps_s: list[float]) -> Row:
    ordered = sorted(1e6 * gap_s for gap_s in gaps_s)
    verdict = "held" if ordered[-1] <= 1e6 * BAR_S else "missed"
    longest = f"longest {ordered[-1] / 1e6:.2f} s of {len(ordered)}; bar {BAR_S:g} s, {verdict}"
    return what, f"{ordered[len(ordered) // 2]:.0f}", f"{ordered[0]:.0f}", longest

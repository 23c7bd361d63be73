"""What the node's part of an attach and a detach costs, on real containers; needs what tests/attach/node needs."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, TypeAlias

from attach.model import Access, CgroupVersion, Container, DeviceNode
from tests.attach.contract import found
from tests.attach.node.conftest import missing
from tests.attach.node.containers import Runtime, build_root, build_shim, build_workload, hierarchies, machine
from tests.attach.node.world import RealWorld

Row: TypeAlias = tuple[str, str, str, str]  # what, median, least, note

ROUNDS: Final = 500
RULES_THERE: Final = (0, 1, 16, 64)
STEPS: Final = ("rule", "node", "verify", "attach", "detach")
_MAJOR: Final = 240  # of no driver here


def bench_attach() -> Iterator[Row]:
    """Measure each engine with more and more rules of ours already there: rule, node and verification, then detach."""
    if lacking := missing():
        yield "GPU attach on a node", "-", "-", f"not measured: {lacking}"
        return
    with machine() as here:
        root = build_root(here.folder, build_workload(here.folder), busybox=False)
        build_shim(here.folder)
        for version, hierarchy in sorted(hierarchies().items(), reverse=True):
            world = RealWorld(Runtime("runc", version, here, root), hierarchy)
            try:
                container = found(world, world.start())
                steps = {rules: _steps(world, container, rules) for rules in RULES_THERE}
                for rules, times in steps.items():
                    yield from (_row(f"{name}, {rules} rules there", times[name], version) for name in STEPS)
                yield from (_slope(name, {n: steps[n][name] for n in RULES_THERE}, version) for name in STEPS[-2:])
                with _undisturbed():
                    looks = _times(partial(world.processes.holders, [world.devices[0].rdev]), 20)
                yield _row("look for holders in all processes", looks, version)
            finally:
                world.close()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Go before all else on the machine, where that is allowed: its other work is not what is measured."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _steps(world: RealWorld, container: Container, rules: int) -> dict[str, list[float]]:
    gpu = world.devices[0]
    world.rules.allow(container.cgroup, [DeviceNode("/dev/x", _MAJOR, minor) for minor in range(rules)])
    steps: dict[str, list[float]] = {name: [] for name in STEPS}
    with _undisturbed():
        _measure(world, container, gpu, steps)
    return steps


def _measure(world: RealWorld, container: Container, gpu: DeviceNode, steps: dict[str, list[float]]) -> None:
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        world.rules.allow(container.cgroup, [gpu])
        allowed = time.perf_counter()
        world.nodes.show(container, gpu)
        shown = time.perf_counter()
        access = world.nodes.access(container, gpu)
        verified = time.perf_counter()
        world.nodes.hide(container, gpu)
        world.rules.deny(container.cgroup, [gpu])
        ended = time.perf_counter()
        if access is not Access.OPENS:
            raise RuntimeError(f"the device does not open: {access}")
        for name, seconds in zip(
            steps, (allowed - begun, shown - allowed, verified - shown, verified - begun, ended - verified), strict=True
        ):
            steps[name].append(seconds)


def _times(call: Callable[[], object], rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times


def _row(what: str, times: list[float], version: CgroupVersion) -> Row:
    ordered = sorted(1e6 * seconds for seconds in times)
    p99 = ordered[int(0.99 * (len(ordered) - 1))]
    return f"cgroup {version}: {what}", f"{statistics.median(ordered):.0f}", f"{ordered[0]:.0f}", f"p99 {p99:.0f} µs"


def _slope(name: str, times: Mapping[int, list[float]], version: CgroupVersion) -> Row:
    """Say what each rule more costs: where that grows with their number, it is worse than O(rules)."""
    few, more = (
        1e6 * (statistics.median(times[high]) - statistics.median(times[low])) / (high - low)
        for low, high in ((0, 16), (16, 64))
    )
    return f"cgroup {version}: {name}, each rule from 16 to 64", f"{more:.2f}", "-", f"from 0 to 16: {few:.2f} µs"

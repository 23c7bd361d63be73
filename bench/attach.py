"""What the node's part of an attach and a detach costs, on real containers; needs what tests/attach/node needs."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
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
                for rules in RULES_THERE:
                    yield from _rows(world, container, rules)
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


def _rows(world: RealWorld, container: Container, rules: int) -> Iterator[Row]:
    gpu = world.devices[0]
    world.rules.allow(container.cgroup, [DeviceNode("/dev/x", _MAJOR, minor) for minor in range(rules)])
    steps: dict[str, list[float]] = {name: [] for name in ("rule", "node", "verify", "attach", "detach")}
    with _undisturbed():
        _measure(world, container, gpu, steps)
    for name, times in steps.items():
        yield _row(f"{name}, {rules} rules there", times, world.version)


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

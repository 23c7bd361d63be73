"""
Attach and detach, over and over, while the container's own process opens a device that it always had, and one that it
never gets.

1,000 cycles; `make soak-attach` does 10,000.
"""

import errno
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from attach.bpf import Bpf, call
from attach.devfilter import split
from attach.journal import decode
from attach.model import Access, DeviceNode
from attach.store import JOURNAL
from tests.attach.contract import attach, detach, found
from tests.attach.node.agents import Agents
from tests.attach.node.drift import rules_in
from tests.attach.node.world import RealWorld
from tests.waiting import eventually

CYCLES: Final = int(os.environ.get("PODSLA_ATTACH_CYCLES", "1000"))
NEXT_PROGRAM: Final = 11


def programs_with(mark: DeviceNode) -> list[str]:
    """Name every program that the kernel still holds, wherever, and that allows a device; others may run beside us."""
    bpf, number, names = Bpf(), 0, list[str]()
    while True:
        try:
            _, out = call(NEXT_PROGRAM, struct.pack("<III", number, 0, 0), "go to the next program")
        except FileNotFoundError:
            return names
        number = struct.unpack_from("<I", out, 4)[0]
        try:
            with bpf.opened(number) as fd:
                program = bpf.read(fd)
                if program.name.startswith("podsla") and mark.rdev in split(program.name, program.code)[0]:
                    names.append(program.name)
        except FileNotFoundError:
            continue


def children() -> list[int]:
    """Name our children, the opener among them."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def open_in(*pids: int) -> dict[int, list[str]]:
    """List what processes have open, each by its kind; a map of ours would be held here or by a program."""
    found_ = dict[int, list[str]]()
    for pid in pids:
        links = list[str]()
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # the one by which this folder is read
                links.append(os.readlink(path))
        found_[pid] = sorted(links)
    return found_


def test_no_open_is_refused_and_nothing_is_left(world: RealWorld) -> None:
    """Cases 16 and 18."""
    (gpu, never), web = world.devices, world.start()
    mark = DeviceNode("/dev/mark", 250, os.getpid())  # a device that only this run allows
    container = found(world, web)
    world.nodes.show(container, never)
    attach(world, container, gpu)
    assert world.nodes.access(container, gpu) is Access.OPENS
    detach(world, container, gpu)
    rules, descriptors = rules_in(container.cgroup), open_in(os.getpid(), *children())
    assert web.ask(f"hammer /dev/null {never.path}").error == 0
    outcomes = set()
    for _ in range(CYCLES):
        attach(world, container, gpu)
        world.rules.allow(container.cgroup, [mark])
        outcomes.add(("attached", web.opens(gpu.path)))
        detach(world, container, gpu, mark)
        outcomes.add(("detached", web.opens(gpu.path)))
    opens, refused, slipped = web.ask("hammered").text.split()

    assert outcomes == {("attached", 0), ("detached", errno.ENOENT)}
    assert int(opens) > CYCLES
    assert (refused, slipped) == ("0", "0"), f"of {opens} opens {refused} were refused, and {slipped} went through"
    assert rules_in(container.cgroup) == rules
    assert open_in(os.getpid(), *children()) == descriptors
    assert not [kind for kinds in descriptors.values() for kind in kinds if kind.startswith("anon_inode:bpf")]
    print(f"{CYCLES} cycles, {opens} opens beside them; refused {refused}, slipped {slipped}; left: 0 rules, programs, "
          f"maps; {sum(map(len, descriptors.values()))} descriptors, as before")  # fmt: skip
    eventually(lambda: programs_with(mark) == [], "no program is left")


def test_the_agent_leaves_nothing_either(engine: RealWorld, agents: Agents) -> None:
    """With its journal, its checks and its files, for a hundredth of the cycles."""
    web = engine.start()
    container = found(engine, web)
    left = []
    for number in range(max(2, CYCLES // 100)):
        agents.run(agents.wish(web, f"u{number}", "GPU-0", "GPU-1"))
        assert [web.opens(device.path) for device in engine.devices] == [0, 0]
        agents.run()
        assert {web.opens(device.path) for device in engine.devices} == {errno.ENOENT}
        journal, files = agents.folder / "state" / JOURNAL, sorted(os.listdir(agents.folder / "state"))
        assert decode(journal.read_bytes()).entries == {}
        left.append((files, journal.stat().st_size, rules_in(container.cgroup), len(os.listdir("/proc/self/fd"))))
    assert left == [left[0]] * len(left)

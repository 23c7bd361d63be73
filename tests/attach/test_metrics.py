"""What is counted, and what is logged: beside what the journal and the fake node came to."""

import json
import logging
from collections.abc import Collection, Iterator

import pytest

from attach.case import BOUND_S
from attach.entry import Entry
from attach.journal import decode
from attach.metrics import Metrics
from attach.model import Cgroup, DeviceNode
from attach.reasons import ASKED
from attach.transitions import State
from kube.logs import JsonLines
from tests.attach.fakes import MemoryStore, gpu, target
from tests.attach.stories import STORIES, Story, tell
from tests.attach.world import World

ALLOWING_S = 0.25


class CountedWorld(World):
    """A world whose agent counts as one on a node does; allowing takes a while in it."""

    def __init__(self) -> None:
        super().__init__()
        self.recorder = self.metrics = Metrics()
        self.node.start(target("a"))
        self._allow, self.node.allow = self.node.allow, self._slowly  # type: ignore[method-assign]

    def _slowly(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        self.clock.go(ALLOWING_S)
        self._allow(cgroup, nodes)

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"podsla_attach_{name}", labels)


@pytest.fixture
def world() -> CountedWorld:
    """Two devices are attached to one container."""
    world = CountedWorld()
    world.wish("u1", "a", 0, 1, grace_s=0)
    world.run()
    assert world.entry("u1").state is State.ATTACHED
    return world


def test_a_repair_is_counted_by_what_was_gone(world: CountedWorld) -> None:
    del world.node.containers[0].dev["/dev/nvidia0"]
    world.run()
    world.node.containers[0].ours.clear()
    world.run()
    world.run()

    assert world.node.containers[0].dev.keys() >= {"/dev/nvidia0", "/dev/nvidia1"}
    assert (world.count("repairs_total", reason="NodeGone"), world.count("repairs_total", reason="RuleGone")) == (1, 1)


def test_holders_and_every_device_that_is_held_back_are_counted(world: CountedWorld) -> None:
    world.node.spawn(target("b")).holds[gpu(0).node.rdev] = "uid-b"
    world.change("u1", release=ASKED)
    world.run()
    assert world.count("holders_found_total") == 1
    assert world.count("quarantines_total", reason="HeldByOther") is None

    world.run_for(BOUND_S)
    assert world.entry("u1").state is State.QUARANTINED
    assert world.count("quarantines_total", reason="HeldByOther") == 2


def test_a_step_is_counted_with_its_result_and_how_long_it_took(world: CountedWorld) -> None:
    assert world.count("steps_total", step="Allow", result="Done") == 1
    assert world.count("step_duration_seconds_count", step="Allow") == 1
    assert world.count("step_duration_seconds_sum", step="Allow") == pytest.approx(ALLOWING_S)

    world.node.troubled.add("deny")
    world.change("u1", release=ASKED)
    world.run()
    assert world.count("steps_total", step="Deny", result="DriverSilent") == 1
    assert world.count("step_duration_seconds_count", step="Deny") == 1


class Witness(MemoryStore):
    """A disk that remembers how each attachment changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[tuple[str, str | None, str, str, list[str]]] = []

    def save(self, data: bytes) -> None:
        before: dict[str, Entry] = {} if self.data is None else dict(decode(self.data).entries)
        super().save(data)
        for uid, entry in decode(data).entries.items():
            old = before[uid].state if uid in before else None
            if old is not entry.state:
                self.changes.append((uid, old, entry.state, entry.reason, list(entry.wish.devices)))


class Lines(logging.Handler):
    """Keeps what an agent writes to its log, as it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def log() -> Iterator[Lines]:
    logger, lines = logging.getLogger("attach.reconcile"), Lines()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(lines)
    yield lines
    logger.removeHandler(lines)
    logger.setLevel(level)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: str(story.__doc__))
def test_every_change_of_the_journal_is_one_line_of_the_log(story: Story, log: Lines) -> None:
    world = World()
    world.store = witness = Witness()
    tell(story, world)

    said = [(line["uid"], line["from"], line["to"], line["reason"], line["devices"]) for line in log.lines]
    assert said == witness.changes
    assert len(said) > 1
    assert all(line["message"] == "attachment changed" and line["reason"] and line["devices"] for line in log.lines)

"""What a runtime does to a container while it is attached: update, pause, restart."""

import errno
import json
from pathlib import Path

import pytest

from attach.errors import Gone
from attach.model import CgroupVersion, Target
from tests.attach.contract import attach, found
from tests.attach.node.containers import Runtime, new_target
from tests.attach.node.world import RealWorld


def limits(world: RealWorld) -> dict[str, object]:
    """Name limits that this machine's cgroups have; none leaves the runtime with all that it writes at every update."""
    folder = Path(world.hierarchy.mount, "cgroup.controllers")
    if world.version is CgroupVersion.V2 and "memory" not in folder.read_text().split():
        return {}
    return {"cpu": {"shares": 256}, "memory": {"limit": 64 << 20}}


def test_an_update_of_cpu_and_memory_leaves_the_device_attached(world: RealWorld) -> None:
    """Case 4."""
    assert isinstance(world.runtime, Runtime)
    gpu, web = world.devices[0], world.start()
    container = found(world, web)
    attach(world, container, gpu)
    file = world.runtime.machine.folder / "update.json"
    file.write_text(json.dumps(limits(world)))
    world.runtime.call("update", "--resources", str(file), web.target.container_id)
    opens = web.opens(gpu.path)
    if opens:  # a runtime that wrote its rules anew: the next pass repairs it
        assert opens == errno.EPERM
        assert gpu.rdev not in world.rules.allowed(container.cgroup)
        world.rules.allow(container.cgroup, [gpu])
    assert web.opens(gpu.path) == 0


def test_a_container_that_restarted_between_rule_and_node_is_another_one(world: RealWorld) -> None:
    """Case 25: what was found before is gone; the new container has nothing yet."""
    gpu, web = world.devices[0], world.start()
    before = found(world, web)
    world.rules.allow(before.cgroup, [gpu])
    web.end()
    again = world.start(Target("default", "web", web.target.uid, new_target().container_id))
    with pytest.raises(Gone):
        world.nodes.show(before, gpu)
    world.rules.deny(before.cgroup, [gpu])

    after = found(world, again)
    assert after != before
    assert not world.rules.allowed(after.cgroup) & {gpu.rdev}
    attach(world, after, gpu)
    assert again.opens(gpu.path) == 0

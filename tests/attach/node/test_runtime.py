"""What a runtime gave a container and does to it while it is attached: other devices, update, restart, engine."""

import errno
import json
import subprocess
from pathlib import Path

import pytest

from attach.cgroup import path_of
from attach.engines import ByVersion
from attach.errors import Gone
from attach.model import Cgroup, CgroupVersion, DeviceNode, Target
from attach.rules1 import Rules1
from attach.rules2 import Rules2
from tests.attach.contract import attach, detach, found
from tests.attach.node.conftest import skip
from tests.attach.node.containers import Machine, Runtime, hierarchies, in_version, new_target
from tests.attach.node.drift import rules_in
from tests.attach.node.files import PODSLA, attachment, write_desired, write_inventory
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


def test_other_devices_that_the_runtime_gave_work_on(world: RealWorld) -> None:
    """Case 15: FUSE, and every minor number of a family, as VFIO's groups are."""
    fuse, group = DeviceNode("/dev/fuse", 10, 229), DeviceNode("/dev/vfio/7", 243, 7)
    gpu = next(node for node in world.devices if node.rdev != fuse.rdev)
    one = {"allow": True, "type": "c", "major": fuse.major, "minor": fuse.minor, "access": "rwm"}
    family = {"allow": True, "type": "c", "major": group.major, "access": "rw"}
    web = world.start(devices=[one, family])
    container = found(world, web)
    for node in (fuse, group):
        world.nodes.show(container, node)
    own, others = [web.opens(gpu.path)], [(web.opens(fuse.path), web.opens(group.path))]
    for change in (attach, detach, attach):
        change(world, container, gpu)
        own.append(web.opens(gpu.path))
        others.append((web.opens(fuse.path), web.opens(group.path)))

    assert own == [errno.ENOENT, 0, errno.ENOENT, 0]
    assert others == others[:1] * 4
    assert errno.EPERM not in others[0]  # where no driver is behind a node that is allowed, the answer is ENXIO


def test_each_container_has_the_engine_of_its_own_cgroup(here: Machine) -> None:
    """One agent on a machine with both versions: what the one writes, the other does not touch."""
    if len(hierarchies()) < len(CgroupVersion):
        skip("this machine has not both versions of cgroups mounted")
    worlds = [RealWorld(Runtime("runc", version, here, here.folder / "distroless"), at)
              for version, at in hierarchies().items()]  # fmt: skip
    rules, gpu = ByVersion(Rules1(), Rules2()), worlds[0].devices[0]
    try:
        webs = [(world, web, found(world, web)) for world in worlds for web in [world.start()]]
        for world, _, container in webs:
            world.nodes.show(container, gpu)
        for _, web, container in webs:
            before = [rules_in(each.cgroup) for *_, each in webs]
            rules.allow(container.cgroup, [gpu])
            changed = [rules_in(each.cgroup) != was for (*_, each), was in zip(webs, before, strict=True)]
            assert changed == [each is container for *_, each in webs]
            assert (gpu.rdev in rules.allowed(container.cgroup), web.opens(gpu.path)) == (True, 0)
        for _, web, container in webs:
            rules.deny(container.cgroup, [gpu])
            assert (gpu.rdev in rules.allowed(container.cgroup), web.opens(gpu.path)) == (False, errno.EPERM)
    finally:
        for world in worlds:
            world.close()


def test_the_agent_says_which_engine_a_container_has(engine: RealWorld, tmp_path: Path) -> None:
    desired = write_desired(tmp_path, attachment("u1", engine.start().target, "GPU-0"))
    files = write_inventory(tmp_path, engine.devices)
    once = [*PODSLA, "agent", "--desired", str(desired), *files, "--once", "-o", "json"]
    inspect = [*PODSLA, "gpu", "inspect", *files, "-o", "json"]
    done, seen = (
        json.loads(subprocess.run(in_version(engine.version, command), stdout=subprocess.PIPE, check=True).stdout)
        for command in (once, inspect)
    )
    said = {CgroupVersion.V1: "cgroup1", CgroupVersion.V2: "cgroup2"}[engine.version]
    assert [each["engine"] for each in (*done, *seen["attachments"])] == [said, said]


def test_on_a_hybrid_host_the_devices_are_version_1s_and_version_2_is_left_alone(
    hybrid: RealWorld, tmp_path: Path
) -> None:
    """runc puts the container into both trees; the agent, which sees both too, rules it in the one that has devices."""
    web, gpu = hybrid.start(), hybrid.devices[0]
    text = Path(f"/proc/{web.inner.pid}/cgroup").read_text()
    beside = f"{hierarchies()[CgroupVersion.V2].mount}{path_of(text, CgroupVersion.V2)}"
    unified = Cgroup(CgroupVersion.V2, beside, Path(beside).stat().st_ino)
    before = rules_in(unified)
    desired = write_desired(tmp_path, attachment("u1", web.target, "GPU-0"))
    once = [*PODSLA, "agent", "--desired", str(desired), *write_inventory(tmp_path, [gpu]), "--once", "-o", "json"]
    done = subprocess.run(in_version(hybrid.version, once, hybrid=True), stdout=subprocess.PIPE, check=True)

    assert web.target.container_id in beside
    assert [(each["state"], each["engine"]) for each in json.loads(done.stdout)] == [("Attached", "cgroup1")]
    assert (web.opens(gpu.path), gpu.rdev in hybrid.rules.allowed(found(hybrid, web).cgroup)) == (0, True)
    assert rules_in(unified) == before


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_what_is_missing_is_a_failure_where_ci_promises_it(
    ci: str, outcome: type[BaseException], here: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match="of no use") as left_out:
        skip(f"{here.name} is of no use")
    assert left_out.type is outcome

"""Cgroup version 1: what happens to the lines that stand there."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from attach.errors import Gone, Refused
from attach.model import Cgroup, CgroupVersion, DeviceNode
from tests.attach.contract import found
from tests.attach.node.conftest import skip
from tests.attach.node.containers import Machine, Runtime, hierarchies
from tests.attach.node.world import ZERO, RealWorld


@pytest.fixture(params=["runc", "crun"])
def world(here: Machine, request: pytest.FixtureRequest) -> Iterator[RealWorld]:
    """Cgroup version 1 alone."""
    if CgroupVersion.V1 not in hierarchies():
        skip("this machine has no devices controller of cgroup version 1")
    made = RealWorld(
        Runtime(request.param, CgroupVersion.V1, here, here.folder / "distroless"), hierarchies()[CgroupVersion.V1]
    )
    yield made
    made.close()


def lines(folder: str | Path) -> list[str]:
    return Path(folder, "devices.list").read_text().splitlines()


def test_the_lines_that_stood_there_stay_in_their_order(world: RealWorld) -> None:
    """Case 15."""
    gpu, container = world.devices[0], found(world, world.start())
    before = lines(container.cgroup.path)
    world.rules.allow(container.cgroup, [gpu])
    during = lines(container.cgroup.path)
    world.rules.deny(container.cgroup, [gpu])

    assert [line for line in during if line in before] == before
    assert set(during) - set(before) == {f"c {gpu.major}:{gpu.minor} rw"}
    assert lines(container.cgroup.path) == before


def test_every_folder_below_is_ruled_too(world: RealWorld) -> None:
    """Cases 9 and 11: an allow is not passed on to what is there, so each gets it; a deny is."""
    web, gpu = world.start(), world.devices[0]
    container = found(world, web)
    world.nodes.show(container, gpu)
    inner = Path(container.cgroup.path, "nested", "deeper")
    inner.mkdir(parents=True)
    inner.joinpath("cgroup.procs").write_text(str(container.init.pid))
    assert found(world, web) == container

    world.rules.allow(container.cgroup, [gpu])
    assert web.opens(gpu.path) == 0
    world.rules.deny(container.cgroup, [gpu])
    assert web.opens(gpu.path) == errno.EPERM
    assert lines(inner) == lines(container.cgroup.path)


def test_what_the_runtime_gave_is_not_taken_away(world: RealWorld) -> None:
    web = world.start()
    container = found(world, web)
    before = lines(container.cgroup.path)
    world.rules.allow(container.cgroup, [ZERO])
    world.rules.deny(container.cgroup, [ZERO])
    assert web.opens(ZERO.path) == 0
    assert lines(container.cgroup.path) == before


def test_a_device_that_the_pod_may_not_have_is_refused(world: RealWorld) -> None:
    web, gpu = world.start(), world.devices[0]
    container = found(world, web)
    before = lines(container.cgroup.path)
    Path(container.cgroup.path).parent.joinpath("devices.deny").write_text(f"c {gpu.major}:{gpu.minor} rw")
    with pytest.raises(Refused) as refused:
        world.rules.allow(container.cgroup, [gpu])
    assert refused.value.reason == "RuledAbove"
    assert lines(container.cgroup.path) == before


def test_a_cgroup_made_anew_under_the_same_path_is_not_touched(world: RealWorld) -> None:
    """Case 13."""
    gpu, container = world.devices[0], found(world, world.start())
    before = lines(container.cgroup.path)
    other = Cgroup(CgroupVersion.V1, container.cgroup.path, container.cgroup.inode + 1)
    with pytest.raises(Gone):
        world.rules.allow(other, [gpu])
    world.rules.deny(other, [gpu])
    assert lines(container.cgroup.path) == before


def test_the_root_is_refused(world: RealWorld) -> None:
    """Case 14."""
    mount = world.hierarchy.mount
    before = lines(mount)
    root = Cgroup(CgroupVersion.V1, mount, Path(mount).stat().st_ino)
    for step in (world.rules.allow, world.rules.deny):
        with pytest.raises(Refused) as refused:
            step(root, [DeviceNode("/dev/gpu0", 10, 232)])
        assert refused.value.reason == "RootCgroup"
    assert lines(mount) == before

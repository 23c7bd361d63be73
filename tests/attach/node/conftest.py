"""The machine with its runtimes; what is missing is named, and where CI promises the packages it is an error."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from attach.model import CgroupVersion
from tests.attach.node.agents import Agents
from tests.attach.node.containers import (
    UNIFIED,
    Machine,
    Runtime,
    build_root,
    build_shim,
    build_workload,
    hierarchies,
    machine,
)
from tests.attach.node.world import RealWorld

PROGRAMS = ("runc", "crun", "containerd", "ctr", "busybox", "gcc", "unshare")
COMBINATIONS = [(program, version) for program in ("runc", "crun") for version in CgroupVersion]


def missing() -> str:
    """Say what this machine lacks; "" for nothing."""
    if os.geteuid():
        return "root is needed"
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{', '.join(lacking)} not found: run tests/attach/node/install-packages" if lacking else ""


def skip(reason: str) -> NoReturn:
    """Leave a test out by name; CI runs as root on a machine that has all, and there it is a failure."""
    if os.environ.get("CI") == "true" and not os.geteuid():
        pytest.fail(f"the node layer cannot run: {reason}")
    pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that is here needs such a machine."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.node)


@pytest.fixture(scope="session")
def here() -> Iterator[Machine]:
    """A folder with images; all that tests make on the machine is undone at the end."""
    if lacking := missing():
        skip(lacking)
    with machine() as made:
        program = build_workload(made.folder)
        build_shim(made.folder)
        for busybox in (False, True):
            build_root(made.folder, program, busybox=busybox)
        yield made


@pytest.fixture(params=COMBINATIONS, ids=[f"{program}-{version}" for program, version in COMBINATIONS])
def world(here: Machine, request: pytest.FixtureRequest) -> Iterator[RealWorld]:
    """This machine with a runtime and a cgroup version; the containers of a test end with it."""
    program, version = request.param
    hierarchy = hierarchies().get(version)
    if hierarchy is None:
        skip(f"this machine has no cgroup {version} mounted that rules devices")
    world = RealWorld(Runtime(program, version, here, here.folder / "distroless"), hierarchy)
    yield world
    world.close()


@pytest.fixture(params=CgroupVersion, ids=str)
def engine(here: Machine, request: pytest.FixtureRequest) -> Iterator[RealWorld]:
    """This machine with runc and a cgroup version, for what asks both engines and not every runtime."""
    hierarchy = hierarchies().get(request.param)
    if hierarchy is None:
        skip(f"this machine has no cgroup {request.param} mounted that rules devices")
    world = RealWorld(Runtime("runc", request.param, here, here.folder / "distroless"), hierarchy)
    yield world
    world.close()


@pytest.fixture
def hybrid(here: Machine) -> Iterator[RealWorld]:
    """This machine with runc, which sees version 1 with the devices and version 2 beside it, as a hybrid host has."""
    hierarchy = hierarchies().get(CgroupVersion.V1)
    if hierarchy is None or not UNIFIED.is_dir():
        skip(f"this machine has no cgroup v1 mounted that rules devices, or no {UNIFIED}")
    world = RealWorld(Runtime("runc", CgroupVersion.V1, here, here.folder / "distroless", hybrid=True), hierarchy)
    yield world
    world.close()


@pytest.fixture
def agents(engine: RealWorld, tmp_path: Path) -> Agents:
    """Agents of that machine."""
    return Agents(engine, tmp_path)

"""The contract of the ports over real containers: runc, crun and containerd, both cgroup versions."""

from collections.abc import Iterator

import pytest

from attach.model import CgroupVersion
from tests.attach.contract import Contract
from tests.attach.node.conftest import skip
from tests.attach.node.containers import Containerd, Machine, hierarchies
from tests.attach.node.world import CudaWorkload, RealWorld


class TestByRuncAndCrun(Contract):
    """Every case, with the real adapters."""


class TestAsCudaDoes(Contract):
    """Every case, with a process that began before the attach, and children that began after it."""

    @pytest.fixture
    def world(self, engine: RealWorld) -> RealWorld:
        """In place of the world of runtimes."""
        engine.workload = CudaWorkload
        return engine


class TestOnAHybridHost(Contract):
    """Every case, with a runtime that sees both versions of cgroups."""

    @pytest.fixture
    def world(self, hybrid: RealWorld) -> RealWorld:
        """In place of the world of runtimes."""
        return hybrid


@pytest.fixture(scope="class", params=list(CgroupVersion))
def containerd(here: Machine, request: pytest.FixtureRequest) -> Iterator[Containerd]:
    """A containerd that sees one cgroup version."""
    if request.param not in hierarchies():
        skip(f"this machine has no cgroup {request.param} mounted that rules devices")
    daemon = Containerd(request.param, here, here.folder / "distroless")
    daemon.begin()
    yield daemon
    daemon.end()


class TestByContainerd(Contract):
    """Every case, with containers that a containerd started."""

    @pytest.fixture
    def world(self, containerd: Containerd) -> Iterator[RealWorld]:
        """In place of the world of runtimes."""
        made = RealWorld(containerd, hierarchies()[containerd.version])
        yield made
        made.close()

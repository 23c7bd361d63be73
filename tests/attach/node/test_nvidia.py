"""On a machine with an NVIDIA GPU: NVML and CUDA see it after the attach and not after the detach."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pynvml
import pytest

from attach.cgroupfs import detect
from attach.entry import needed
from attach.inventory import NvidiaInventory
from attach.model import Gpu
from tests.attach.contract import attach, detach, found, held_by
from tests.attach.node.containers import Machine, Runtime
from tests.attach.node.world import RealWorkload, RealWorld
from tests.waiting import eventually

PROBE: Final = Path(__file__).with_name("probe.py")
PYTHON: Final = "/usr/bin/python3"  # any user may run it
HOST: Final = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache")  # of the host, read-only: Python, and the driver's


@pytest.fixture
def gpu() -> Gpu:
    """A whole GPU that is healthy."""
    if not Path("/proc/driver/nvidia/version").exists():
        pytest.skip("no NVIDIA driver is loaded on this machine")
    whole = [each for each in NvidiaInventory().gpus() if not each.unhealthy and each.uuid.startswith("GPU-")]
    if not whole:
        pytest.skip("every NVIDIA GPU of this machine is partitioned or unhealthy")
    return whole[0]


@pytest.fixture
def world(gpu: Gpu, here: Machine) -> Iterator[RealWorld]:
    hierarchy = detect()
    world = RealWorld(Runtime("runc", hierarchy.version, here, here.folder / "distroless"), hierarchy)
    yield world
    world.close()


def start(world: RealWorld, here: Machine) -> RealWorkload:
    """Start a container with nothing in it but this machine's programs and the probe."""
    code = here.folder / "probe"
    code.mkdir(exist_ok=True)
    for file in (PROBE, Path(pynvml.__file__)):
        shutil.copy(file, code)
    (code / "run").write_text(f'#!/bin/sh\nexec {PYTHON} -B /probe/probe.py "$@"\n')
    (code / "run").chmod(0o755)
    binds = [*((place, place) for place in HOST if Path(place).exists()), (str(code), "/probe")]
    mounts = [{"destination": to, "type": "bind", "source": of, "options": ["rbind", "ro"]} for of, to in binds]
    return world.start(program="/probe/run", mounts=mounts)


def test_nvml_and_cuda_see_the_gpu_from_the_attach_to_the_detach(gpu: Gpu, world: RealWorld, here: Machine) -> None:
    web = start(world, here)
    container, nodes = found(world, web), needed([gpu])
    assert web.ask("cuda").error
    assert gpu.uuid not in web.ask("nvml").text

    attach(world, container, *nodes)
    assert gpu.uuid in web.ask("nvml").text.split()
    assert web.ask("cuda").error == 0

    detach(world, container, *nodes)
    assert gpu.uuid not in web.ask("nvml").text
    assert web.ask("cuda").error


def test_a_process_with_a_cuda_context_is_found_until_it_ends(gpu: Gpu, world: RealWorld, here: Machine) -> None:
    web = start(world, here)
    container, nodes = found(world, web), needed([gpu])
    attach(world, container, *nodes)
    assert web.ask("stay cuda").error == 0
    detach(world, container, *nodes)

    (process,) = {holder.process for holder in held_by(world, web, gpu.node)}
    assert process != container.init
    assert world.processes.signal(process, web.target.uid, signal.SIGKILL)
    eventually(lambda: held_by(world, web, gpu.node) == [], "nobody has it open")

"""What NVML says, asked through its own binding; the driver's library behind that is compiled here."""

import subprocess
from pathlib import Path

import pytest

from attach.inventory import NvidiaInventory
from attach.model import DeviceNode, Gpu
from tests.attach.node.containers import Machine

SOURCE = Path(__file__).with_name("nvml_library.c")
DEVICES = "Character devices:\n195 nvidia\n508 nvidia-caps\n\nBlock devices:\n"
MINORS = {"GPU-1": 3, "GPU-2": 2, "GPU-3": 1}
MIG_MINORS = "gpu2/gi1/access 12\ngpu2/gi1/ci0/access 13\ngpu2/gi3/access 30\ngpu2/gi3/ci0/access 31\n"


def show_driver(proc: Path) -> None:
    """Write what the driver shows in /proc of the library's GPUs."""
    (proc / "driver/nvidia-caps").mkdir(parents=True)
    (proc / "driver/nvidia-caps/mig-minors").write_text(MIG_MINORS)
    (proc / "devices").write_text(DEVICES)
    for uuid, minor in MINORS.items():
        gpu = proc / f"driver/nvidia/gpus/0000:0{minor}:00.0"
        gpu.mkdir(parents=True)
        (gpu / "information").write_text(f"GPU UUID: \t {uuid}\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n")


def cap(minor: int) -> DeviceNode:
    return DeviceNode(f"/dev/nvidia-caps/nvidia-cap{minor}", 508, minor)


def test_whole_gpus_mig_devices_and_lost_gpus_are_told_apart(
    here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = here.folder / "driver" / "libnvidia-ml.so.1"
    library.parent.mkdir()
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    show_driver(tmp_path)
    control, parent = DeviceNode("/dev/nvidiactl", 195, 255), DeviceNode("/dev/nvidia2", 195, 2)
    whole, lost, one, other = NvidiaInventory(tmp_path).gpus()

    assert whole == Gpu("GPU-1", DeviceNode("/dev/nvidia3", 195, 3), (control,))
    assert (lost.uuid, lost.unhealthy) == ("GPU-3", "NVML does not list it: it may have fallen off the bus")
    assert one == Gpu("MIG-10", cap(13), (control, parent, cap(12)))
    assert other == Gpu("MIG-12", cap(31), (control, parent, cap(30)))

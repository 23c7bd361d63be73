"""The node's GPUs: from a file, and from a driver whose /proc and NVML are written by the test."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from attach.errors import Unknown
from attach.inventory import HEALTH_EVERY_S, NullInventory, NvidiaInventory, StaticInventory, open_inventory
from attach.model import DeviceNode, Gpu
from attach.nvml import NOT_INSTALLED
from catalog.problems import InvalidError
from tests.cluster.gpus import listed
from tests.waiting import eventually

HEAD = "apiVersion: podsla.io/v1beta1\nkind: NodeInventory\ngpus:\n"
KVM = "- {uuid: one, path: /dev/gpu0, major: 10, minor: 232}\n"
FUSE = "- {uuid: two, path: /dev/gpu1, major: 10, minor: 229}\n"


def static(folder: Path, text: str) -> StaticInventory:
    file = folder / "inventory.yaml"
    file.write_text(text)
    return StaticInventory(file)


def test_a_file_names_any_device_as_a_gpu(tmp_path: Path) -> None:
    control = "companions: [{path: /dev/gpu-caps/cap1, major: 10, minor: 234}]"
    text = f"{HEAD}{FUSE}- {{uuid: one, path: /dev/gpu0, major: 10, minor: 232, unhealthy: hot, {control}}}\n"
    assert static(tmp_path, text).gpus() == [
        Gpu("one", DeviceNode("/dev/gpu0", 10, 232), (DeviceNode("/dev/gpu-caps/cap1", 10, 234),), "hot"),
        Gpu("two", DeviceNode("/dev/gpu1", 10, 229)),
    ]


def test_a_node_of_the_host_gives_the_numbers_and_without_it_the_device_is_unhealthy(tmp_path: Path) -> None:
    text = (
        f"{HEAD}- {{uuid: one, path: /dev/gpu0, host: /dev/null}}\n- {{uuid: two, path: /dev/gpu1, host: /dev/none}}\n"
    )
    one, two = static(tmp_path, text).gpus()
    assert one == Gpu("one", DeviceNode("/dev/gpu0", 1, 3))
    assert two.unhealthy == "/dev/none is no character device here"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "holds 0 documents; write one", id="empty"),
        pytest.param("gpus: []\n", "is missing; write it", id="no kind"),
        pytest.param(HEAD + KVM + KVM, "gpus[1]: has the same uuid as gpus[0]", id="one UUID twice"),
        pytest.param(HEAD + KVM + KVM.replace("one", "two"), "has the same device as gpus[0]", id="one device twice"),
        pytest.param(
            HEAD + KVM + FUSE.replace("gpu1", "gpu0"), "has the same path as gpus[0]", id="one path for two devices"
        ),
        pytest.param(HEAD + KVM.replace("/dev/gpu0", "/etc/gpu0"), "gpus[0].path", id="a path that is not below /dev"),
        pytest.param(
            HEAD + KVM.replace("/dev/gpu0", "/dev/../etc/x"), "gpus[0].path", id="a path that leads out of /dev"
        ),
        pytest.param(HEAD + KVM.replace("/dev/gpu0", "/dev"), "gpus[0].path", id="/dev itself"),
        pytest.param(HEAD + KVM.replace("/dev/gpu0", '"/dev/gpu0\\n"'), "gpus[0].path", id="a path and a newline"),
        pytest.param(HEAD + KVM.replace("232", "-1"), "gpus[0].minor", id="no such minor"),
        pytest.param(HEAD + KVM.replace(", minor: 232", ""), "needs either", id="a major without a minor"),
        pytest.param(HEAD + KVM.replace("}", ", host: /dev/kvm}"), "needs either", id="numbers and a host's node"),
        pytest.param(
            HEAD + KVM + FUSE.replace("}", ", companions: [{path: /dev/x, major: 10, minor: 232}]}"),
            "is gpus[0] itself; a companion gives no GPU",
            id="another GPU as a companion",
        ),
        pytest.param(HEAD + KVM.replace("uuid", "uid"), "is not a field here", id="a misspelt field"),
        pytest.param("{", "YAML", id="no YAML"),
    ],
)
def test_a_malformed_file_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidError) as invalid:
        static(tmp_path, text)
    assert message in str(invalid.value)


UUID = "GPU-5c5b6dc5-8e1b-7a4b-9a37-1f0a4a4f0d00"
DEVICES = """Character devices:
  1 mem
195 nvidia
195 nvidiactl
507 nvidia-uvm
508 nvidia-caps

Block devices:
  7 loop
"""
COMPANIONS = (
    DeviceNode("/dev/nvidiactl", 195, 255),
    DeviceNode("/dev/nvidia-uvm", 507, 0),
    DeviceNode("/dev/nvidia-uvm-tools", 507, 1),
)
WHOLE = Gpu(UUID, DeviceNode("/dev/nvidia3", 195, 3), COMPANIONS)
Driver = Callable[..., NvidiaInventory]


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    """Write what a driver shows of one GPU, which is not the first."""

    def make(
        *,
        uuid: str = UUID,
        devices: str = DEVICES,
        excluded: str = "No",
        nvml: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> NvidiaInventory:
        gpu = tmp_path / "driver/nvidia/gpus/0000:04:00.0"
        gpu.mkdir(parents=True)
        (tmp_path / "driver/nvidia/version").write_text("NVRM version: 580\n")
        (tmp_path / "driver/nvidia/capabilities").mkdir()
        (tmp_path / "driver/nvidia-caps").mkdir()
        (gpu / "information").write_text(
            f"Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 179\nGPU UUID: \t {uuid}\nBus Location: \t 0000:04:00.0\n"
            f"Device Minor: \t 3\nGPU Excluded:\t {excluded}\n"
        )
        (tmp_path / "devices").write_text(devices)
        script = tmp_path / "nvml.py"
        script.write_text(nvml or f"import sys; sys.exit({NOT_INSTALLED})")
        return NvidiaInventory(tmp_path, [sys.executable, "-I", str(script)], 5, clock)

    return make


def answer(**gpu: object) -> str:
    """Write a child that says what NVML says of the GPU."""
    fields = {"uuid": UUID, "minor": 3, "mig": False, "devices": [], "unhealthy": "", **gpu}
    return f"print({json.dumps(json.dumps({'gpus': [fields]}))})"


@pytest.mark.parametrize("nvml", ["", answer()], ids=["without NVML", "with NVML"])
def test_a_gpu_is_known_by_uuid_and_its_minor_is_not_its_index(driver: Driver, nvml: str) -> None:
    assert driver(nvml=nvml).gpus() == [WHOLE]


def test_an_older_driver_calls_its_major_otherwise(driver: Driver) -> None:
    assert driver(devices=DEVICES.replace("195 nvidia\n", "195 nvidia-frontend\n")).gpus() == [WHOLE]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"uuid": "GPU-????????-????-????-????-????????????"}, "fallen off the bus", id="lost"),
        pytest.param({"excluded": "Yes"}, "the driver excludes it", id="excluded"),
        pytest.param({"devices": "Character devices:\n  1 mem\n"}, "major number", id="driver unloaded"),
        pytest.param({"nvml": answer(uuid="GPU-other")}, "NVML does not list it", id="NVML does not list it"),
        pytest.param({"nvml": answer(unhealthy="GPU is lost")}, "GPU is lost", id="NVML says why"),
    ],
)
def test_a_gpu_that_is_not_well_is_listed_with_the_reason(driver: Driver, options: dict[str, str], reason: str) -> None:
    (gpu,) = driver(**options).gpus()
    assert reason in gpu.unhealthy


def partition(proc: Path) -> None:
    for folder in ("gi1/ci0", "gi2/ci0"):
        (proc / "driver/nvidia/capabilities/gpu3/mig" / folder).mkdir(parents=True)
    (proc / "driver/nvidia-caps/mig-minors").write_text(
        "config 1\nmonitor 2\ngpu3/gi1/access 12\ngpu3/gi1/ci0/access 13\ngpu3/gi2/access 21\ngpu3/gi2/ci0/access 22\n"
    )


def test_mig_devices_are_gpus_of_their_own_with_the_parent_as_companion(driver: Driver, tmp_path: Path) -> None:
    devices = [
        {"uuid": "MIG-b", "gi": 2, "ci": 0},
        {"uuid": "MIG-a", "gi": 1, "ci": 0},
        {"uuid": "MIG-c", "gi": 9, "ci": 0},
    ]
    inventory = driver(nvml=answer(mig=True, devices=devices))
    partition(tmp_path)
    one, two, three = inventory.gpus()
    parent, caps = DeviceNode("/dev/nvidia3", 195, 3), "/dev/nvidia-caps/nvidia-cap"
    assert one == Gpu(
        "MIG-a", DeviceNode(f"{caps}13", 508, 13), (*COMPANIONS, parent, DeviceNode(f"{caps}12", 508, 12))
    )
    assert two == Gpu(
        "MIG-b", DeviceNode(f"{caps}22", 508, 22), (*COMPANIONS, parent, DeviceNode(f"{caps}21", 508, 21))
    )
    assert three.unhealthy == "gpu3/gi9/ci0 has no capability node"


def test_a_partitioned_gpu_is_never_given_whole_where_nvml_is_missing(driver: Driver, tmp_path: Path) -> None:
    inventory = driver()
    partition(tmp_path)
    (gpu,) = inventory.gpus()
    assert "only NVML lists" in gpu.unhealthy


def _nothing(_proc: Path) -> None:
    """All stays as it is."""


def _load_driver_anew(proc: Path) -> None:
    """The same GPUs under the same numbers."""
    shutil.move(proc / "driver/nvidia", proc / "before")
    shutil.copytree(proc / "before", proc / "driver/nvidia")


def _partition_anew(proc: Path) -> None:
    """A MIG device of another UUID under the numbers of the one before it."""
    instance = proc / "driver/nvidia/capabilities/gpu3/mig/gi1"
    shutil.move(instance, proc / "before")
    shutil.copytree(proc / "before", instance)


def _renumber(proc: Path) -> None:
    (proc / "devices").write_text(DEVICES.replace("507", "509"))


@pytest.mark.parametrize(
    ("change", "seconds", "asked"),
    [
        pytest.param(_nothing, HEALTH_EVERY_S - 1, 1, id="nothing has changed"),
        pytest.param(_nothing, HEALTH_EVERY_S, 2, id="health is asked for again after a while"),
        pytest.param(_load_driver_anew, 0.0, 2, id="the driver was loaded anew"),
        pytest.param(_partition_anew, 0.0, 2, id="a partition was made anew"),
        pytest.param(_renumber, 0.0, 2, id="a number is another"),
    ],
)
def test_nvml_is_asked_again_where_something_may_have_changed(
    driver: Driver, tmp_path: Path, change: Callable[[Path], None], seconds: float, asked: int
) -> None:
    log, now_s = tmp_path / "asked", [100.0]
    child = f"open({str(log)!r}, 'a').write('.')\n{answer()}"
    inventory = driver(nvml=child, clock=lambda: now_s[0])
    partition(tmp_path)
    before = inventory.gpus()
    now_s[0] += seconds
    change(tmp_path)
    for _ in range(3):
        assert [gpu.uuid for gpu in inventory.gpus()] == [gpu.uuid for gpu in before] == [UUID]
    assert log.read_text() == "." * asked


def test_an_nvml_that_failed_is_asked_again_at_once(driver: Driver, tmp_path: Path) -> None:
    inventory = driver(nvml="raise SystemExit('not yet')")
    with pytest.raises(Unknown, match="not yet"):
        inventory.gpus()
    (tmp_path / "nvml.py").write_text(answer())
    assert inventory.gpus() == [WHOLE]


def test_an_nvml_that_hangs_is_given_up_on_and_not_started_again_while_it_does(driver: Driver) -> None:
    """Case 51."""
    inventory = driver(nvml="import time; time.sleep(600)")
    inventory._deadline_s = 0.2
    with pytest.raises(Unknown) as unknown:
        inventory.gpus()
    assert unknown.value.reason == "DriverHangs"
    stuck = inventory._stuck
    assert stuck is not None
    eventually(lambda: stuck.poll() is not None, "it was killed")


def test_an_nvml_that_fails_is_no_empty_node(driver: Driver) -> None:
    with pytest.raises(Unknown, match="Driver/library version mismatch"):
        driver(nvml="raise SystemExit('Driver/library version mismatch')").gpus()


def test_a_driver_that_is_gone_is_no_empty_node(tmp_path: Path) -> None:
    with pytest.raises(Unknown):
        NvidiaInventory(tmp_path).gpus()


def test_a_file_can_name_what_the_driver_lists(driver: Driver, tmp_path: Path) -> None:
    """So that a cluster of tests lends the real GPUs of its node."""
    found = driver().gpus()
    assert found[0].companions, "without those no GPU opens"
    assert static(tmp_path, HEAD + "  " + json.dumps([listed(gpu) for gpu in found])).gpus() == found


def test_the_inventory_is_the_file_else_the_driver_else_none(driver: Driver, tmp_path: Path) -> None:
    file = tmp_path / "inventory.yaml"
    file.write_text(HEAD + KVM)
    assert isinstance(open_inventory(None, tmp_path), NullInventory)
    driver()
    assert isinstance(open_inventory(None, tmp_path), NvidiaInventory)
    assert isinstance(open_inventory(file, tmp_path), StaticInventory)
    assert open_inventory(None, tmp_path / "nothing").gpus() == ()

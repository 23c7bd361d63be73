"""
The NVIDIA driver's texts and NVML's answer → GPUs. Pure.

A MIG device is known by the node of its compute instance, which no other has; the GPU's own node is its companion, and
opens nothing without that. Numbers are never assumed: a major may be another after the driver was loaded anew.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from attach.model import DeviceNode, Gpu

_MAIN: Final = ("nvidia", "nvidia-frontend")  # before driver 550.40 the latter
_COMPANIONS: Final = (  # driver, minor, node
    ("nvidia", 255, "/dev/nvidiactl"),
    ("nvidia-uvm", 0, "/dev/nvidia-uvm"),
    ("nvidia-uvm", 1, "/dev/nvidia-uvm-tools"),
)


@dataclass(frozen=True, slots=True)
class DriverTexts:
    """
    What the driver's files say.

    Attributes:
        information: /proc/driver/nvidia/gpus/BDF/information, by PCI address.
        devices: /proc/devices.
        mig_minors: /proc/driver/nvidia-caps/mig-minors; "" where there is none.
        instances: The MIG instances that exist: "gpu0/mig/gi1", "gpu0/mig/gi1/ci0".
    """

    information: Mapping[str, str]
    devices: str
    mig_minors: str = ""
    instances: frozenset[str] = frozenset()


def parse_gpus(texts: DriverTexts, nvml: Mapping[str, Any] | None) -> Sequence[Gpu]:
    """List GPUs and MIG devices by UUID; what can't be told for sure is unhealthy, so that nobody is given it."""
    majors = _majors(texts.devices)
    by_uuid = {gpu["uuid"]: gpu for gpu in (nvml or {}).get("gpus", ()) if "uuid" in gpu}
    found = list[Gpu]()
    for address, text in texts.information.items():
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
        uuid, minor = fields.get("GPU UUID", ""), fields.get("Device Minor", "")
        said = by_uuid.get(uuid)
        unhealthy = _unhealthy(fields, said, texts, asked=nvml is not None, known="nvidia" in majors)
        if unhealthy or said is None or not said["mig"]:
            name = uuid if uuid and "?" not in uuid else f"unknown-{address}"
            node = _node(majors, int(minor) if minor.isdigit() else 0)
            found.append(Gpu(name, node, _companions(majors), unhealthy))
        else:
            found += _mig_devices(int(minor), said, texts, majors)
    return sorted(found)


def _majors(devices: str) -> dict[str, int]:
    """Read the majors of character devices by driver."""
    characters = devices.partition("Block devices:")[0]
    pairs = [line.split() for line in characters.splitlines()]
    majors = {pair[1]: int(pair[0]) for pair in pairs if len(pair) == 2 and pair[0].isdigit()}
    for name in _MAIN:
        if name in majors:
            majors.setdefault("nvidia", majors[name])
    return majors


def _node(majors: Mapping[str, int], minor: int) -> DeviceNode:
    return DeviceNode(f"/dev/nvidia{minor}", majors.get("nvidia", 0), minor)


def _companions(majors: Mapping[str, int]) -> tuple[DeviceNode, ...]:
    return tuple(DeviceNode(path, majors[driver], minor) for driver, minor, path in _COMPANIONS if driver in majors)


def _unhealthy(
    fields: Mapping[str, str], said: Mapping[str, Any] | None, texts: DriverTexts, *, asked: bool, known: bool
) -> str:
    """Say why nobody may be given a GPU; "" where it may be."""
    uuid, minor = fields.get("GPU UUID", ""), fields.get("Device Minor", "")
    if not known:
        return "the driver's major number is not in /proc/devices"
    if not uuid or "?" in uuid or not minor.isdigit():
        return "the driver does not tell its UUID and minor number: it may have fallen off the bus"
    if fields.get("GPU Excluded") == "Yes":
        return "the driver excludes it"
    if said is None and asked:
        return "NVML does not list it: it may have fallen off the bus"
    if said is None and any(each.startswith(f"gpu{minor}/") for each in texts.instances):
        return "it is partitioned into MIG devices, which only NVML lists: install nvidia-ml-py"
    return str(said["unhealthy"]) if said else ""


def _mig_devices(minor: int, said: Mapping[str, Any], texts: DriverTexts, majors: Mapping[str, int]) -> Iterator[Gpu]:
    """List the MIG devices of one GPU."""
    minors = dict(line.split() for line in texts.mig_minors.splitlines() if len(line.split()) == 2)
    for device in said["devices"]:
        instance = f"gpu{minor}/gi{device['gi']}"
        compute = f"{instance}/ci{device['ci']}"
        caps = [minors.get(f"{each}/access", "") for each in (instance, compute)]
        if "nvidia-caps" not in majors or not all(cap.isdigit() for cap in caps):
            yield Gpu(device["uuid"], DeviceNode("/dev/nvidia-caps", 0, 0), (), f"{compute} has no capability node")
            continue
        nodes = [DeviceNode(f"/dev/nvidia-caps/nvidia-cap{cap}", majors["nvidia-caps"], int(cap)) for cap in caps]
        yield Gpu(device["uuid"], nodes[1], (*_companions(majors), _node(majors, minor), nodes[0]), "")

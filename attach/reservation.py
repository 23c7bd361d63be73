"""What the kubelet has given to the pods of this node, and which GPUs that are. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, order=True)
class Device:
    """
    A device that a pod has.

    Attributes:
        resource: By which it was asked for; "" for a dynamic one: the kubelet does not say.
        name: A device plugin's device ID; of a dynamic device, its name in the pool.
        driver, pool: Of a dynamic device.
    """

    resource: str
    name: str
    driver: str = ""
    pool: str = ""


@dataclass(frozen=True, slots=True)
class PodDevices:
    """The devices of one pod, which the kubelet knows by its name alone."""

    namespace: str
    name: str
    devices: tuple[Device, ...]


class Reservations(Protocol):
    """What the kubelet has given away."""

    def pods(self) -> tuple[PodDevices, ...]:
        """
        List what each pod has.

        Raises:
            Unknown: The kubelet does not answer.
        """


def reserved(
    pods: Iterable[PodDevices], namespace: str, name: str, resource: str, slices: Iterable[Mapping[str, Any]] = ()
) -> tuple[str, ...]:
    """
    Name by UUID the devices that a placeholder holds: those of *resource*, or where it has none, its dynamic ones.

    Args:
        slices: The node's ResourceSlices, which say what a dynamic device is.
    """
    found = [device for pod in pods if (pod.namespace, pod.name) == (namespace, name) for device in pod.devices]
    plain = [device.name for device in found if device.resource == resource]
    if plain:
        return tuple(sorted(plain))
    listed = tuple(slices)
    return tuple(sorted(_uuid(device, listed) for device in found if device.driver))


def _uuid(device: Device, slices: Iterable[Mapping[str, Any]]) -> str:
    """Read the attribute `uuid` of a dynamic device; without one, its name, which may be in the inventory."""
    for spec in (each["spec"] for each in slices):
        if (spec["driver"], spec["pool"]["name"]) == (device.driver, device.pool):
            for listed in spec.get("devices") or ():
                if listed["name"] == device.name:
                    attributes = listed.get("attributes") or {}
                    found = attributes.get("uuid") or attributes.get(f"{device.driver}/uuid") or {}
                    return str(found.get("string") or device.name)
    return device.name

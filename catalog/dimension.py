"""The dimensions of a sandbox: one row each, and nothing else in the code lists them again.

A row of figures is a tuple in the order of `DIMENSIONS`. In a size, None is a figure that nobody published: it holds
no floor. In an ask, 0 is "not asked".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from catalog.keys import DOMAIN, MIN_PREFIX
from catalog.quantity import parse_cpu_m, parse_integer, render_bytes, render_cpu_m, render_integer

Figures: TypeAlias = tuple[int | None, ...]
Ask: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dimension:
    """
    One thing that a sandbox has and an SLA class can promise.

    Attributes:
        index: Its place in a row of figures.
        path: Its name in YAML, records and messages.
        unit: What one unit of the integer is.
        parse: Text to integer.
        render: Integer to the text that Kubernetes would write.
        resource: The extended resource that reserves it; None where it cannot be divided.
        label: The node label that states it; None where a reservation does.
        min_key: The annotation by which a pod asks for more; None where the pod's resources say it.
    """

    index: int
    path: str
    unit: str
    parse: Callable[[object], int]
    render: Callable[[int], str]
    resource: str | None = None
    label: str | None = None
    min_key: str | None = None

    def __repr__(self) -> str:
        return self.path


VCPU: Final = Dimension(0, "vcpu", "millicores", parse_cpu_m, render_cpu_m)
MEMORY: Final = Dimension(1, "memory", "bytes", parse_integer, render_bytes)
BASE_MHZ: Final = Dimension(
    2, "cpu.baseMHz", "MHz", parse_integer, str, label=f"{DOMAIN}base-mhz", min_key=f"{MIN_PREFIX}base-mhz"
)
PPS: Final = Dimension(
    3, "network.pps", "packets/s", parse_integer, render_integer, f"{DOMAIN}pps", min_key=f"{MIN_PREFIX}pps"
)
NIC_QUEUES: Final = Dimension(
    4, "network.queues", "queues", parse_integer, str, label=f"{DOMAIN}nic-queues", min_key=f"{MIN_PREFIX}nic-queues"
)
NETWORK_BITS: Final = Dimension(
    5,
    "network.bitsPerSecond",
    "bits/s",
    parse_integer,
    render_integer,
    f"{DOMAIN}network-bits-per-second",
    min_key=f"{MIN_PREFIX}network-bits-per-second",
)
DISK_IOPS: Final = Dimension(
    6,
    "disk.iops",
    "operations/s",
    parse_integer,
    render_integer,
    f"{DOMAIN}disk-iops",
    min_key=f"{MIN_PREFIX}disk-iops",
)
DISK_BYTES: Final = Dimension(
    7,
    "disk.bytesPerSecond",
    "bytes/s",
    parse_integer,
    render_integer,
    f"{DOMAIN}disk-bytes-per-second",
    min_key=f"{MIN_PREFIX}disk-bytes-per-second",
)
GPU_COUNT: Final = Dimension(8, "gpu.count", "GPUs", parse_integer, str)

DIMENSIONS: Final = (VCPU, MEMORY, BASE_MHZ, PPS, NIC_QUEUES, NETWORK_BITS, DISK_IOPS, DISK_BYTES, GPU_COUNT)
TUNABLE: Final = tuple(d for d in DIMENSIONS if d.min_key)
RESERVABLE: Final = tuple(d for d in DIMENSIONS if d.resource)
DISK: Final = (DISK_IOPS, DISK_BYTES)
BY_PATH: Final[Mapping[str, Dimension]] = {d.path: d for d in DIMENSIONS}
BY_MIN_KEY: Final[Mapping[str, Dimension]] = {d.min_key: d for d in TUNABLE if d.min_key}

NOTHING: Final[Ask] = (0,) * len(DIMENSIONS)


def lacking(figures: Figures, ask: Ask) -> tuple[Dimension, ...]:
    """Name the dimensions in which *figures* fall short of *ask*; a blank figure falls short of any ask."""
    return tuple(
        d for d, have, want in zip(DIMENSIONS, figures, ask, strict=True) if want and (have is None or have < want)
    )


def render_lacking(figures: Figures, ask: Ask) -> str:
    """List what *figures* fall short of, with both figures: "network.pps 950k of 1500k"."""
    return ", ".join(f"{d} {render(d, figures[d.index])} of {d.render(ask[d.index])}" for d in lacking(figures, ask))


def at_least(left: Ask, right: Ask) -> Ask:
    """Take the maximum per dimension."""
    return tuple(map(max, left, right))


def render(dimension: Dimension, value: int | None) -> str:
    """Write a figure for a person: "not published" where there is none."""
    return "not published" if value is None else dimension.render(value)

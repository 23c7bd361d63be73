"""What others do to the device rules of a container that has a device attached."""

import struct
from pathlib import Path
from typing import Final

from attach.bpf import Bpf, call
from attach.cgroupfs import opened
from attach.model import Cgroup, CgroupVersion, DeviceNode

ATTACH: Final = 8
DEVICE, MULTI = 6, 2  # of attach types, and of flags


def add(cgroup: Cgroup, code: bytes, name: str = "") -> None:
    """Attach a program beside those that are there, as a systemd that reloads does."""
    with opened(cgroup) as fd, Bpf().loaded(code, name) as program:
        call(ATTACH, struct.pack("<IIIII", fd, program, DEVICE, MULTI, 0), "attach a program")


def rules_in(cgroup: Cgroup) -> list[bytes]:
    """Read the rules as the kernel has them."""
    if cgroup.version is CgroupVersion.V1:
        return [Path(cgroup.path, "devices.list").read_bytes()]
    bpf, found = Bpf(), list[bytes]()
    with opened(cgroup) as fd:
        for number in bpf.query(fd).numbers:
            with bpf.opened(number) as program:
                found.append(bpf.read(program).code)
    return found


def make_anew(cgroup: Cgroup, gpu: DeviceNode, runtimes: list[bytes]) -> None:
    """Do what a runtime or a systemd does that loads its rule again; *runtimes* are those from before the attach."""
    if cgroup.version is CgroupVersion.V1:
        Path(cgroup.path, "devices.deny").write_text(f"c {gpu.major}:{gpu.minor} rw")
    else:
        (code,) = runtimes
        add(cgroup, code)

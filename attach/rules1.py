"""
EDGE: device rules on cgroup version 1: the files devices.allow and devices.deny of the cgroup.

An allow is not passed to the folders that are there, so each is written, from the top down; a deny is. The kernel keeps
no names: an entry "c MAJOR:MINOR rw" counts as ours, and an entry of more (the runtimes write "rwm") is left alone.
"""

import errno
import os
from collections.abc import Collection, Sequence
from typing import Final

from attach.cgroupfs import VANISHED, levels, opened
from attach.errors import AttachError, Gone, Refused, Unknown
from attach.model import Cgroup, DeviceNode
from attach.points import Hook, nowhere, point

_OURS: Final = "rw"


class Rules1:
    """Device rules as lines in files."""

    def __init__(self, at: Hook = nowhere) -> None:
        self.at = at

    def allowed(self, cgroup: Cgroup) -> frozenset[int]:
        """See the port."""
        with opened(cgroup) as fd:
            return _allowed(fd, cgroup)

    def permitted(self, cgroup: Cgroup, rdevs: Collection[int]) -> frozenset[int]:
        """See the port."""
        with opened(cgroup) as fd:
            lines = _lines(fd, cgroup)
        if _allows_everything(lines):
            return frozenset()
        return frozenset(rdev for rdev in rdevs if any(_lets_open(line, rdev) for line in lines))

    def settled(self, cgroup: Cgroup) -> frozenset[int]:
        """See the port."""
        with opened(cgroup) as fd:
            return frozenset.intersection(*(_allowed(folder, cgroup) for folder in levels(fd)))

    def allow(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        """See the port."""
        with opened(cgroup) as fd:
            if _allows_everything(_lines(fd, cgroup)):
                raise Refused(
                    "AllDevicesAllowed",
                    f"cgroup {cgroup.path}: the container may open every device (it is privileged), so access could "
                    "not be taken back; attach to a container with device rules",
                )
            for folder in levels(fd):
                for node in sorted(set(nodes)):
                    self._write(folder, "devices.allow", node, cgroup)

    def deny(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        """See the port."""
        try:
            with opened(cgroup) as fd:
                entries = _entries(_lines(fd, cgroup))
                for node in sorted(set(nodes)):
                    if entries.get(node.rdev) == _OURS:
                        self._write(fd, "devices.deny", node, cgroup)
        except Gone:
            return

    @point("write a device rule")
    def _write(self, folder: int, name: str, node: DeviceNode, cgroup: Cgroup) -> None:
        line = f"c {node.major}:{node.minor} {_OURS}"
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.write(fd, line.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise _error(f"write {line!r} to {name}", cgroup, error) from error


def _lines(folder: int, cgroup: Cgroup) -> list[str]:
    try:
        fd = os.open("devices.list", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        with open(fd, encoding="ascii") as file:
            return file.read().splitlines()
    except OSError as error:
        raise _error("read the rules", cgroup, error) from error


def _allowed(folder: int, cgroup: Cgroup) -> frozenset[int]:
    return frozenset(rdev for rdev, access in _entries(_lines(folder, cgroup)).items() if {*_OURS} <= {*access})


def _allows_everything(lines: Sequence[str]) -> bool:
    return any(line.startswith("a ") for line in lines)


def _lets_open(line: str, rdev: int) -> bool:
    """Tell whether a line lets a character device be opened, for reading or for writing, by itself or by a wildcard."""
    kind, numbers, access = line.split()
    major, _, minor = numbers.partition(":")
    names_it = major in ("*", str(os.major(rdev))) and minor in ("*", str(os.minor(rdev)))
    is_ours = access == _OURS and "*" not in numbers
    return kind == "c" and names_it and not is_ours and not {*_OURS}.isdisjoint(access)


def _entries(lines: Sequence[str]) -> dict[int, str]:
    """Read what single character devices are allowed; wildcards name no device."""
    entries = dict[int, str]()
    for line in lines:
        kind, numbers, access = line.split()
        major, _, minor = numbers.partition(":")
        if kind == "c" and major.isdigit() and minor.isdigit():
            entries[os.makedev(int(major), int(minor))] = access
    return entries


def _error(doing: str, cgroup: Cgroup, error: OSError) -> AttachError:
    sentence = f"cannot {doing} of cgroup {cgroup.path}: {error.strerror}"
    if error.errno in VANISHED:
        return Gone("CgroupGone", sentence)
    if error.errno == errno.EPERM:
        return Refused("RuledAbove", f"{sentence}; a cgroup above it does not allow the device")
    return Unknown("RulesUnknown", sentence)

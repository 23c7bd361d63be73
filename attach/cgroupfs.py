"""EDGE: folders of the cgroup file system, held open: a folder that was made anew is not taken for the old one."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attach.cgroup import Hierarchy, ruling_hierarchy
from attach.errors import Gone, Refused, Unknown
from attach.model import Cgroup

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
VANISHED: Final = frozenset({errno.ENOENT, errno.ENODEV})


def detect(mountinfo: Path = Path("/proc/self/mountinfo")) -> Hierarchy:
    """
    Find the tree of cgroups that rules device access on this node.

    Raises:
        Unknown: None is mounted here.
    """
    found = ruling_hierarchy(os.fsdecode(mountinfo.read_bytes()))
    if found is None:
        raise Unknown(
            "NoCgroups", "no cgroup tree that rules device access is mounted; mount the host's /sys/fs/cgroup"
        )
    return found


@contextmanager
def opened(cgroup: Cgroup) -> Iterator[int]:
    """
    Hold a container's cgroup.

    Raises:
        Gone: It is not there, or is another one by now.
        Refused: It is the root, which rules the whole node.
    """
    try:
        fd = os.open(cgroup.path, _FOLDER)
    except FileNotFoundError as error:
        raise Gone("CgroupGone", f"cgroup {cgroup.path} is no longer there: the container has ended") from error
    except OSError as error:
        raise Refused("NotACgroup", f"cgroup {cgroup.path} can't be opened as a folder: {error.strerror}") from error
    try:
        own, above = os.fstat(fd), os.stat("..", dir_fd=fd)
        if own.st_ino != cgroup.inode:
            raise Gone("CgroupGone", f"cgroup {cgroup.path} was made anew since: the container has ended")
        if own.st_dev != above.st_dev or own.st_ino == above.st_ino:  # mounted here
            raise Refused("RootCgroup", f"cgroup {cgroup.path} is the root: its rules are those of the whole node")
        yield fd
    finally:
        os.close(fd)


def levels(folder_fd: int) -> Iterator[int]:
    """Give a folder and every one below it, each before what is below it; one that goes away meanwhile is left out."""
    yield folder_fd
    try:
        with os.scandir(folder_fd) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        if error.errno in VANISHED:
            return
        raise
    for name in names:
        try:
            fd = os.open(name, _FOLDER, dir_fd=folder_fd)
        except FileNotFoundError:
            continue
        try:
            yield from levels(fd)
        finally:
            os.close(fd)

"""EDGE: what processes take, by /proc (Linux)."""

import os
from collections.abc import Iterator
from pathlib import Path


def tree(pid: int) -> Iterator[int]:
    """A process and those that it forked."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from tree(int(child))


def resident_mib(pid: int, field: str = "VmRSS") -> float:
    """Resident memory in MiB (its peak: VmHWM) of a process and its tree; what they share counts in each."""
    return sum(_kib(one, field) for one in tree(pid)) / 1024


def _kib(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, in seconds; of those that it forked, none."""
    return sum(_ticks(pid)[:2]) / os.sysconf("SC_CLK_TCK")


def tree_cpu_s(pid: int) -> float:
    """Processor time of a process, of those that it forked, and of those of them that have ended, in seconds."""
    return sum(sum(_ticks(one)) for one in tree(pid)) / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> list[int]:
    """User and system time of a process, and both of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]

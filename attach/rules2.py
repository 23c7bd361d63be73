"""
EDGE: device rules on cgroup version 2: a rule is put before every program of the cgroup, each being replaced at once.

All programs of a cgroup and of those above it must allow; so what stands there loses no word, and no open is refused
that was not. Programs of ours are known by name (attach.devfilter), so nothing has to be remembered.
"""

import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final

from attach import devfilter
from attach.bpf import Bpf, Program
from attach.cgroupfs import VANISHED, levels, opened
from attach.devfilter import READ_WRITE, AccessType, FilterError
from attach.errors import AttachError, Gone, Refused, Unknown
from attach.model import Cgroup, DeviceNode
from attach.reasons import Reason

_TRIES: Final = 32  # of a change that another's change of the same programs spoilt
_NO_DEVICE: Final = os.makedev(4095, 1048575)  # the last number there can be
_REFUSALS: Final[Mapping[int, Reason]] = {
    errno.EPERM: "ProgramUnreadable",
    errno.EACCES: "ProgramUnreadable",
    errno.E2BIG: "TooManyPrograms",
}

Change = Callable[[frozenset[int]], frozenset[int]]


class Rules2:
    """Device rules as BPF programs."""

    def __init__(self, bpf: Bpf | None = None) -> None:
        self._bpf = bpf or Bpf()

    def allowed(self, cgroup: Cgroup) -> frozenset[int]:
        """See the port."""
        with opened(cgroup) as fd, _translated("read the rules", cgroup):
            own = self._bpf.query(fd).numbers
            rules = frozenset[int]()
            for program in self._programs(own):
                rules |= devfilter.split(program.name, program.code)[0]
            if not rules:
                return rules
            others = list(self._programs(self._bpf.query(fd, effective=True).numbers))
            return frozenset(rdev for rdev in rules if all(_allows(program, rdev) for program in others))

    def permitted(self, cgroup: Cgroup, rdevs: Collection[int]) -> frozenset[int]:
        """See the port."""
        with opened(cgroup) as fd, _translated("read the rules", cgroup):
            effective = list(self._programs(self._bpf.query(fd, effective=True).numbers))
        if all(_allows(program, _NO_DEVICE) for program in effective):
            return frozenset()
        either = (AccessType.READ, AccessType.WRITE)
        return frozenset(
            rdev
            for rdev in rdevs
            if any(all(_allows(program, rdev, access, ours=False) for program in effective) for access in either)
        )

    def settled(self, cgroup: Cgroup) -> frozenset[int]:
        """See the port."""
        found = self.allowed(cgroup)
        if found:
            with opened(cgroup) as fd, _translated("read the rules", cgroup):
                for folder in levels(fd):
                    for program in self._programs(self._bpf.query(folder).numbers):
                        if not program.has_maps:
                            found &= devfilter.split(program.name, program.code)[0]
        return found

    def allow(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        """See the port."""
        wanted = frozenset(node.rdev for node in nodes)
        with opened(cgroup) as fd, _translated("allow devices", cgroup):
            effective = list(self._programs(self._bpf.query(fd, effective=True).numbers))
            if all(_allows(program, _NO_DEVICE) for program in effective):
                raise Refused(
                    "AllDevicesAllowed",
                    f"cgroup {cgroup.path}: the container may open every device (it is privileged), so access could "
                    "not be taken back; attach to a container with device rules",
                )
            self._check(fd, cgroup)
            self._rewrite_all(fd, lambda rules: rules | wanted)

    def deny(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        """See the port."""
        unwanted = frozenset(node.rdev for node in nodes)
        try:
            with opened(cgroup) as fd, _translated("deny devices", cgroup):
                self._rewrite_all(fd, lambda rules: rules - unwanted)
        except Gone:
            return

    def _programs(self, numbers: Collection[int]) -> Iterator[Program]:
        """Read programs; one that was replaced meanwhile is left out."""
        for number in numbers:
            try:
                with self._bpf.opened(number) as fd:
                    yield self._bpf.read(fd)
            except FileNotFoundError:
                continue

    def _check(self, fd: int, cgroup: Cgroup) -> None:
        """Refuse before anything is changed what a later program would be refused for."""
        for folder in levels(fd):
            for program in self._programs(self._bpf.query(folder).numbers):
                if program.has_maps:
                    raise Refused(
                        "ProgramHasMaps",
                        f"cgroup {cgroup.path}: device program {program.number} {program.name!r} uses maps, so it "
                        "can't be loaded again with a rule before it",
                    )
                devfilter.split(program.name, program.code)

    def _rewrite_all(self, fd: int, change: Change) -> None:
        for folder in levels(fd):
            try:
                self._rewrite(folder, change)
            except OSError as error:
                if folder == fd or error.errno not in VANISHED:
                    raise

    def _rewrite(self, folder: int, change: Change) -> None:
        """Bring every program of one cgroup to its changed rules, however often others change them meanwhile."""
        for _ in range(_TRIES):
            try:
                if not self._rewrite_once(folder, change):
                    return
            except FileNotFoundError:  # replaced by another between question and answer
                continue
        raise Unknown("RulesKeepChanging", f"the device programs changed under {_TRIES} tries in a row")

    def _rewrite_once(self, folder: int, change: Change) -> bool:
        """Go over the programs once; True: something was changed, so look again."""
        attached = self._bpf.query(folder)
        with ExitStack() as held:
            seen, stale, due = set[tuple[frozenset[int], bytes]](), list[int](), list[tuple[int, str, bytes]]()
            for number in reversed(attached.numbers):  # the newest is the one that its maker still knows
                old = held.enter_context(self._bpf.opened(number))
                program = self._bpf.read(old)
                rules, tail = devfilter.split(program.name, program.code)
                wanted = change(rules)
                if rules and (wanted, tail) in seen:  # the runtime made its own anew: ours says nothing more
                    stale.append(old)
                elif wanted != rules and not program.has_maps:
                    due.append((old, devfilter.name_of(wanted), devfilter.assemble(wanted, tail)))
                seen.add((wanted, tail))
            for old in stale:  # first: a replacement needs room for one more
                self._bpf.detach(folder, old)
            for old, name, code in due:
                with self._bpf.loaded(code, name) as new:
                    self._bpf.replace(folder, new, old, attached.flags)
            return bool(stale or due)


def _allows(program: Program, rdev: int, access: AccessType = READ_WRITE, *, ours: bool = True) -> bool:
    """Ask a program, with our rules or without; what can't be understood is left to the device's opening."""
    if program.has_maps:
        return True
    try:
        rules, tail = devfilter.split(program.name, program.code)
        return (ours and rdev in rules) or devfilter.evaluate(tail, rdev, access)
    except FilterError:
        return True


@contextmanager
def _translated(doing: str, cgroup: Cgroup) -> Iterator[None]:
    """Say in attach's words what the kernel answered."""
    try:
        yield
    except FilterError as error:
        raise Refused("ProgramForeign", f"cannot {doing} of cgroup {cgroup.path}: {error}") from error
    except OSError as error:
        raise _error(doing, cgroup, error) from error


def _error(doing: str, cgroup: Cgroup, error: OSError) -> AttachError:
    sentence = f"cannot {doing} of cgroup {cgroup.path}: {error.strerror}"
    if error.errno in VANISHED:
        return Gone("CgroupGone", sentence)
    if reason := _REFUSALS.get(error.errno or 0):
        return Refused(reason, sentence)
    if error.errno == errno.EINVAL:
        return Refused(
            "KernelRefuses", f"{sentence}; Linux 5.6 or later is needed, and net.core.bpf_jit_harden below 2"
        )
    return Unknown("RulesUnknown", sentence)

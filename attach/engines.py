"""Which engine rules a container's devices: the one of its own cgroup's version. Pure dispatch."""

from collections.abc import Collection
from typing import Final

from attach.model import Cgroup, CgroupVersion, DeviceNode
from attach.ports import Rules

ENGINE: Final = {CgroupVersion.V1: "cgroup1", CgroupVersion.V2: "cgroup2"}  # as reported to users


class ByVersion:
    """Both engines as one."""

    def __init__(self, v1: Rules, v2: Rules) -> None:
        self._rules = {CgroupVersion.V1: v1, CgroupVersion.V2: v2}

    def allowed(self, cgroup: Cgroup) -> frozenset[int]:
        """See `Rules.allowed`."""
        return self._rules[cgroup.version].allowed(cgroup)

    def permitted(self, cgroup: Cgroup, rdevs: Collection[int]) -> frozenset[int]:
        """See `Rules.permitted`."""
        return self._rules[cgroup.version].permitted(cgroup, rdevs)

    def settled(self, cgroup: Cgroup) -> frozenset[int]:
        """See `Rules.settled`."""
        return self._rules[cgroup.version].settled(cgroup)

    def allow(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        """See `Rules.allow`."""
        self._rules[cgroup.version].allow(cgroup, nodes)

    def deny(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        """See `Rules.deny`."""
        self._rules[cgroup.version].deny(cgroup, nodes)

"""What the reconcile loop asks of a node. Real adapters are edge modules; the fake is tests/attach/fakes.py."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from attach.model import Access, Cgroup, Container, DeviceNode, Gpu, Holder, NodeState, Process, Target


class Rules(Protocol):
    """Device rules of a container's cgroup: one engine for each cgroup version."""

    def allowed(self, cgroup: Cgroup) -> frozenset[int]:
        """
        Name the devices that rules of ours allow, by `st_rdev`, and that nothing above or beside them takes back.

        Raises:
            Gone: The cgroup is no longer the one that was found.
            Unknown: The rules can't be read.
        """

    def permitted(self, cgroup: Cgroup, rdevs: Collection[int]) -> frozenset[int]:
        """
        Name those of the devices that the container may open by rules which are not ours, and which stay when ours go.

        One that may open every device is not asked about: `allow` refuses it.

        Raises:
            Gone, Unknown: As `allowed` does.
        """

    def settled(self, cgroup: Cgroup) -> frozenset[int]:
        """
        Name those of the allowed devices for which `allow` has nothing left to do, though an agent may have died in it.

        Raises:
            Gone, Unknown: As `allowed` does.
        """

    def allow(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        """
        Allow read and write, in the cgroup and all below it; the rules that stand there keep their words and order.

        Done already, it changes nothing. At no moment is access denied that was allowed.

        Raises:
            Gone, Refused, Unknown: As of their names; nothing was widened that `deny` would not take back.
        """

    def deny(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        """Take rules of ours away, and only those; a cgroup that is gone is no error."""


class Nodes(Protocol):
    """Device nodes in a container's own /dev."""

    def state(self, container: Container, node: DeviceNode) -> NodeState:
        """
        Look what stands at the path, following no symlink.

        Raises:
            Gone: The container has ended.
            Unknown: Its mount namespace can't be entered.
        """

    def show(self, container: Container, node: DeviceNode) -> None:
        """
        Make the node, or leave a right one.

        Raises:
            Gone: The container has ended.
            Refused: Something foreign stands there, or the path leads out of the container.
        """

    def hide(self, container: Container, node: DeviceNode) -> None:
        """Remove a right node that is the container's own; absent or ended, there is nothing to do."""

    def access(self, container: Container, node: DeviceNode) -> Access:
        """Open the device as a process of the container would: in its cgroup, its namespaces, as its user."""


class Processes(Protocol):
    """Containers and processes of the node."""

    def find(self, target: Target) -> Container | None:
        """
        Find a running container; None: it has ended, or is another pod's.

        Raises:
            Refused: What was found is no cgroup of this pod and container, or is the root.
            Unknown: It could not be found out.
        """

    def holders(self, rdevs: Collection[int]) -> Sequence[Holder]:
        """
        List who has one of the devices open: descriptors and mappings of every process of the node.

        Raises:
            Unknown: A process could not be looked into; the device counts as busy.
        """

    def signal(self, process: Process, pod_uid: str, number: int) -> bool:
        """Send a signal to that very process, if it still runs in a container of the pod; False: it does not."""

    def on_end(self, process: Process, pod_uid: str, then: Callable[[], object]) -> bool:
        """Call *then*, on another thread, once that very process of the pod has ended; False: it has already."""


class Inventory(Protocol):
    """The node's GPUs."""

    def gpus(self) -> Sequence[Gpu]:
        """
        List them, ordered by UUID.

        Raises:
            Unknown: The driver does not answer.
        """

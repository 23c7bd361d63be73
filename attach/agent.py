"""EDGE: the process: reads what is wanted, makes a pass whenever something may have changed, ends on SIGTERM."""

import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from attach.cgroupfs import detect
from attach.clock import SystemClock
from attach.engines import ByVersion
from attach.entry import Entry
from attach.filesource import FileSource
from attach.inventory import open_inventory
from attach.journal import JournalError
from attach.metrics import Metrics
from attach.nodes import HostNodes
from attach.observe import Node
from attach.processes import HostProcesses
from attach.reconcile import Desired, Reconciler, Status, Store
from attach.rules1 import Rules1
from attach.rules2 import Rules2
from attach.store import FileStore, held_node
from attach.systemd import through_systemd
from catalog.problems import Problem

if TYPE_CHECKING:
    from kube.api import Api

_log: Final = logging.getLogger(__name__)


class Source(Protocol):
    """Where it stands what is wanted of this node, and who is told how it stands."""

    def read(self, entries: Mapping[str, Entry]) -> tuple[Desired, tuple[Problem, ...]]:
        """Read what is wanted, and what is wrong with it; *entries* are the journal's."""

    def tell(self, statuses: Sequence[Status], entries: Mapping[str, Entry]) -> float | None:
        """Say how each attachment stands after a pass; in how many seconds to look again, None: at any time."""

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Wait, at most until something else is wanted or the event is set."""

    def wake(self) -> None:
        """End `wait`."""

    def close(self) -> None:
        """End what `read` needs."""


@dataclass(frozen=True, slots=True)
class FromCluster:
    """
    The cluster that says what is wanted.

    Attributes:
        node: The name under which the API server knows this node.
        socket: The kubelet's, that says which devices pods have.
        system_namespaces: Whose pods may have any device open, as the device plugin and monitoring do.
    """

    api: "Api"
    node: str
    socket: Path
    system_namespaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """
    How an agent runs.

    Attributes:
        desired: A file that says what is wanted, or the cluster that does.
        inventory: A file that names the node's devices; None: ask the driver.
        metrics: Where to write metrics; None: nowhere.
        every_s: How long drift goes unnoticed, at most.
    """

    desired: "Path | FromCluster"
    state: Path
    inventory: Path | None
    metrics: Path | None
    every_s: float


@contextmanager
def open_node(inventory: Path | None, *, alone: bool) -> Iterator[Node]:
    """
    Compose the adapters that this node needs.

    Args:
        alone: Hold the node against every other agent, as who changes anything on it has to.

    Raises:
        TakenError: Another agent works on it.
        AttachError: The node has no cgroups that rule devices.
        InvalidError: The inventory file can't be used.
    """
    hierarchy = detect()
    nodes = HostNodes(hierarchy)
    with held_node(Path(hierarchy.mount)) if alone else nullcontext(), closing(nodes):
        rules = through_systemd(ByVersion(Rules1(), Rules2()))
        yield Node(rules, nodes, HostProcesses(hierarchy), open_inventory(inventory))


class Agent:
    """An agent that holds its journal's folder."""

    def __init__(self, settings: Settings, node: Node, store: Store, source: Source) -> None:
        self.settings, self.source, self.metrics = settings, source, Metrics()
        self.reconciler = Reconciler(node, store, SystemClock(), self.metrics)
        self.problems: tuple[Problem, ...] = ()
        self._stopped = threading.Event()
        self._told_s: float | None = None

    def run_once(self) -> list[Status]:
        """
        Make one pass.

        Raises:
            JournalError: The journal can't be used; nothing was done.
        """
        started_s = time.monotonic()
        try:
            desired, problems = self.source.read(self.reconciler.recall())
            self._note(problems)
            statuses = self.reconciler.reconcile(desired)
            states = [status.entry.state for status in statuses if status.entry is not None]
            self.metrics.passed(states, len(problems), time.monotonic() - started_s)
        except JournalError:
            self.metrics.stuck()
            raise
        finally:
            self._write_metrics()
        self._told_s = self.source.tell(statuses, self.reconciler.journal.entries)
        return statuses

    def _write_metrics(self) -> None:
        """Write what was counted, if it is wanted; a full disk holds up nothing else."""
        try:
            if self.settings.metrics is not None:
                self.metrics.write(self.settings.metrics)
        except OSError as error:
            _log.warning("metrics not written", extra={"fields": {"error": str(error)}})

    def _note(self, problems: tuple[Problem, ...]) -> None:
        """Say once what is wrong with what is wanted."""
        if problems != self.problems:
            for problem in problems:
                _log.error("desired state refused", extra={"fields": {"problem": str(problem)}})
        self.problems = problems

    def watch(self) -> None:
        """Make passes until `stop`."""
        while not self._stopped.is_set():
            try:
                due_s = self._due_s(self.run_once())
            except JournalError as error:
                _log.critical("journal refused", extra={"fields": {"reason": error.reason, "error": str(error)}})
                due_s = self.settings.every_s
            self.source.wait(due_s, self._stopped)

    def stop(self) -> None:
        """Ask `watch` to end after the pass that it is in."""
        self._stopped.set()
        self.source.wake()

    def _due_s(self, statuses: list[Status]) -> float:
        now_s = self.reconciler.clock.now().boot_s
        dues = [status.due_s - now_s for status in statuses if status.due_s is not None]
        told = [self._told_s] if self._told_s is not None else []
        return max(0.05, min([self.settings.every_s, *dues, *told]))


@contextmanager
def open_agent(settings: Settings) -> Iterator[Agent]:
    """
    Compose an agent.

    Raises:
        TakenError: Another agent works with the same journal, or on this node.
    """
    with FileStore(settings.state) as store, open_node(settings.inventory, alone=True) as node:
        source = _open_source(settings.desired, node)
        try:
            yield Agent(settings, node, store, source)
        finally:
            source.close()


def _open_source(desired: Path | FromCluster, node: Node) -> Source:
    if isinstance(desired, Path):
        return FileSource(desired)
    from attach.live import ClusterSource  # what speaks to a cluster takes 30 MiB, which a file does not need
    from attach.podresources import KubeletReservations

    reservations = KubeletReservations(desired.socket)
    return ClusterSource(
        desired.api, desired.node, reservations, node.processes, SystemClock(), desired.system_namespaces
    ).start()


def watch(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    with open_agent(settings) as agent:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        _log.info("agent started", extra={"fields": {"desired": str(agent.source), "state": str(settings.state)}})
        agent.watch()

"""EDGE: the process: reads the desired file, makes a pass whenever something may have changed, ends on SIGTERM."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attach.cgroupfs import detect
from attach.clock import SystemClock
from attach.desired import parse_desired, unreadable
from attach.engines import ByVersion
from attach.inventory import open_inventory
from attach.journal import JournalError
from attach.metrics import Metrics
from attach.nodes import HostNodes
from attach.observe import Node
from attach.processes import HostProcesses
from attach.reconcile import Desired, Reconciler, Status
from attach.rules1 import Rules1
from attach.rules2 import Rules2
from attach.store import FileStore
from attach.systemd import through_systemd
from catalog.problems import Problem

LOOK_AT_FILE_EVERY_S: Final = 0.5

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """
    How an agent runs.

    Attributes:
        inventory: A file that names the node's devices; None: ask the driver.
        metrics: Where to write metrics; None: nowhere.
        every_s: How long drift goes unnoticed, at most.
    """

    desired: Path
    state: Path
    inventory: Path | None
    metrics: Path | None
    every_s: float


@contextmanager
def open_node(inventory: Path | None) -> Iterator[Node]:
    """
    Compose the adapters that this node needs.

    Raises:
        AttachError: The node has no cgroups that rule devices.
        InvalidError: The inventory file can't be used.
    """
    hierarchy = detect()
    nodes = HostNodes(hierarchy)
    try:
        rules = through_systemd(ByVersion(Rules1(), Rules2()))
        yield Node(rules, nodes, HostProcesses(hierarchy), open_inventory(inventory))
    finally:
        nodes.close()


class Agent:
    """An agent that holds its journal's folder."""

    def __init__(self, settings: Settings, node: Node, store: FileStore) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.reconciler = Reconciler(node, store, SystemClock(), self.metrics)
        self.problems: tuple[Problem, ...] = ()
        self._stopped = threading.Event()

    def run_once(self) -> list[Status]:
        """
        Make one pass.

        Raises:
            JournalError: The journal can't be used; nothing was done.
        """
        started_s = time.monotonic()
        desired, problems = self._desired()
        if problems != self.problems:
            for problem in problems:
                _log.error("desired state refused", extra={"fields": {"problem": str(problem)}})
        self.problems = problems
        try:
            statuses = self.reconciler.reconcile(desired)
            states = [status.entry.state for status in statuses if status.entry is not None]
            self.metrics.passed(states, len(problems), time.monotonic() - started_s)
        except JournalError:
            self.metrics.stuck()
            raise
        finally:
            if self.settings.metrics is not None:
                self.metrics.write(self.settings.metrics)
        return statuses

    def watch(self) -> None:
        """Make passes until `stop`."""
        while not self._stopped.is_set():
            seen = self._stamp()
            try:
                due_s = self._due_s(self.run_once())
            except JournalError as error:
                _log.critical("journal refused", extra={"fields": {"reason": error.reason, "error": str(error)}})
                due_s = self.settings.every_s
            self._sleep(due_s, seen)

    def stop(self) -> None:
        """Ask `watch` to end after the pass that it is in."""
        self._stopped.set()

    def _sleep(self, due_s: float, seen: object) -> None:
        """Wait until a pass is due or the desired file is another."""
        end_s = time.monotonic() + due_s
        while (left_s := end_s - time.monotonic()) > 0 and self._stamp() == seen:
            if self._stopped.wait(min(LOOK_AT_FILE_EVERY_S, left_s)):
                return

    def _due_s(self, statuses: list[Status]) -> float:
        now_s = self.reconciler.clock.now().boot_s
        dues = [status.due_s - now_s for status in statuses if status.due_s is not None]
        return max(0.05, min([self.settings.every_s, *dues]))

    def _stamp(self) -> object:
        try:
            stat = self.settings.desired.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def _desired(self) -> tuple[Desired, tuple[Problem, ...]]:
        file = str(self.settings.desired)
        try:
            return parse_desired(self.settings.desired.read_text(encoding="utf-8"), file)
        except OSError as error:
            return unreadable([Problem(file, 0, "", f"can't be read: {error.strerror}")])
        except UnicodeDecodeError as error:
            return unreadable([Problem(file, 0, "", f"is not UTF-8 text (byte {error.start})")])


@contextmanager
def open_agent(settings: Settings) -> Iterator[Agent]:
    """
    Compose an agent.

    Raises:
        TakenError: Another agent works with the same journal.
    """
    with FileStore(settings.state) as store, open_node(settings.inventory) as node:
        yield Agent(settings, node, store)


def watch(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    with open_agent(settings) as agent:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        _log.info("agent started", extra={"fields": {"desired": str(settings.desired), "state": str(settings.state)}})
        agent.watch()

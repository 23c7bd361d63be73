"""EDGE: the process: leads or waits, reconciles when something changed, answers probes and /metrics."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from controller.attachments import Attachments
from controller.capacity import Capacity
from controller.catalogs import Catalogs
from controller.certificates import Certificates
from controller.meter import Meter
from controller.metrics import Metrics
from controller.overlays import Overlays
from controller.serving import Serving
from controller.taints import Quarantine, Startup
from controller.targets import Targets
from controller.unsized import UnsizedPods
from controller.usage import Usage
from controller.warm import Warm
from controller.world import World
from kube.api import Api, ApiError
from kube.lease import Election
from kube.watch import pause_s

AT_LEAST_EVERY_S: Final = 10.0  # certificates age and pods end, and nothing wakes us
AT_MOST_EVERY_S: Final = 0.2  # all of it: nodes report by the hundred
LEASE: Final = "podsla-controller"

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Task:
    """
    A reconciler, how often in a row it failed, and when it may be tried again.

    Attributes:
        due_s: Says in how many seconds it has something to do, though nothing changes.
        hurries: Somebody waits for it.
        forget: Called while another may lead, who tells of what happens meanwhile.
    """

    name: str
    reconcile: Callable[[], bool]
    due_s: Callable[[], float] = lambda: AT_LEAST_EVERY_S
    hurries: bool = False
    forget: Callable[[], None] = lambda: None
    failures: int = 0
    not_before_s: float = 0.0


def reconcilers(world: World, metrics: Metrics) -> list[Task]:
    """Make every reconciler, in the order in which one builds on another."""
    serving = Serving(world)
    catalogs = Catalogs(world, metrics, serving)
    capacity = Capacity(world, metrics, serving)
    attachments = Attachments(world, metrics, serving)
    meter = Meter(world, metrics, serving, attachments)
    unsized = UnsizedPods(world, metrics)
    return [
        Task("certificates", Certificates(world, metrics).reconcile),
        Task("target", Targets(world, metrics).reconcile),
        Task("serving", serving.reconcile),  # first, so that what serves is noted before what will
        Task("catalogs", catalogs.reconcile),
        Task("capacity", capacity.reconcile),
        Task("startup", Startup(world, capacity).reconcile),
        Task("attachments", attachments.reconcile, lambda: attachments.due_s, hurries=True, forget=attachments.forget),
        Task("quarantine", Quarantine(world).reconcile, hurries=True),
        Task("warm", Warm(world, metrics, serving, attachments).reconcile),
        Task("meter", meter.reconcile, forget=meter.forget),
        Task("overlays", Overlays(world, serving).reconcile),
        Task("unsized", unsized.reconcile),
        Task("usage", Usage(world, metrics, catalogs, capacity, unsized).reconcile),
    ]


class Controller:
    """
    Runs every reconciler whenever something changed, one after the other, while this process leads.

    A reconciler that fails is tried again after a pause, and holds up no other.
    """

    def __init__(self, api: Api, namespace: str, identity: str) -> None:
        self.woken, self.hurried, self.stopped = threading.Event(), threading.Event(), threading.Event()
        self.election = Election(api, namespace, LEASE, identity, on_change=self.woken.set)
        self.metrics = Metrics(lambda: self.election.leading)
        world = self.world = World(api.guarded(lambda: self.election.leading), namespace, self.woken.set, self.hurry)
        self.tasks = reconcilers(world, self.metrics)

    def run(self) -> None:
        """Work until `stop`; then give the lease up."""
        self.election.start()
        self.world.start()
        while not self.stopped.is_set():
            pauses_s = [task.not_before_s - time.monotonic() for task in self.tasks if task.failures]
            self.woken.wait(max(0.0, min([*(task.due_s() for task in self.tasks), *pauses_s])))
            self.woken.clear()
            self.attempt_all(self.tasks)
            self.rest()
        self.election.stop()

    def rest(self) -> None:
        """Pause, for nodes report by the hundred; who asks for a GPU meanwhile is not kept waiting."""
        until_s = time.monotonic() + AT_MOST_EVERY_S
        while (left_s := until_s - time.monotonic()) > 0 and self.hurried.wait(left_s) and not self.stopped.is_set():
            self.hurried.clear()
            self.attempt_all([task for task in self.tasks if task.hurries])

    def hurry(self) -> None:
        """Say that something has changed for which somebody waits."""
        self.woken.set()
        self.hurried.set()

    def attempt_all(self, tasks: Iterable[Task]) -> None:
        """
        Run reconcilers one after the other, if it is this process that leads, and it knows enough.

        Those for which somebody waits run before the next one, too: a round may take longer than all that they do.
        """
        if self.election.leading and self.world.synced:
            self.world.forget_bound()
            for task in tasks:
                if self.hurried.is_set():
                    self.hurried.clear()
                    for urgent in (one for one in self.tasks if one.hurries and one is not task):
                        self.attempt(urgent)
                self.attempt(task)
        else:
            for task in tasks:
                task.forget()

    def attempt(self, task: Task) -> None:
        """Run one reconciler, unless it failed a moment ago."""
        started_s = time.monotonic()
        if started_s < task.not_before_s:
            return
        try:
            if not task.reconcile():
                self.woken.set()  # there is more to do
        except Exception as error:
            task.failures += 1
            task.not_before_s = time.monotonic() + pause_s(task.failures)
            self.metrics.failed(task.name)
            fields = {"reconciler": task.name, "error": f"{type(error).__name__}: {error}"[:512]}
            _log.log(logging.WARNING if isinstance(error, ApiError) else logging.ERROR, "failed, will try again",
                     exc_info=not isinstance(error, ApiError), extra={"fields": fields})  # fmt: skip
            return
        task.failures, task.not_before_s = 0, 0.0
        self.metrics.ran(task.name, time.monotonic() - started_s)

    def stop(self) -> None:
        """Ask `run` to end."""
        self.stopped.set()
        self.hurry()


def run_controller(api: Api, namespace: str, identity: str, port: int) -> None:
    """Run until SIGTERM or SIGINT, with /livez, /readyz and /metrics on *port*."""
    controller = Controller(api, namespace, identity)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: controller.stop())
    server = ThreadingHTTPServer(("0.0.0.0", port), handler_of(controller))  # noqa: S104 - probes come to the pod's address
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    controller.run()
    server.shutdown()


def handler_of(controller: Controller) -> type[BaseHTTPRequestHandler]:
    """Make what answers GET requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/livez":
                    self.answer(200, b"ok\n")
                case "/readyz" if controller.world.synced:
                    self.answer(200, b"ok\n")
                case "/readyz":
                    self.answer(503, b"not everything was listed yet\n")
                case "/metrics":
                    self.answer(200, generate_latest(controller.metrics.registry), CONTENT_TYPE_LATEST)
                case _:
                    self.answer(404, b"there are /livez, /readyz and /metrics\n")

        def answer(self, code: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: probes come every few seconds."""

    return Handler

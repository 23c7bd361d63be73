"""EDGE: granian, and how one of its workers takes over from another, or ends, without losing a call.

A worker that ends closes the connections on which nothing is under way, and a call that is sent at that moment is lost:
the API server repeats none whose connection broke. So a worker first says goodbye on each connection with its next
answer, takes no new ones where another worker does, and ends when nobody has reason to send it anything.
"""

import asyncio
import logging
import os
import signal
import socket
import stat
import struct
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from enum import IntEnum
from multiprocessing.synchronize import Event
from typing import Any, Final

from granian.server.mp import MPServer

START_S: Final = (
    150.0  # longer than it waits for its first lists; in which a new worker must listen, or the old one stays
)
POLL_S: Final = 0.05
RETRY_S: Final = (1.0, 60.0)  # the first pause before another worker is tried, and the longest
_ATTACH_CBPF: Final = 51  # SO_ATTACH_REUSEPORT_CBPF of Linux; the socket module has no name for it
_NEWEST: Final = struct.pack("=HBBI", 0x06, 0, 0, 1)  # BPF "return 1": of two listeners the second; of one, that one
_log: Final = logging.getLogger(__name__)


class Stage(IntEnum):
    """How far a worker's life has come."""

    SERVING = 0
    HANDING_OVER = 1  # another worker of this process takes the new connections
    LEAVING = 2  # the process ends: it is not ready any more, and still answers


SIGNALS: Final = {
    Stage.SERVING: signal.SIGURG,
    Stage.HANDING_OVER: signal.SIGUSR1,
    Stage.LEAVING: signal.SIGUSR2,
}


class Worker:
    """A worker's own side: its stage, and word to its parent that it listens."""

    def __init__(self, port: int, listening: Event) -> None:
        self.stage, self.port, self.listening = Stage.SERVING, port, listening

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Follow the parent's signals, and take the new connections as soon as this worker listens."""
        for stage, number in SIGNALS.items():
            loop.add_signal_handler(number, self.enter, stage)
        self._look(loop)

    def enter(self, stage: Stage) -> None:
        """Go to a stage; not back from the last."""
        self.stage = self.stage if self.stage is Stage.LEAVING else stage

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        listener = next(listeners(self.port), None)
        if listener is None:
            loop.call_later(POLL_S, self._look, loop)
            return
        with listener:
            take_new_connections(listener)
        self.listening.set()


def listeners(port: int) -> Iterator[socket.socket]:
    """Find this process's sockets that listen on *port*."""
    for name in os.listdir("/dev/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue  # closed by now
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if listens and found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port:
            yield found
        else:
            found.close()


def take_new_connections(listener: socket.socket) -> None:
    """Let the kernel give new connections to the newest of the workers that listen on a port, not to any of them."""
    if sys.platform != "linux":
        return
    program = array("B", _NEWEST)
    try:
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_CBPF, struct.pack("@HP", 1, program.buffer_info()[0]))
    except OSError as error:  # a sandbox without BPF: both take some, as before
        _log.warning("old and new worker share new connections", extra={"fields": {"error": str(error)}})


class HandoverServer(MPServer):
    """
    granian, whose workers end in stages.

    Args:
        handover_s: How long an old worker answers on beside the new one.
        drain_s: How long it answers on after SIGTERM, while it is not ready.
        listening: Set by a worker once it listens.
    """

    def __init__(self, *args: Any, handover_s: float, drain_s: float, listening: Event, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.handover_s, self.drain_s, self.listening = handover_s, drain_s, listening
        self.told_to_leave = False
        self._pause_s = RETRY_S[0]
        for number in SIGNALS.values():
            signal.signal(number, signal.SIG_IGN)  # a worker inherits it until it follows them

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """SIGTERM drains, a second one does not wait; SIGINT, of somebody at a keyboard, never does."""
        number = args[0] if args else signal.SIGTERM
        if self.told_to_leave or number == signal.SIGINT:
            self.drain_s = 0.0
        self.told_to_leave = True
        super().signal_handler_interrupt(*args, **kwargs)  # type: ignore[no-untyped-call] # granian has no types here

    def _stop_workers(self) -> None:
        self._drain(self.wrks)
        super()._stop_workers()  # type: ignore[no-untyped-call]

    def _respawn_workers(self, workers: Any, spawn_target: Any, target_loader: Any, delay: float = 0) -> None:
        """
        Replace workers. One that ended by itself is replaced at once; one that does not start replaces none.

        To listen is not to serve: granian reads the key after it. So the old one stays until the handover is over, and
        serves on where the new one did not start, or ended amid it; after a pause another is tried.
        """
        for idx in list(workers):
            old = self.wrks[idx]
            self.respawned_wrks[idx] = time.monotonic()
            _log.info("replacing the worker")
            self.listening.clear()
            new = self.wrks[idx] = self._spawn_worker(idx=idx, target=spawn_target, callback_loader=target_loader)
            new.interrupt_by_parent = old.is_alive()  # its end is not the process's end while the old one serves
            new.start()
            if not old.is_alive():
                continue
            if not self._listens(new):
                _log.error("the new worker does not start, the old one serves on until there is another")
                self._end(new)
                self._try_again_after(idx, old)
            elif not self._hand_over(old, new):
                _log.error("the new worker ended, the old one serves on until there is another")
                self._try_again_after(idx, old)
            else:
                self._pause_s = RETRY_S[0]
                if not new.is_alive():  # it ended when nobody looked
                    self._replace_soon()

    def _try_again_after(self, idx: int, old: Any) -> None:
        """Have the old worker serve on, and another one tried after a pause, which grows."""
        self.wrks[idx] = old
        self._wait(lambda: 0.0 if self.told_to_leave or not old.is_alive() else self._pause_s)
        self._pause_s = min(2 * self._pause_s, RETRY_S[1])
        self._replace_soon()

    def _replace_soon(self) -> None:
        self.reload_signal = True
        self.main_loop_interrupt.set()

    def _hand_over(self, old: Any, new: Any) -> bool:
        """Let *new* take the connections, and end *old*; False: *new* ended first, and *old* serves."""
        self._tell([old], Stage.HANDING_OVER)
        self._wait(lambda: 0.0 if self.told_to_leave or not new.is_alive() else self.handover_s)
        if self.told_to_leave:
            self._drain([old, new])
        elif not new.is_alive():
            self._tell([old], Stage.SERVING)
            return False
        new.interrupt_by_parent = False
        self._end(old)
        _log.info("replaced the worker")
        return True

    def _drain(self, workers: Any) -> None:
        """Let workers answer on while they are not ready; once."""
        self._tell(workers, Stage.LEAVING)
        self._wait(lambda: self.drain_s)
        self.drain_s = 0.0

    def _listens(self, new: Any) -> bool:
        end_s = time.monotonic() + START_S
        while new.is_alive() and time.monotonic() < end_s and not self.told_to_leave:
            if self.listening.wait(POLL_S):
                return True
        return self.told_to_leave

    def _end(self, worker: Any) -> None:
        worker.terminate()
        worker.join(self.workers_kill_timeout)
        if worker.is_alive():
            worker.kill()
            worker.join()

    def _tell(self, workers: Any, stage: Stage) -> None:
        for worker in workers:
            if worker.is_alive():
                os.kill(worker._id(), SIGNALS[stage])

    def _wait(self, for_s: Callable[[], float]) -> None:
        """Wait; how long may change meanwhile."""
        began_s = time.monotonic()
        while time.monotonic() < began_s + for_s():
            time.sleep(POLL_S)

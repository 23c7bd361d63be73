"""EDGE: routes connections to the replicas that are ready, as a Service does; none is moved, none is tried twice."""

import asyncio
import threading
from contextlib import suppress
from itertools import count
from typing import Final

from tests.cluster.network import LOOPBACK
from tests.cluster.probe import is_ready

PROBE_S: Final = 0.5
_CHUNK: Final = 1 << 16


class Balancer:
    """
    Listens on one port for all replicas.

    It learns by probing /readyz who is ready, and so is late by up to `PROBE_S`, as endpoints are. A connection that
    was made stays with its replica, whatever becomes of that.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.replicas: set[int] = set()
        self.ready: tuple[int, ...] = ()
        self._turn, self._stopped, self._up = count(), threading.Event(), threading.Event()
        self._loop = asyncio.new_event_loop()
        self._threads = [threading.Thread(target=self._serve), threading.Thread(target=self._probe)]

    def __enter__(self) -> "Balancer":
        for thread in self._threads:
            thread.start()
        assert self._up.wait(10), f"port {self.port} cannot be listened on"
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._loop.close()

    def _probe(self) -> None:
        while not self._stopped.wait(PROBE_S):
            self.ready = tuple(port for port in sorted(self.replicas) if is_ready(port))

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._route, LOOPBACK, self.port)
        self._up.set()
        while not self._stopped.is_set():
            await asyncio.sleep(0.1)
        server.close()
        here = asyncio.current_task()
        routed = [task for task in asyncio.all_tasks() if task is not here]
        for task in routed:
            task.cancel()
        await asyncio.gather(*routed, return_exceptions=True)

    async def _route(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        ready, writers = self.ready, [to_client]
        with suppress(OSError, asyncio.CancelledError):
            if ready:
                replica, to_replica = await asyncio.open_connection(LOOPBACK, ready[next(self._turn) % len(ready)])
                writers.append(to_replica)
                await asyncio.gather(_copy(client, to_replica), _copy(replica, to_client))
        for writer in writers:
            writer.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(_CHUNK):
            sink.write(chunk)
            await sink.drain()
    with suppress(OSError):
        sink.write_eof() if sink.can_write_eof() else sink.close()

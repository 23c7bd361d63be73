"""EDGE: a collection of the API server, kept in memory.

The client's informer lists, watches and resumes. What it lacks is put around its list call: an end to a stream on which
nothing comes, a pause after a failure, word of when the first list was read, and less of each object in memory.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson
from kubernetes.client.exceptions import ApiException
from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer

from kube.api import Api, ApiError, Object, Resource

RESYNC_S: Final = 600  # a stream ends after it, and the collection is listed afresh
SILENCE_S: Final = 100.0  # the API server sends a bookmark each minute; a stream with nothing for longer is dead
BRIEF_S: Final = 1.0  # a stream that ends within it counts as a failure
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0

_IDENTITY: Final = ("namespace", "name", "uid", "resourceVersion")
_log: Final = logging.getLogger(__name__)
logging.getLogger("kubernetes.informer.informer").setLevel(logging.CRITICAL)  # a trace for each failure; we say it once


def pause_s(failures: int) -> float:
    """Say how long to wait after that many failures in a row, before chance is added; 0 after none."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures - 1, 10)) if failures else 0.0


def without_managed_fields(thing: Object) -> Object:
    """Drop what only field managers need: about half of an object."""
    metadata = {key: value for key, value in thing["metadata"].items() if key != "managedFields"}
    return {**thing, "metadata": metadata}


class Watched:
    """
    Objects of one collection, as they were a moment ago.

    Args:
        selectors: labelSelector, fieldSelector.
        on_change: Called, on another thread, after something changed.
        keep: What to keep of each object.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        *,
        namespace: str = "",
        selectors: Mapping[str, str] | None = None,
        on_change: Callable[[], None] = lambda: None,
        keep: Callable[[Object], Object] = without_managed_fields,
    ) -> None:
        self.resource = resource
        self._source = _Source(api, resource, namespace, selectors or {}, keep)
        self._informer = SharedInformer(self._source.read, resync_period=RESYNC_S)
        for event in (ADDED, MODIFIED, DELETED):
            self._informer.add_event_handler(event, lambda _: on_change())
        self._source.on_sync = on_change

    def start(self) -> "Watched":
        """Begin to watch, on a thread of its own."""
        self._informer.start()
        return self

    def stop(self) -> None:
        """Stop watching."""
        self._source.hang_up()
        self._informer.stop()

    @property
    def synced(self) -> bool:
        """Whether the collection was read whole at least once."""
        return self._source.synced.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first list; False where it did not come in time."""
        return self._source.synced.wait(timeout_s)

    def items(self) -> tuple[Object, ...]:
        """List all objects, in no order."""
        return tuple(self._informer.cache.list())

    def get(self, name: str, namespace: str = "") -> Object | None:
        """Find an object."""
        found: Object | None = self._informer.cache.get_by_key(f"{namespace}/{name}" if namespace else name)
        return found


@dataclass(frozen=True, slots=True)
class _Metadata:
    resource_version: str


@dataclass(frozen=True, slots=True)
class _Listed:
    """A list in the form that the informer reads."""

    items: list[Object]
    metadata: _Metadata


class _Source:
    """The list call that the informer is given; it pauses after failures, by itself."""

    def __init__(
        self,
        api: Api,
        resource: Resource,
        namespace: str,
        selectors: Mapping[str, str],
        keep: Callable[[Object], Object],
    ) -> None:
        self.api, self.path, self.selectors, self.keep = api, resource.path(namespace), dict(selectors), keep
        self.synced, self.stopped = threading.Event(), threading.Event()
        self.on_sync: Callable[[], None] = lambda: None
        self.failures, self.lost_touch = 0, False
        self.response: Any = None

    def hang_up(self) -> None:
        """End the stream that is open or about to be, which may wait for an event for long."""
        self.stopped.set()
        if self.response is not None:
            with suppress(OSError, ValueError):  # it has ended by itself
                self.response.shutdown()

    def read(self, *, watch: bool = False, resource_version: str = "", **_: Any) -> object:
        """List, or open a stream of changes; the annotation tells the client to decode events as plain objects."""
        self.stopped.wait(pause_s(self.failures) * random.uniform(0.5, 1.5))  # noqa: S311 - spreads replicas, no secret
        try:
            answer = self._stream(resource_version) if watch else self._list()
        except (ApiError, ApiException) as error:
            self.failures += 1
            if getattr(error, "status", 0) != 410:  # 410: what we knew is too old to resume from; a list follows
                fields = {"path": self.path, "failures": self.failures, "error": str(error)[:256]}
                _log.warning("cannot watch, will try again", extra={"fields": fields})
                self.lost_touch = True
            raise
        return answer

    def kept(self, thing: Object) -> Object:
        """Keep what is kept of an object; of one that cannot be read, its name: nobody else must wait for it."""
        try:
            kept = self.keep(thing)
            orjson.dumps(kept)
        except Exception as error:
            metadata = thing["metadata"]
            identity = {key: metadata[key] for key in _IDENTITY if key in metadata}
            fields = {"path": self.path, **identity, "error": f"{type(error).__name__}: {error}"[:256]}
            _log.exception("cannot read an object, and goes on without it", extra={"fields": fields})
            return {"metadata": identity}
        return kept

    def _list(self) -> _Listed:
        items, query = list[Object](), {**self.selectors, "limit": "500"}
        while True:
            page = self.api.call("GET", self.path, query)
            items += [self.kept(_named(thing, page)) for thing in page["items"]]
            token = page["metadata"].get("continue")
            if not token:
                self.failures, self.lost_touch = 0, False
                return _Listed(items, _Metadata(page["metadata"]["resourceVersion"]))
            query["continue"] = token

    def _stream(self, resource_version: str) -> "_Stream":
        if not self.synced.is_set():  # the informer has taken over the first list before it asks for changes
            self.synced.set()
            self.on_sync()
        query = {
            **self.selectors,
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(RESYNC_S),
        }
        response = self.response = self.api.send("GET", self.path, query, read_timeout_s=SILENCE_S)
        if response.status != 200 or self.stopped.is_set():
            response.close()
            # 504: what we knew is newer than what is there, since etcd was restored; the informer lists anew after 410.
            status = 410 if response.status == 504 else response.status
            raise ApiException(status=status, reason=response.reason)
        if self.lost_touch:  # what answers again may be of a restored etcd, whose versions stand for other changes
            response.close()
            self.failures = 0
            raise ApiException(status=410, reason="it was away")
        return _Stream(response, self)


def _named(thing: Object, page: Object) -> Object:
    """Say of a listed object what a watched one says of itself."""
    return {"apiVersion": page["apiVersion"], "kind": page["kind"].removesuffix("List"), **thing}


def events_of(response: Any) -> Iterator[dict[str, Any]]:
    """Read the events of a watch from its response, a line each, as they come."""
    rest = b""
    for chunk in response.stream(amt=None, decode_content=False):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from map(orjson.loads, filter(None, lines))


class _Stream:
    """A response whose lines hold no more of each object than is kept."""

    def __init__(self, response: Any, source: _Source) -> None:
        self.response, self.source = response, source
        self.status = response.status
        self.connection = response.connection
        self.opened_s = time.monotonic()

    def stream(self, **_: Any) -> Iterator[bytes]:
        """Read events, a line each."""
        try:
            for event in events_of(self.response):
                if event["type"] in (ADDED, MODIFIED, DELETED):
                    event["object"] = self.source.kept(event["object"])
                yield orjson.dumps(event) + b"\n"
        finally:  # a stream that ends at once, by whatever cause, is not asked for again at once
            brief = time.monotonic() - self.opened_s < BRIEF_S
            self.source.failures = self.source.failures + 1 if brief else 0

    def close(self) -> None:
        """End the stream; its connection cannot be used again."""
        self.response.close()

    def release_conn(self) -> None:
        """Give the connection back."""
        self.response.release_conn()

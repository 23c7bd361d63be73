"""EDGE: a replica in a cluster: it watches what the controller accepted, and serves it from memory."""

import logging
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from flask import Flask

from catalog.accept import Memo
from catalog.fit import Index, compile_index
from catalog.load import DEFAULT_TARGET, load_target
from catalog.merged import catalog_of, is_noted, read_merged
from catalog.served import build, find_accepted
from catalog.stored import read_kept
from kube.api import Api
from kube.kinds import CONTROLLER_REVISIONS, NAMESPACES, RUNTIME_CLASSES, SPEC_CATALOGS
from kube.logs import log_to_stdout
from kube.watch import Watched
from webhook.admit import Serving
from webhook.app import Environment, create_app
from webhook.decide import Labels
from webhook.metrics import PrometheusRecorder
from webhook.secret import POLL_S, SecretFiles
from webhook.server import Listen, keep_for_good, serve

EARLIER: Final = 3  # revisions before the one that serves, whose records are still believed
FIRST_LIST_S: Final = 5.0  # a worker that has nothing to serve by then answers "try again"
LATER_LIST_S: Final = 60.0  # a worker that replaces one that serves takes no connection before it can serve too
_log: Final = logging.getLogger(__name__)


class Live:
    """Watches, and compiles anew on a thread of its own when something else is to be served."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._woken, self._built = threading.Event(), threading.Event()
        wake = self._woken.set
        self.catalogs = Watched(api, SPEC_CATALOGS, on_change=wake)
        self.revisions = Watched(api, CONTROLLER_REVISIONS, namespace=namespace, on_change=wake)
        self.runtime_classes = Watched(api, RUNTIME_CLASSES, on_change=wake)
        self.namespaces = Watched(api, NAMESPACES)
        self.default, self.memo = load_target(DEFAULT_TARGET), Memo()
        self._serving: Serving | None = None
        self._key: object = None

    def start(self, wait_s: float) -> "Live":
        """Begin, and wait until there is something to serve, or until *wait_s* is over."""
        for watched in (self.catalogs, self.revisions, self.runtime_classes, self.namespaces):
            watched.start()
        threading.Thread(target=self._run, name="live", daemon=True).start()
        self._built.wait(wait_s)
        self.namespaces.wait(wait_s)
        return self

    def stop(self) -> None:
        """Stop watching; what is served stays as it is."""
        for watched in (self.catalogs, self.revisions, self.runtime_classes, self.namespaces):
            watched.stop()

    def serving(self) -> Serving | None:
        """Give what is served now; None while the first lists are not read."""
        return self._serving if self.namespaces.synced else None

    def namespace_labels(self, name: str) -> Labels | None:
        """Find the labels of a namespace; None where it is not known here yet."""
        namespace = self.namespaces.get(name)
        return None if namespace is None else namespace["metadata"].get("labels") or {}

    def _run(self) -> None:
        while True:
            self._woken.wait()
            self._woken.clear()
            try:
                self.rebuild()
            except Exception as error:  # the last good one is served on
                fields = {"error": f"{type(error).__name__}: {error}"[:1024]}
                _log.error("cannot serve what was accepted", extra={"fields": fields})

    def rebuild(self) -> None:
        """Compile anew, if something else is to be served than before."""
        if not all(watched.synced for watched in (self.catalogs, self.revisions, self.runtime_classes)):
            return
        found = find_accepted(self.catalogs.items(), self.revisions.items(), self.runtime_classes.items())
        if found is None or found.key == self._key:
            return
        if not is_noted(found.kept, read_merged(self.revisions.items())):
            return  # of several statuses some are written; what served before is served until all of them are
        served = build(found, self.default, self.memo)
        index = compile_index(served.catalog, served.target)
        self._serving, self._key = Serving(index, self._earlier(index)), found.key
        self._built.set()
        keep_for_good()
        sizes, classes = len(served.catalog.sizes), len(served.catalog.classes)
        fields = {"revision": served.catalog.revision, "target": served.target.name, "sizes": sizes, "classes": classes}
        _log.info("serving", extra={"fields": fields})
        for problem in served.problems:
            _log.error("what was accepted does not fit together", extra={"fields": {"problem": problem}})

    def _earlier(self, index: Index) -> dict[str, Index]:
        """Compile what served before, for this target: pods come whose records name it."""
        revisions = self.revisions.items()
        kept = {one.name: one for one in read_kept(revisions)}
        last = self._serving
        known = {**last.earlier, last.index.catalog.revision: last.index} if last else {}
        found: dict[str, Index] = {}
        for merged in read_merged(revisions):
            if len(found) == EARLIER:
                break
            if merged.revision in (index.catalog.revision, *found):
                continue
            before = known.get(merged.revision)
            if before is not None and before.target == index.target:
                found[merged.revision] = before
            elif (catalog := catalog_of(merged, kept)) is not None:
                found[merged.revision] = compile_index(catalog, index.target)
        return found


def serve_cluster(connect: Callable[[], Api], namespace: str, secret: str, listen: Listen) -> None:
    """
    Serve what the controller of a cluster accepted, with its certificate, until SIGTERM or SIGINT.

    Args:
        connect: Called in this process and in each worker: a connection is not shared over a fork.
        namespace: Where podsla is installed.
        secret: The TLS Secret there.

    Raises:
        InvalidError: The address cannot be listened on.
    """
    log_to_stdout()
    waits_s = [FIRST_LIST_S]  # the last counts; workers inherit it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container has no default action
    with TemporaryDirectory(prefix="podsla-") as folder:
        files = SecretFiles(connect(), namespace, secret, Path(folder))
        files.wait()
        files.follow()
        serve(
            lambda: live_app(connect(), namespace, waits_s[-1]),
            replace(listen, certificate=files.certificate, key=files.key, certificate_poll_s=POLL_S),
            reload=lambda: waits_s.append(LATER_LIST_S),
        )


def live_app(api: Api, namespace: str, wait_s: float) -> Flask:
    """Build the application of one worker; it waits that long for something to serve."""
    live = Live(api, namespace).start(wait_s)
    return create_app(
        Environment(
            serving=live.serving,
            namespace_labels=live.namespace_labels,
            recorder=PrometheusRecorder(),
            today=lambda: datetime.now(UTC).date(),
            clock=perf_counter,
        )
    )

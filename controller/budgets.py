"""EDGE: keeps the ledger of GPU-seconds, and says what namespaces may hold still."""

import logging
import time
from collections.abc import Iterable
from typing import Final

from attach.api import Attachment
from attach.budget import (
    KEY,
    LEDGER,
    Budget,
    Ledger,
    bring_up_to,
    day_ends_s,
    held_today_s,
    is_due,
    read_ledger,
    render_ledger,
    used_s,
)
from attach.warm import kept_ready
from catalog.model import Catalog
from controller.serving import Serving
from controller.world import World
from kube.api import ApiError
from kube.kinds import CONFIG_MAPS

_log: Final = logging.getLogger(__name__)


class Budgets:
    """
    The ledger as it was written last, and what is held now.

    Attributes:
        now: Up to this moment.
    """

    def __init__(self, world: World, serving: Serving) -> None:
        self.world, self.serving = world, serving
        self.now, self._kept = Ledger(), Ledger()
        self._catalog: Catalog | None = None
        self._found: dict[str, Budget | None] = {}
        self._own: tuple[str, Ledger] | None = None  # what was written over that version, until it is seen here

    def look(self, attachments: Iterable[Attachment]) -> None:
        """
        Count what is held, and write it down where that is due.

        Raises:
            ApiError: It could not be written.
        """
        listed, served = tuple(attachments), self.serving.current()
        ready = kept_ready(self.world.placeholders.items())
        self._catalog, self._found = served.catalog if served is not None else None, {}
        thing = self.world.ledger.get(LEDGER, self.world.namespace)
        version = thing["metadata"]["resourceVersion"] if thing is not None else ""
        if self._own is not None and self._own[0] == version:
            self._kept = self._own[1]
        else:
            self._kept = self._read((thing or {}).get("data", {}).get(KEY, ""))
        before, self.now = self.now, bring_up_to(self._kept, listed, time.time(), ready)
        if not is_due(self._kept, self.now, listed, ready):
            return
        if thing is None and before.day != self.now.day:
            lost = f"there is no ConfigMap {LEDGER}: what was held is forgotten with its attachment"
            _log.warning(lost, extra={"fields": {"do": "apply the manifests again"}})
        if thing is not None and self._write(version):
            self._own, self._kept = (version, self.now), self.now

    def _read(self, text: str) -> Ledger:
        try:
            return read_ledger(text)
        except ValueError as error:
            _log.warning("cannot read the ledger, which begins anew", extra={"fields": {"error": str(error)[:256]}})
            return Ledger()

    def _write(self, version: str) -> bool:
        """Write it over the one that was read; False where another wrote in between."""
        body = {"metadata": {"resourceVersion": version}, "data": {KEY: render_ledger(self.now)}}
        try:
            self.world.api.patch(CONFIG_MAPS, LEDGER, body, namespace=self.world.namespace)
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    def held_s(self) -> dict[str, int]:
        """Sum up what each namespace has held today."""
        return {namespace: used_s(self.now, namespace) for namespace in self.now.held}

    def has(self, attachment: Attachment) -> bool:
        """Tell whether all that an attachment has held stands in the ledger, or there is none."""
        if self.world.ledger.get(LEDGER, self.world.namespace) is None:
            return True
        noted_s = self._kept.noted_s(attachment)
        return held_today_s(attachment, noted_s, time.time()) <= noted_s

    def of(self, namespace: str) -> Budget | None:
        """Say what a namespace may hold today, and has held when it was looked at; None: it may hold what it likes."""
        if namespace not in self._found:
            self._found[namespace] = self._look_up(namespace)
        return self._found[namespace]

    def _look_up(self, namespace: str) -> Budget | None:
        thing = self.world.namespaces.get(namespace)
        labels = (thing["metadata"].get("labels") or {}) if thing is not None else {}
        minutes = self._catalog.gpu_minutes(labels) if self._catalog is not None else None
        if minutes is None:
            return None
        return Budget(minutes, used_s(self.now, namespace), day_ends_s(time.time()))

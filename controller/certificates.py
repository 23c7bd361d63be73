"""EDGE: keeps CA and leaf in Secrets, and the CA bundle in the webhook configurations."""

import logging
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from controller.metrics import Metrics
from controller.world import World
from kube.api import ApiError, Object, PatchKind, Resource
from kube.kinds import SECRETS
from webhook.certificate import plan
from webhook.secret import ISSUER

CA_SECRET: Final = "podsla-ca"  # noqa: S105 - the name of a Secret
LEAF_SECRET: Final = "podsla-webhook-tls"  # noqa: S105
SERVICE: Final = "podsla-webhook"
LABELS: Final = {"app.kubernetes.io/part-of": "podsla"}
LOOK_EVERY_S: Final = 5.0  # at Secrets, which wake nobody, and are asked for however often others wake us
_log = logging.getLogger(__name__)


class Certificates:
    """
    Reconciles the webhook's certificate.

    Order matters, and one thing is written in a round: a new CA is kept, then published, then signs.
    """

    def __init__(self, world: World, metrics: Metrics) -> None:
        self.world, self.metrics = world, metrics
        self._settled: tuple[str, ...] | None = None  # versions of the configurations that were looked at
        self._look_s = 0.0
        self.names = (f"{SERVICE}.{world.namespace}.svc", f"{SERVICE}.{world.namespace}.svc.cluster.local", "127.0.0.1")

    def reconcile(self) -> bool:
        """Issue, renew and publish what is due."""
        configurations = list(self._configurations())
        versions = tuple(thing["metadata"]["resourceVersion"] for _, thing in configurations)
        if versions == self._settled and time.monotonic() < self._look_s:
            return True
        ca, leaf = self._secret(CA_SECRET), self._secret(LEAF_SECRET)
        published = [_bundle(hook) for _, thing in configurations for hook in thing.get("webhooks", ())]
        due = plan(_data(ca), _data(leaf), published, self.names, datetime.now(UTC))
        for reason in due.reasons:
            _log.info("certificate", extra={"fields": {"reason": reason}})
        if due.bundle is not None:
            for resource, thing in configurations:
                self._publish(resource, thing, due.bundle)
        if due.ca is not None:
            self._write(CA_SECRET, ca, due.ca, "Opaque")
        if due.leaf is not None:
            self._write(LEAF_SECRET, leaf, due.leaf, "kubernetes.io/tls")
        for name, data in (("ca", due.ca or _data(ca)), ("webhook", due.leaf or _data(leaf))):
            if data and data.get("tls.crt"):
                with suppress(ValueError):  # it cannot be read, and is replaced in the rounds to come
                    self.metrics.expiry(name, _expiry_s(data["tls.crt"]))
        kept = due.ca is None and due.leaf is None
        self._settled, self._look_s = versions if kept else None, time.monotonic() + LOOK_EVERY_S
        return kept

    def _secret(self, name: str) -> Object | None:
        return self.world.api.get(SECRETS, name, self.world.namespace)

    def _configurations(self) -> Iterator[tuple[Resource, Object]]:
        for watched in self.world.webhooks:
            yield from ((watched.resource, thing) for thing in watched.items())

    def _write(self, name: str, before: Object | None, data: dict[str, str], kind: str) -> None:
        """Create or replace a Secret; another writer in between wins, and the next round looks again."""
        api, namespace = self.world.api, self.world.namespace
        metadata: Object = before["metadata"] if before else {"name": name, "labels": LABELS}
        marked = {**metadata, "annotations": {**(metadata.get("annotations") or {}), **ISSUER}}
        if before is None:
            new = {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": marked, "data": data}
            api.create(SECRETS, new, namespace)
        else:
            api.replace(SECRETS, {**before, "metadata": marked, "data": data}, namespace)

    def _publish(self, resource: Resource, thing: Object, bundle: str) -> None:
        """Put the bundle into every entry that has another, each guarded by its name: an edit in between is no harm."""
        operations = [
            operation
            for index, hook in enumerate(thing.get("webhooks", ()))
            if _bundle(hook) != bundle
            for operation in (
                {"op": "test", "path": f"/webhooks/{index}/name", "value": hook["name"]},
                {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle},
            )
        ]
        if not operations:
            return
        try:
            self.world.api.patch(resource, thing["metadata"]["name"], operations, kind=PatchKind.JSON)
        except ApiError as error:
            if error.status not in (404, 422):  # deleted or edited in between: the next round sees it as it is
                raise


def _bundle(hook: Object) -> str:
    return hook["clientConfig"].get("caBundle") or ""


def _data(secret: Object | None) -> dict[str, str] | None:
    return None if secret is None else dict(secret.get("data") or {})


def _expiry_s(text: str) -> float:
    return x509.load_pem_x509_certificate(b64decode(text)).not_valid_after_utc.timestamp()

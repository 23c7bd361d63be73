"""EDGE: certificate and key, from a Secret to files that the server can read, renewed as the Secret is."""

import logging
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from kube.api import Api, ApiError
from kube.kinds import SECRETS

ISSUER: Final = {"cert-manager.io/issuer-name": "podsla-controller"}  # else cert-manager takes ours for its own
POLL_S: Final = 5.0
FOREIGN_AFTER_S: Final = 15.0  # the controller looks every 10 s at least, and publishes a CA that is new to it
_log: Final = logging.getLogger(__name__)


class SecretFiles:
    """
    The pair of a TLS Secret as two files in *folder*.

    A Secret that is gone or incomplete changes nothing: the last pair stays. It also stays for a while where somebody
    else than the controller issued the next one, whose CA the API server may not know yet.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(
        self, api: Api, namespace: str, name: str, folder: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.api, self.namespace, self.name, self.clock = api, namespace, name, clock
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self._seen: tuple[bytes, bytes] | None = None
        self._seen_s = 0.0
        self._stopped = threading.Event()

    def fetch(self) -> bool:
        """Write the pair if it is another than before and is due; False while there is none."""
        try:
            secret = self.api.get(SECRETS, self.name, self.namespace)
        except ApiError as error:
            _log.warning("cannot read the certificate", extra={"fields": {"error": str(error)[:256]}})
            return self.key.exists()
        pair = pair_of(secret)
        if pair is None:
            return self.key.exists()
        if pair != self._seen:
            self._seen, self._seen_s = pair, self.clock()
        if not self.key.exists() or _is_ours(secret) or self.clock() - self._seen_s >= FOREIGN_AFTER_S:
            try:
                self._write(pair)
            except OSError as error:  # a full disk, say: it is tried again
                _log.error("cannot write the certificate", extra={"fields": {"error": str(error)[:256]}})
        return self.key.exists()

    def _write(self, pair: tuple[bytes, bytes]) -> None:
        for file, content in zip((self.certificate, self.key), pair, strict=True):
            if not file.exists() or file.read_bytes() != content:
                written = file.with_suffix(".new")
                written.touch(0o600)
                written.write_bytes(content)
                written.replace(file)

    def wait(self) -> None:
        """Wait for the first pair, which the controller writes; say once what is waited for."""
        if not self.fetch():
            where = f"{self.namespace}/{self.name}"
            _log.info("waiting for the certificate that podsla controller writes", extra={"fields": {"secret": where}})
        while not self.fetch():
            self._stopped.wait(1)

    def follow(self) -> None:
        """Look for a renewed pair from now on, on a thread of its own."""

        def run() -> None:
            while not self._stopped.wait(POLL_S):
                self.fetch()

        threading.Thread(target=run, name="secret", daemon=True).start()


def pair_of(secret: Mapping[str, object] | None) -> tuple[bytes, bytes] | None:
    """Read certificate chain and key of a Secret, both PEM; None where either is missing."""
    data = (secret or {}).get("data")
    if not isinstance(data, Mapping) or not data.get("tls.crt") or not data.get("tls.key"):
        return None
    return b64decode(data["tls.crt"]), b64decode(data["tls.key"])


def _is_ours(secret: Mapping[str, Any] | None) -> bool:
    """Whether the controller issued it, which publishes a CA before it signs."""
    metadata: Mapping[str, Any] = (secret or {}).get("metadata") or {}
    return ISSUER.items() <= (metadata.get("annotations") or {}).items()

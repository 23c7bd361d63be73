"""EDGE: certificate and key, from a Secret to files that the server can read, renewed as the Secret is."""

import logging
import threading
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kube.api import Api, ApiError
from kube.kinds import SECRETS

POLL_S: Final = 5.0
_log: Final = logging.getLogger(__name__)


class SecretFiles:
    """
    The pair of a TLS Secret as two files in *folder*.

    A Secret that is gone or incomplete changes nothing: the last pair stays.
    """

    def __init__(self, api: Api, namespace: str, name: str, folder: Path) -> None:
        self.api, self.namespace, self.name = api, namespace, name
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self._stopped = threading.Event()

    def fetch(self) -> bool:
        """Write the pair if it is another than before; False while there is none."""
        try:
            secret = self.api.get(SECRETS, self.name, self.namespace)
        except ApiError as error:
            _log.warning("cannot read the certificate", extra={"fields": {"error": str(error)[:256]}})
            return self.key.exists()
        pair = pair_of(secret)
        if pair is None:
            return self.key.exists()
        for file, content in zip((self.certificate, self.key), pair, strict=True):
            if not file.exists() or file.read_bytes() != content:
                written = file.with_suffix(".new")
                written.touch(0o600)
                written.write_bytes(content)
                written.replace(file)
        return True

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

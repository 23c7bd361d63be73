"""EDGE: a certificate and its key as two files, which somebody renews."""

import os
import signal
import ssl
import threading
import time
from pathlib import Path


def watch_certificate(certificate: Path, key: Path, every_s: float) -> None:
    """
    Replace the worker whenever certificate and key were renewed on disk.

    Files that do not belong together are waited out: they are seldom written at the same moment, and a worker that
    started on them would serve nobody.
    """

    def watch() -> None:
        served = _contents(certificate, key)
        while True:
            time.sleep(every_s)
            found = _contents(certificate, key)
            if found not in (None, served) and is_pair(certificate, key):
                served = found
                os.kill(os.getpid(), signal.SIGHUP)

    threading.Thread(target=watch, name="certificate", daemon=True).start()


def _contents(*files: Path) -> tuple[bytes, ...] | None:
    try:
        return tuple(file.read_bytes() for file in files)
    except OSError:
        return None  # replaced at this moment; the next look sees it


def is_pair(certificate: Path, key: Path) -> bool:
    """Tell whether two files are a certificate and its private key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return False
    return True

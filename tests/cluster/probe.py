"""EDGE: asks servers on this machine as the kubelet does, which checks no certificate."""

import ssl
from contextlib import closing
from http.client import HTTPException, HTTPSConnection
from typing import Final

from tests.cluster.network import LOOPBACK

TIMEOUT_S: Final = 1.0


def unchecked() -> ssl.SSLContext:
    """Take whatever certificate a server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def connect(port: int) -> HTTPSConnection:
    """Connect to the server on a port."""
    return HTTPSConnection(LOOPBACK, port, context=unchecked(), timeout=TIMEOUT_S)


def is_ready(port: int, path: str = "/readyz") -> bool:
    """Whether it answers there with 200."""
    with closing(connect(port)) as connection:
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False

"""EDGE: calls to a cluster's API server as its administrator, for probes and for what the launcher creates."""

import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import urllib3

from tests.cluster.state import Cluster, ClusterError

_THREADS: Final = 16
_TIMEOUT: Final = urllib3.Timeout(connect=2, read=30)


class Admin:
    """An administrator's connection; objects are mappings as they are on the wire."""

    def __init__(self, cluster: Cluster) -> None:
        context = ssl.create_default_context(cafile=str(cluster.pki / "ca.crt"))
        context.load_cert_chain(cluster.pki / "admin.crt", cluster.pki / "admin.key")
        self.server = cluster.server
        self.pool = urllib3.PoolManager(maxsize=_THREADS, ssl_context=context, retries=False, timeout=_TIMEOUT)

    def answers(self, url: str) -> bool:
        """
        Whether a GET of *url*, of any component of the cluster, is answered with 200.

        Raises:
            OSError: The component was not reached.
        """
        try:
            return self.pool.request("GET", url).status == 200
        except urllib3.exceptions.HTTPError as error:
            raise OSError(str(error)) from error

    def get(self, path: str) -> dict[str, Any]:
        """Read an object or a list."""
        return self._call("GET", path, None)

    def create(self, path: str, made: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object in the collection at *path*; one that is there already is left as it is."""
        return self._call("POST", path, made)

    def create_all(self, path: str, made: Iterable[Mapping[str, Any]]) -> None:
        """Create objects, several at a time."""
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(lambda one: self.create(path, one), made):
                pass

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        try:
            answer = self.pool.request(method, self.server + path, **({} if body is None else {"json": body}))
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(f"{method} {path}: the API server at {self.server} did not answer: {error}") from None
        said: dict[str, Any] = answer.json()
        if answer.status >= 400 and said.get("reason") != "AlreadyExists":
            raise ClusterError(f"{method} {path}: {answer.status} {said.get('message', '')}")
        return said

"""EDGE: calls to the API server through the Kubernetes client. Objects stay mappings as they are on the wire."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import incluster_config

CONNECT_TIMEOUT_S: Final = 3.05
READ_TIMEOUT_S: Final = 8.0  # below the time in which a leader must renew its lease
CONNECTIONS: Final = 24  # kept open: a controller watches a dozen collections, and writes several objects at once
TOKEN_READ_EVERY_S: Final = 60.0  # the kubelet renews a token when a fifth of its life is left, or ten minutes
PAGE: Final = 500  # objects a list call returns at once
JSON: Final = "application/json"
METADATA: Final = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

Object: TypeAlias = Mapping[str, Any]


class PatchKind(StrEnum):
    """How a patch is to be understood."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    APPLY = "application/apply-patch+yaml"


class ApiError(Exception):
    """
    A call failed.

    Attributes:
        status: The HTTP status; 0 where the API server was not reached.
        reason: Kubernetes' word for it, such as "Conflict" or "AlreadyExists".
    """

    def __init__(self, what: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{what}: {message}")
        self.status, self.reason = status, reason


@dataclass(frozen=True, slots=True)
class Resource:
    """One collection of the API, such as `Resource("apps/v1", "deployments")`; the core group is "v1"."""

    group_version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Write the path of the collection, of an object in it, or of a subresource of that."""
        root = "api" if "/" not in self.group_version else "apis"
        parts = [root, self.group_version, *(["namespaces", namespace] if namespace else []), self.plural]
        return "/" + "/".join([*parts, *(part for part in (name, subresource) if part)])


class TokenFile:
    """
    A pod's token, read anew now and then.

    The client reads it by the wall clock: one that is stepped back has a token kept until it has long ended.
    """

    def __init__(self) -> None:
        self._path, self._read_s = Path(incluster_config.SERVICE_TOKEN_FILENAME), time.monotonic()

    def refresh(self, configuration: Configuration) -> None:
        """Put the token of now into what requests are made with; one that cannot be read changes nothing."""
        now_s = time.monotonic()
        if now_s - self._read_s < TOKEN_READ_EVERY_S:
            return
        with suppress(OSError):
            if token := self._path.read_text().strip():
                configuration.api_key["BearerToken"] = f"bearer {token}"
                self._read_s = now_s


class Api:
    """
    Reads and writes raw objects.

    Args:
        client: Address and credentials.
        may_write: Asked before every write, which is refused where it says no: a leader whose lease ran out is none.
        read_timeout_s: How long an answer may take, of calls that say nothing else.
    """

    def __init__(
        self,
        client: ApiClient,
        may_write: Callable[[], bool] = lambda: True,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self.client = client
        self.may_write = may_write
        self.read_timeout_s = read_timeout_s

    @classmethod
    def connect(cls, kubeconfig: Path | None = None, context: str | None = None) -> "Api":
        """
        Connect with a kubeconfig file, or as a pod with its service account, whose token is read anew as it changes.

        Raises:
            ApiError: There is neither.
        """
        configuration = Configuration()
        try:
            if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(configuration)
                configuration.refresh_api_key_hook = TokenFile().refresh  # type: ignore[assignment]
            else:
                config.load_kube_config(str(kubeconfig) if kubeconfig else None, context, configuration)
        except config.ConfigException as error:
            where = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
            raise ApiError(
                "finding a cluster", 0, "NoCluster", f"{where}: {error}; name one with --kubeconfig"
            ) from None
        configuration.connection_pool_maxsize = CONNECTIONS
        configuration.retries = False  # a repeated POST is ours to decide
        return cls(ApiClient(configuration))

    @property
    def address(self) -> str:
        """Where the API server is."""
        return str(self.client.configuration.host)

    def guarded(self, may_write: Callable[[], bool]) -> "Api":
        """Make the same connection that writes only while *may_write* says so."""
        return Api(self.client, may_write, self.read_timeout_s)

    def get(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        """
        Read one object; None where there is none.

        Raises:
            ApiError: The call failed otherwise.
        """
        try:
            return self.call("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, resource: Resource, namespace: str = "", **selectors: str) -> Iterator[Object]:
        """
        Read a collection, page by page.

        Args:
            selectors: labelSelector, fieldSelector.

        Raises:
            ApiError: A call failed.
        """
        return self._pages(resource, namespace, selectors)

    def list_metadata(self, resource: Resource, namespace: str = "", **selectors: str) -> Iterator[Object]:
        """
        Read a collection as `list` does, of each object its metadata alone.

        Raises:
            ApiError: A call failed.
        """
        return self._pages(resource, namespace, selectors, accept=METADATA)

    def _pages(self, resource: Resource, namespace: str, selectors: Mapping[str, str], **form: str) -> Iterator[Object]:
        query = {**selectors, "limit": str(PAGE)}
        while True:
            page = self.call("GET", resource.path(namespace), query, **form)
            yield from page["items"] or ()  # of metadata alone, none at all is null
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    def create(self, resource: Resource, body: Object, namespace: str = "") -> Object:
        """
        Create an object.

        Raises:
            ApiError: The call failed, with the reason "AlreadyExists" where the name is taken.
        """
        return self.call("POST", resource.path(namespace), body=body)

    def replace(self, resource: Resource, body: Object, namespace: str = "") -> Object:
        """
        Put an object in place of the one it was read from; its resourceVersion must still be the newest.

        Raises:
            ApiError: The call failed, with the reason "Conflict" where another wrote in between.
        """
        return self.call("PUT", resource.path(namespace, body["metadata"]["name"]), body=body)

    def patch(
        self,
        resource: Resource,
        name: str,
        body: Any,
        *,
        namespace: str = "",
        subresource: str = "",
        kind: PatchKind = PatchKind.MERGE,
    ) -> Object:
        """
        Patch an object or a subresource of it.

        Raises:
            ApiError: The call failed.
        """
        query = {"fieldManager": "podsla", "force": "true"} if kind is PatchKind.APPLY else {}
        return self.call("PATCH", resource.path(namespace, name, subresource), query, body, kind)

    def delete(self, resource: Resource, name: str, namespace: str = "") -> None:
        """
        Delete an object; one that is gone already is no error.

        Raises:
            ApiError: The call failed.
        """
        try:
            self.call("DELETE", resource.path(namespace, name))
        except ApiError as error:
            if error.status != 404:
                raise

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> dict[str, Any]:
        """
        Call the API server and read its answer.

        Raises:
            ApiError: It was not reached, or answered with an error; or a write was not allowed to go out.
        """
        what = f"{method} {path}"
        if method != "GET" and not self.may_write():
            raise ApiError(what, 0, "NotLeader", "not sent, since this process is not the leader any more")
        response = self.send(method, path, query, body, content_type, accept=accept)
        try:
            answer = orjson.loads(response.data or b"{}")
        except orjson.JSONDecodeError:
            answer = {"message": response.data[:200].decode(errors="replace")}
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(what, 0, "Unreachable", _why(error)) from None
        if not 200 <= response.status <= 299:
            message = answer.get("message") or f"HTTP status {response.status}"
            raise ApiError(what, response.status, answer.get("reason") or "Unknown", message)
        return dict(answer)

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        read_timeout_s: float | None = None,
        accept: str = JSON,
    ) -> Any:
        """
        Send a request, with the credentials of now; the answer is a urllib3 response whose body is not read yet.

        Raises:
            ApiError: The API server was not reached.
        """
        headers = {"Accept": accept, **({"Content-Type": content_type} if body is not None else {})}
        request = self.client.param_serialize(
            method, path, header_params=headers, query_params=list((query or {}).items()), auth_settings=["BearerToken"]
        )
        _, url, sent_headers, _, _ = request
        try:
            return self.client.rest_client.pool_manager.request(
                method,
                url,
                headers=sent_headers,
                body=orjson.dumps(body) if body is not None else None,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_timeout_s or self.read_timeout_s),
                preload_content=False,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(f"{method} {path}", 0, "Unreachable", _why(error)) from None


def _why(error: Exception) -> str:
    return f"the API server did not answer ({type(error).__name__})"

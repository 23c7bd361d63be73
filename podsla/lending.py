"""EDGE: what the commands of `podsla gpu` ask of a cluster: the in-code client, over a kubeconfig."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import urllib3

from catalog.keys import FORCE_RELEASE
from kube.api import Api, ApiError, Object, PatchKind
from kube.context import current_namespace
from kube.kinds import GPU_ATTACHMENTS
from podsla.cluster import told
from podsla.gpu import CALL_S, WATCH_S, Refused, State, read_state
from podsla.output import ClusterError

POLL_S: Final = 0.3


class Kubeconfig:
    """The API server as podsla.gpu speaks to it, reached as kubectl reaches it."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def now_s(self) -> float:
        """Tell the time by this machine's clock."""
        return time.time()

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> dict[str, Any]:
        """
        Call, and read the answer.

        Raises:
            Refused: It failed.
        """
        try:
            return self.api.call(method, path, body=body, content_type=content_type)
        except ApiError as error:
            raise Refused(error.status, error.reason, str(error)) from None

    def lines(self, path: str) -> Iterator[bytes]:
        """
        Read what a watch sends, line by line, until it ends.

        Raises:
            Refused: It did not begin.
        """
        where, _, query = path.partition("?")
        pairs = dict(pair.split("=", 1) for pair in query.replace("%3D", "=").split("&"))
        try:
            response = self.api.send("GET", where, pairs, read_timeout_s=WATCH_S + CALL_S)
        except ApiError as error:
            raise Refused(error.status, error.reason, str(error)) from None
        if response.status != 200:
            raise Refused(response.status, "WatchRefused", f"GET {where}: HTTP status {response.status}")
        left = b""
        try:
            for part in response.stream(None, decode_content=True):
                *whole, left = (left + part).split(b"\n")
                yield from whole
        except urllib3.exceptions.HTTPError:
            return
        finally:
            response.close()


class Lender:
    """Attachments of one namespace."""

    def __init__(self, kubeconfig: Path | None, context: str | None, namespace: str | None) -> None:
        with told():
            self.api = Api.connect(kubeconfig, context)
        self.namespace = namespace or current_namespace(kubeconfig, context)

    def create(self, name: str, spec: Mapping[str, Any]) -> Object:
        """
        Create an attachment.

        Raises:
            ClusterError: There is one of this name, or it was refused.
        """
        head = {"apiVersion": GPU_ATTACHMENTS.group_version, "kind": "GPUAttachment", "metadata": {"name": name}}
        with told():
            try:
                return self.api.create(GPU_ATTACHMENTS, {**head, "spec": spec}, self.namespace)
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
                message = f"there is an attachment {name} in namespace {self.namespace}; give another --name"
                raise ClusterError(f"{message}, or {self._see}") from None

    @property
    def _see(self) -> str:
        return f"see `podsla gpu list -n {self.namespace}`"

    def named(self, name: str) -> str:
        """Write what names an attachment on the command line, wherever kubectl looks."""
        return f"{name} -n {self.namespace}"

    def get(self, name: str) -> Object:
        """
        Read an attachment.

        Raises:
            ClusterError: There is none.
        """
        with told():
            found = self.api.get(GPU_ATTACHMENTS, name, self.namespace)
        if found is None:
            raise ClusterError(f"there is no attachment {name} in namespace {self.namespace}; {self._see}")
        return found

    def all(self, *, everywhere: bool = False) -> list[Object]:
        """List the attachments, by namespace and name."""
        with told():
            found = list(self.api.list(GPU_ATTACHMENTS, "" if everywhere else self.namespace))
        return sorted(found, key=lambda one: (one["metadata"]["namespace"], one["metadata"]["name"]))

    def release(self, name: str) -> None:
        """Ask for the release."""
        self._patch(name, {"spec": {"release": True}})

    def force(self, name: str) -> None:
        """Release it, and end its quarantine without a check."""
        self._patch(name, {"metadata": {"annotations": {FORCE_RELEASE: "true"}}, "spec": {"release": True}})

    def _patch(self, name: str, body: Mapping[str, Any]) -> None:
        self.get(name)
        with told():
            self.api.patch(GPU_ATTACHMENTS, name, body, namespace=self.namespace, kind=PatchKind.MERGE)

    def wait(
        self, name: str, until: frozenset[str], timeout_s: float, on_change: Callable[[State], None]
    ) -> tuple[Object, State]:
        """Read it again and again until it is in one of the states, or the time is over; tell of each change."""
        end_s, last = time.monotonic() + timeout_s, None
        while True:
            thing = self.get(name)
            state = read_state(thing)
            now = (state.word, state.reason, state.message, state.queue)
            if now != last:
                last = now
                on_change(state)
            if state.word in until or time.monotonic() >= end_s:
                return thing, state
            time.sleep(POLL_S)

"""EDGE: what the commands read of a cluster: lists and single objects, several at once, and never anything else."""

import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from catalog.accept import Memo
from catalog.fit import compile_index
from catalog.load import DEFAULT_TARGET, load_target
from catalog.served import Served, build, find_accepted
from catalog.target import Target
from kube.api import Api, ApiError, Object, Resource
from kube.context import current_namespace
from kube.kinds import CONTROLLER_REVISIONS, NAMESPACES, NODES, PODS, RUNNING, RUNTIME_CLASSES, SPEC_CATALOGS
from podsla.output import ClusterError
from webhook.admit import Serving

EVENTS: Final = Resource("v1", "events")
FORBIDDEN: Final = 403
NOT_INSTALLED: Final = (
    "podsla is not installed in this cluster; kubectl apply --server-side -k manifests/overlays/default installs it"
)
_AT_ONCE: Final = 8

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Reader:
    """
    A cluster that is only read.

    Attributes:
        namespace: That of the pods a command speaks of.
        home: The namespace that podsla is installed in.
    """

    api: Api
    namespace: str
    home: str

    def read(self, resource: Resource, namespace: str = "", **selectors: str) -> Sequence[Object]:
        """Read a collection whole, page by page."""
        return list(self.api.list(resource, namespace, **selectors))

    def all(self, *calls: Callable[[], Any]) -> list[Any]:
        """Make several calls at once; the first failure is raised."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [future.result() for future in [pool.submit(call) for call in calls]]

    def permitted(self, call: Callable[[], T], otherwise: U) -> T | U:
        """Make a call that may be forbidden to whoever asks, and give *otherwise* where it is."""
        try:
            return call()
        except ApiError as error:
            if error.status != FORBIDDEN:
                raise
            return otherwise

    def nodes(self) -> Sequence[Object]:
        """Every node."""
        return self.read(NODES)

    def running_pods(self) -> Sequence[Object]:
        """Every pod that is not over, of every namespace."""
        return self.read(PODS, fieldSelector=RUNNING)

    def namespace_labels(self, name: str) -> Mapping[str, str] | None:
        """Labels of a namespace; None where it is not there, or may not be seen."""
        found = self.permitted(lambda: self.api.get(NAMESPACES, name), None)
        return None if found is None else found["metadata"].get("labels") or {}

    def served(self) -> Served:
        """
        Read what the controller accepted last, which is what replicas serve; nothing published yet is an empty one.

        Raises:
            ApiError: A call failed.
        """
        lists = self.all(
            lambda: self.read(SPEC_CATALOGS),
            lambda: self.read(CONTROLLER_REVISIONS, self.home),
            lambda: self.read(RUNTIME_CLASSES),
        )
        found = find_accepted(*lists)
        if found is None:
            message = f"a revision that is served is not in namespace {self.home}; `podsla doctor` tells more"
            raise ClusterError(message)
        return build(found, load_target(DEFAULT_TARGET), Memo())

    def serving(self) -> Serving:
        """Compile what is served, as a replica does."""
        served = self.served()
        return Serving(compile_index(served.catalog, served.target))


def target_of(revisions: Sequence[Object], classes: Sequence[Object]) -> Target:
    """Find the target that the controller accepted last; until there is one, it is the shipped one."""
    found = find_accepted([], revisions, classes)
    return build(found, load_target(DEFAULT_TARGET), Memo()).target if found else load_target(DEFAULT_TARGET)


def connect(kubeconfig: Path | None, context: str | None, namespace: str | None, home: str) -> Reader:
    """
    Connect; without *namespace*, pods are looked for where kubectl would look.

    Raises:
        ClusterError: No cluster is named anywhere.
    """
    with told():
        api = Api.connect(kubeconfig, context)
    gc.disable()  # who reads ends in seconds, and would go through thousands of pods again with each thousand more
    return Reader(api, namespace or current_namespace(kubeconfig, context), home)


@contextmanager
def told() -> Iterator[None]:
    """Turn a failed call into a message for a person."""
    try:
        yield
    except ApiError as error:
        missing = re.search(r'namespaces "([^"]+)" not found', str(error))
        if missing:
            raise ClusterError(f"there is no namespace {missing[1]}; create it, or name another one") from None
        if error.status == 404 and SPEC_CATALOGS.group_version in str(error):
            raise ClusterError(NOT_INSTALLED) from None
        advice = {401: "; log in again", 403: "; ask for the right, or name another --context"}.get(error.status, "")
        raise ClusterError(f"{error}{advice}") from None

"""EDGE: ways to make one thing of a cluster wrong, each of which is taken back at its end."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from kube.api import Object, PatchKind, Resource
from kube.kinds import MUTATING_WEBHOOKS, PODS
from tests.system.user import User
from tests.waiting import eventually

_SET_BY_SERVER: Final = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")


@dataclass(frozen=True)
class Site:
    """Who makes it wrong, and in which namespace; names of objects may say {there} for that."""

    user: User
    there: str

    def name(self, text: str) -> str:
        return text.format(there=self.there)


Wrong: TypeAlias = Callable[[Site], AbstractContextManager[None]]


def field(
    resource: Resource, name: str, pointer: str, to: Any = None, *, namespace: str = "", subresource: str = ""
) -> Wrong:
    """
    One field of an object that is there has another value.

    Args:
        to: The value, or what makes it of the value before; None: it is not there.
    """

    @contextmanager
    def wrong(site: Site) -> Iterator[None]:
        api, called = site.user.api, site.name(name)
        before = _at(api.get(resource, called, namespace), pointer)

        def put(value: Any) -> None:
            operation = {"op": "remove"} if value is None else {"op": "add", "value": value}
            patch = [{**operation, "path": pointer}]
            api.patch(resource, called, patch, namespace=namespace, subresource=subresource, kind=PatchKind.JSON)

        put(to(before) if callable(to) else to)
        try:
            yield
        finally:
            put(before)

    return wrong


def _at(thing: Any, pointer: str) -> Any:
    assert thing is not None, "what is to be edited must be there"
    for step in pointer.removeprefix("/").split("/"):
        if thing is None:
            return None
        thing = thing[int(step)] if isinstance(thing, list) else thing.get(step.replace("~1", "/"))
    return thing


def deleted(resource: Resource, kind: str, namespace: str = "", **selectors: str) -> Wrong:
    """Objects are not there; afterwards they are, as they were."""

    @contextmanager
    def wrong(site: Site) -> Iterator[None]:
        api = site.user.api
        found = list(api.list(resource, namespace, **selectors))
        assert found, "what is to be deleted must be there"
        for thing in found:
            api.delete(resource, thing["metadata"]["name"], namespace)
        try:
            yield
        finally:
            for thing in found:
                metadata = {key: value for key, value in thing["metadata"].items() if key not in _SET_BY_SERVER}
                again = {"apiVersion": resource.group_version, "kind": kind, **thing, "metadata": metadata}
                done = site.user.apply(again, "--server-side")  # the manifests can be applied over it, as before
                assert done.returncode == 0, done.stderr

    return wrong


def created(resource: Resource, document: Object, namespace: str = "") -> Wrong:
    """An object is there, as `kubectl apply` makes it, that should not be."""

    @contextmanager
    def wrong(site: Site) -> Iterator[None]:
        called, where = document["metadata"]["name"], site.name(namespace)
        place = {"namespace": where} if where else {}
        done = site.user.apply({**document, "metadata": {**document["metadata"], **place}})
        assert done.returncode == 0, done.stderr
        try:
            yield
        finally:
            site.user.api.delete(resource, called, where)
            eventually(lambda: site.user.api.get(resource, called, where) is None, f"{called} is gone")

    return wrong


def on_a_node(document: Object) -> Wrong:
    """A pod runs on a node."""

    @contextmanager
    def wrong(site: Site) -> Iterator[None]:
        with created(PODS, document, "{there}")(site):
            eventually(lambda: _pod(site, document)["spec"].get("nodeName"), "the pod is placed")
            yield

    return wrong


def unsized(document: Object) -> Wrong:
    """A pod that names a class was created while nobody was asked about it."""

    @contextmanager
    def wrong(site: Site) -> Iterator[None]:
        def come_without() -> bool:
            site.user.apply({**document, "metadata": {**document["metadata"], "namespace": site.there}})
            if "podsla.io/size" not in (_pod(site, document)["metadata"].get("labels") or {}):
                return True
            site.user.api.delete(PODS, document["metadata"]["name"], site.there)
            return False

        with field(MUTATING_WEBHOOKS, "podsla", "/webhooks", [])(site):
            eventually(come_without, "the API server has heard that the webhook is out of use")
        yield

    return wrong


def _pod(site: Site, document: Object) -> Object:
    return site.user.api.call("GET", PODS.path(site.there, document["metadata"]["name"]))


def both(*parts: Wrong) -> Wrong:
    """One after the other, and taken back the other way round."""

    @contextmanager
    def wrong(site: Site) -> Iterator[None]:
        with ExitStack() as stack:
            for part in parts:
                stack.enter_context(part(site))
            yield

    return wrong

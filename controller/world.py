"""EDGE: everything that the controller watches, and the connection that it writes through."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from attach.budget import LEDGER
from catalog.keys import PLACEHOLDER, SIZE
from catalog.served import TARGET_CONFIG_MAP
from kube.api import Api, ApiError, Object, Resource
from kube.kinds import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    DEVICE_CLASSES,
    GPU_ATTACHMENTS,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    NODES,
    PODS,
    RUNTIME_CLASSES,
    SPEC_CATALOGS,
    VALIDATING_WEBHOOKS,
)
from kube.watch import Watched, without_managed_fields
from nodes.bound import Bound, keep_promises, read_bound

WEBHOOKS: Final = (
    (MUTATING_WEBHOOKS, "podsla"),
    (VALIDATING_WEBHOOKS, "podsla"),
    (VALIDATING_WEBHOOKS, "podsla-templates"),
)
"""Configurations that call us; each is watched by name, so that no right to list those of others is needed."""


def patch_version(
    api: Api, resource: Resource, name: str, version: str, body: Mapping[str, Any], subresource: str = ""
) -> str | None:
    """
    Patch an object without a namespace if it still is the one that was read; name its new resourceVersion.

    None: it has changed or gone since, and is looked at again when that is seen here. A leader that was paused for so
    long that another took over thus sets nothing back, whatever it still had under way.

    Raises:
        ApiError: The call failed otherwise.
    """
    guarded = {**body, "metadata": {**body.get("metadata", {}), "resourceVersion": version}}
    try:
        answer = api.patch(resource, name, guarded, subresource=subresource)
    except ApiError as error:
        if error.status in (404, 409):
            return None
        raise
    return str(answer["metadata"]["resourceVersion"])


def dynamic_resources(api: Api) -> frozenset[str]:
    """
    Name the resources that a DeviceClass stands for: no node publishes them. An API server may know no such classes.

    Raises:
        ApiError: The call failed otherwise.
    """
    try:
        return frozenset(one["spec"].get("extendedResourceName", "") for one in api.list(DEVICE_CLASSES))
    except ApiError as error:
        if error.status == 404:
            return frozenset()
        raise


def is_refused(error: ApiError) -> bool:
    """Tell whether the API server will not have this very object; a right that is missing is no word about it."""
    return error.status in (400, 403, 404, 422) and "cannot create resource" not in str(error)


def delete_seen(api: Api, path: str, preconditions: Mapping[str, str], grace_s: int | None = None) -> bool:
    """
    Delete an object if it still is the one that was seen; False where it has changed or gone since.

    Raises:
        ApiError: The call failed otherwise.
    """
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
    if grace_s is not None:
        options["gracePeriodSeconds"] = grace_s
    try:
        api.call("DELETE", path, body=options)
    except ApiError as error:
        if error.status in (404, 409):
            return False
        raise
    return True


class Failures:
    """Failures of writes on several objects: one object that cannot be written holds up no other."""

    def __init__(self) -> None:
        self._first: ApiError | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """
        Note a refusal.

        Raises:
            ApiError: The API server was not reached, or must not be written to: nothing else will go better.
        """
        try:
            yield
        except ApiError as error:
            if not error.status:
                raise
            self._first = self._first or error

    def end(self) -> None:
        """
        Raise the first one, so that the round is tried again.

        Raises:
            ApiError: There was one.
        """
        if self._first is not None:
            raise self._first


class World:
    """
    The objects of the API server that matter here, as they were a moment ago; and *api* to change them.

    Args:
        on_ask: Called in place of *on_change* where an attachment has changed, or a pod that reserves for one.
    """

    def __init__(
        self, api: Api, namespace: str, on_change: Callable[[], None], on_ask: Callable[[], None] | None = None
    ) -> None:
        on_ask = on_ask or on_change
        self.api, self.namespace = api, namespace
        self.catalogs = Watched(api, SPEC_CATALOGS, on_change=on_change)
        self.revisions = Watched(api, CONTROLLER_REVISIONS, namespace=namespace, on_change=on_change)
        named = {"fieldSelector": f"metadata.name={TARGET_CONFIG_MAP}"}
        self.targets = Watched(api, CONFIG_MAPS, namespace=namespace, selectors=named, on_change=on_change)
        own = {"fieldSelector": f"metadata.name={LEDGER}"}
        self.ledger = Watched(api, CONFIG_MAPS, namespace=namespace, selectors=own, on_change=on_change)
        self.namespaces = Watched(api, NAMESPACES, on_change=on_change, keep=labels_only)
        self.runtime_classes = Watched(api, RUNTIME_CLASSES, on_change=on_change)
        self.nodes = Watched(api, NODES, on_change=on_change, keep=node_figures)
        # Pods wake nobody: they come and go all the time, and what they hold back is looked at every few seconds.
        self.pods = Watched(
            api, PODS, selectors={"labelSelector": SIZE}, on_change=self.forget_bound, keep=keep_promises
        )
        self.attachments = Watched(api, GPU_ATTACHMENTS, on_change=on_ask)
        self.placeholders = Watched(
            api, PODS, selectors={"labelSelector": PLACEHOLDER}, on_change=on_ask, keep=without_managed_fields
        )
        self._changes = 0  # of pods
        self._bound: tuple[int, tuple[Bound, ...]] | None = None
        self.webhooks = tuple(
            Watched(api, resource, selectors={"fieldSelector": f"metadata.name={name}"}, on_change=on_change)
            for resource, name in WEBHOOKS
        )
        self._all = (
            self.catalogs,
            self.revisions,
            self.targets,
            self.ledger,
            self.namespaces,
            self.runtime_classes,
            self.nodes,
            self.pods,
            self.attachments,
            self.placeholders,
            *self.webhooks,
        )

    def start(self) -> "World":
        """Begin to watch."""
        for watched in self._all:
            watched.start()
        return self

    def stop(self) -> None:
        """Stop watching."""
        for watched in self._all:
            watched.stop()

    def bound(self) -> tuple[Bound, ...]:
        """What running pods were promised."""
        changes, found = self._changes, self._bound
        if found is None or found[0] != changes:
            self._bound = found = (changes, tuple(read_bound(self.pods.items())))
        return found[1]

    def used_revisions(self) -> frozenset[str]:
        """The revisions that records of running pods name."""
        return frozenset(one.revision for one in self.bound())

    def forget_bound(self) -> None:
        """Read pods again: they have changed, or may have; a list that is read anew is told of before it is there."""
        self._changes += 1

    @property
    def synced(self) -> bool:
        """Whether everything was read whole at least once."""
        return all(watched.synced for watched in self._all)


def labels_only(thing: Object) -> Object:
    """Keep of an object its name and its labels."""
    metadata = thing["metadata"]
    return {"metadata": {key: metadata[key] for key in ("name", "uid", "labels", "resourceVersion") if key in metadata}}


def node_figures(node: Object) -> Object:
    """Keep of a node its name, labels, taints, capacity and allocatable: a whole one is 10 KiB."""
    status, taints = node.get("status") or {}, (node.get("spec") or {}).get("taints") or ()
    return {
        **labels_only(node),
        **({"spec": {"taints": taints}} if taints else {}),
        "status": {key: status[key] for key in ("capacity", "allocatable") if key in status},
    }

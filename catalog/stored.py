"""What was accepted, as it is kept in the API server: one ControllerRevision for each accepted spec. Pure.

An object of the API server is a mapping as it is on the wire.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeAlias

from catalog.keys import CATALOG, REVISION
from catalog.schema import API_VERSION

Object: TypeAlias = Mapping[str, Any]

KEPT: Final = 10  # revisions of one catalogue, and every one that is still needed


@dataclass(frozen=True, slots=True)
class Kept:
    """
    One accepted spec.

    Attributes:
        name: Of the ControllerRevision.
        catalog: The name of the SpecCatalog.
        owners: UIDs; none where the owner was deleted and left it behind.
        revision: "sha256:" and the hash of its model, as it was when it was accepted.
        number: The higher, the newer.
        spec: Of the SpecCatalog, as it was written.
    """

    name: str
    catalog: str
    owners: frozenset[str]
    revision: str
    number: int
    spec: Any


def read_kept(revisions: Iterable[Object]) -> tuple[Kept, ...]:
    """Read ControllerRevisions; those that keep no spec of a catalogue are passed over."""
    return tuple(kept for revision in revisions if (kept := _read(revision)) is not None)


def _read(thing: Object) -> Kept | None:
    metadata = thing["metadata"]
    catalog = (metadata.get("labels") or {}).get(CATALOG)
    revision = (metadata.get("annotations") or {}).get(REVISION)
    spec = (thing.get("data") or {}).get("spec")
    if not catalog or not revision or spec is None:
        return None
    owners = frozenset(owner.get("uid", "") for owner in metadata.get("ownerReferences") or ())
    return Kept(metadata["name"], catalog, owners, revision, thing.get("revision", 0), spec)


def by_age(catalogs: Iterable[Object]) -> list[Object]:
    """Order objects by age, then by name: the older has precedence."""
    return sorted(catalogs, key=lambda c: (c["metadata"].get("creationTimestamp") or "", c["metadata"]["name"]))


def kept_of(catalog: Object, kept: Iterable[Kept]) -> tuple[Kept, ...]:
    """
    List what was accepted of one SpecCatalog, newest first.

    What another object of the same name left behind is not its own, unless nobody owns it any more.
    """
    name, uid = catalog["metadata"]["name"], catalog["metadata"].get("uid")
    own = (k for k in kept if k.catalog == name and (not k.owners or uid in k.owners))
    return tuple(sorted(own, key=lambda k: (-k.number, k.name)))


def last_good(catalog: Object, kept: Iterable[Kept]) -> Kept | None:
    """Find what serves: what the status names, or the newest where the status was lost."""
    own = kept_of(catalog, kept)
    serving = (catalog.get("status") or {}).get("serving")
    return next((k for k in own if k.revision == serving), own[0] if own else None)


def revision_object(catalog: Object, revision: str, number: int, namespace: str) -> dict[str, Any]:
    """
    Make the ControllerRevision that keeps the spec of *catalog*.

    Its name follows from the object and what it means, so that creating it twice is refused, and an object that was
    deleted and created again takes none of its predecessor's.
    """
    metadata = catalog["metadata"]
    name, uid = metadata["name"], metadata["uid"]
    owner = {"apiVersion": API_VERSION, "kind": "SpecCatalog", "name": name, "uid": uid, "controller": True}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{name}-{sha256(f'{uid} {revision}'.encode()).hexdigest()[:10]}",
            "namespace": namespace,
            "labels": {CATALOG: name},
            "annotations": {REVISION: revision},
            "ownerReferences": [owner],
        },
        "revision": number,
        "data": {"spec": catalog["spec"]},
    }


def prune(catalogs: Iterable[Object], kept: Sequence[Kept], needed: Collection[str]) -> tuple[str, ...]:
    """
    Name the ControllerRevisions that may go.

    The newest `KEPT` of each catalogue stay, with what serves and what *needed* names. Those of catalogues that are
    gone are the garbage collector's.
    """
    names: list[str] = []
    for catalog in catalogs:
        serving = last_good(catalog, kept)
        names += [k.name for k in kept_of(catalog, kept)[KEPT:] if k != serving and k.name not in needed]
    return tuple(sorted(names))

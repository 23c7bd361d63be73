"""Which of Karpenter's NodeOverlays to write and to take away, so that they say what nodes will offer. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from catalog.keys import OVERLAY
from nodes.export import MANAGED_BY

KEPT: Final[Mapping[str, str]] = {OVERLAY: "true"}
"""On overlays that the controller keeps; one that a person exported has MANAGED_BY alone."""


@dataclass(frozen=True, slots=True)
class OverlayPlan:
    """
    What to do about overlays.

    Attributes:
        create: Overlays to create.
        replace: Overlays to put in place of what stands, with the resourceVersion that was read.
        delete: Names of overlays that nothing asks for any more.
        taken: Names that somebody else's overlays have; those are left as they are.
    """

    create: tuple[dict[str, Any], ...] = ()
    replace: tuple[dict[str, Any], ...] = ()
    delete: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()


def plan_overlays(wanted: Iterable[Mapping[str, Any]] | None, standing: Iterable[Mapping[str, Any]]) -> OverlayPlan:
    """
    Compare what is wanted with what stands.

    Args:
        wanted: The export. While there is one, overlays that a person exported by hand are taken over, since two that
            speak of one type contradict each other after the next edit. None: the target asks for none any more, and
            only what the controller wrote goes.
        standing: Every overlay of the cluster.
    """
    mine = KEPT if wanted is None else MANAGED_BY
    found = {thing["metadata"]["name"]: thing for thing in standing}
    owned = {name for name, thing in found.items() if mine.items() <= (thing["metadata"].get("labels") or {}).items()}
    due = {overlay["metadata"]["name"]: _kept(overlay) for overlay in wanted or ()}
    return OverlayPlan(
        create=tuple(overlay for name, overlay in due.items() if name not in found),
        replace=tuple(
            _in_place_of(found[name], overlay)
            for name, overlay in due.items()
            if name in owned and not _says(found[name], overlay)
        ),
        delete=tuple(sorted(owned - due.keys())),
        taken=tuple(sorted(due.keys() & found.keys() - owned)),
    )


def _kept(overlay: Mapping[str, Any]) -> dict[str, Any]:
    metadata = overlay["metadata"]
    return {**overlay, "metadata": {**metadata, "labels": {**metadata["labels"], **KEPT}}}


def _says(found: Mapping[str, Any], overlay: Mapping[str, Any]) -> bool:
    labels = found["metadata"].get("labels") or {}
    return bool(found["spec"] == overlay["spec"]) and overlay["metadata"]["labels"].items() <= labels.items()


def _in_place_of(found: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Keep labels, annotations and status that others wrote; the spec is ours whole."""
    metadata = found["metadata"]
    labels = {**(metadata.get("labels") or {}), **overlay["metadata"]["labels"]}
    return {**found, **overlay, "metadata": {**metadata, "labels": labels}}

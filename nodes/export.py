"""What an autoscaler must know of nodes that do not exist yet: Karpenter's overlays, cluster-autoscaler's tags. Pure.

An autoscaler that finds a pod pending for `podsla.io/pps` adds a node only if it knows that such a node will have some.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from catalog.keys import INSTANCE_TYPE
from catalog.model import Requirement
from nodes.offer import NodeOffer

MANAGED_BY: Final[Mapping[str, str]] = {"app.kubernetes.io/managed-by": "podsla"}

STARTUP_TAINT: Final = "startup-taint.cluster-autoscaler.kubernetes.io/podsla-capacity"
"""Kept by a node until its capacity stands; the prefix is what cluster-autoscaler 1.29 and later know by itself."""

_TEMPLATE: Final = "k8s.io/cluster-autoscaler/node-template"


class Provider(StrEnum):
    """Whose cluster-autoscaler reads the tags: those of the scaling group (AWS), ECS tags of the node pool (ACK)."""

    AWS = "aws"
    ACK = "ack"


@dataclass(frozen=True, slots=True)
class _Tags:
    """How a provider spells its tags; None where labels and taints are fields of the node pool instead."""

    resource: str
    label: str | None
    taint: str | None


_TAGS: Final[Mapping[Provider, _Tags]] = {
    Provider.AWS: _Tags(f"{_TEMPLATE}/resources/", f"{_TEMPLATE}/label/", f"{_TEMPLATE}/taint/"),
    Provider.ACK: _Tags(f"{_TEMPLATE}/resource/", None, None),
}


def karpenter(offers: Iterable[NodeOffer], *, price: bool = False, weight: int | None = None) -> list[dict[str, Any]]:
    """
    Write NodeOverlays: each instance type in exactly one, types that offer the same in one together.

    An overlay carries the name of the first type in it, so the same offers always give the same names. After an edit of
    the catalogue some may be left over that contradict the new ones: apply with
    `--prune -l app.kubernetes.io/managed-by=podsla`.

    Args:
        offers: What nodes publish; sizes that publish nothing need no overlay.
        price: Also write each size's cost rank as its price, so that Karpenter prefers what we prefer. It replaces the
            cloud's price, in another unit: only for a NodePool all of whose types are exported.
        weight: From 1 to 10,000; the higher wins over other overlays. None leaves it out, which means 0.

    Source:
        karpenter, pkg/apis/v1alpha1/nodeoverlay.go (alpha, feature gate NodeOverlay): capacity adds extended resources
        only; equal weights are settled by name.
    """
    groups: dict[tuple[object, ...], list[NodeOffer]] = {}
    for offer in sorted(offers, key=lambda offer: offer.size.name):
        if offer.capacity or price:
            groups.setdefault((*offer.capacity.items(), offer.size.cost_m if price else None), []).append(offer)
    return [_overlay(group, price=price, weight=weight) for group in groups.values()]


def _overlay(group: list[NodeOffer], *, price: bool, weight: int | None) -> dict[str, Any]:
    first = group[0]
    types = Requirement(INSTANCE_TYPE, "In", tuple(offer.size.name for offer in group))
    spec: dict[str, Any] = {"requirements": [types.as_expression()]}
    if first.capacity:
        spec["capacity"] = _texts(first)
    if price:
        spec["price"] = _price(first.size.cost_m)
    if weight is not None:
        spec["weight"] = weight
    return {
        "apiVersion": "karpenter.sh/v1alpha1",
        "kind": "NodeOverlay",
        "metadata": {"name": f"podsla-{first.size.name}", "labels": dict(MANAGED_BY)},
        "spec": spec,
    }


def _texts(offer: NodeOffer) -> dict[str, str]:
    return {resource: str(figure) for resource, figure in offer.capacity.items()}


def _price(cost_m: int) -> str:
    """Write thousandths as a decimal: 4000 is "4", 4250 is "4.25"."""
    whole, part = divmod(cost_m, 1000)
    return f"{whole}.{part:03}".rstrip("0").rstrip(".")


def cluster_autoscaler(offers: Iterable[NodeOffer], provider: Provider, *, startup_taint: bool) -> list[dict[str, Any]]:
    """
    Write, per instance type, what its scaling group must say: one group per type, since of a mixed group
    cluster-autoscaler reads the first type alone (AWS) or the smallest figures (ACK).

    Args:
        offers: What nodes publish.
        provider: Who reads the tags.
        startup_taint: Let nodes register with a taint that goes once their capacity stands. The autoscaler counts such
            a node as still starting, with what its tags say; without the taint it sees a ready node that has no
            `podsla.io/pps` and adds another. The controller takes the taint away again, if manifests/components/
            cluster-autoscaler gives it the right; DaemonSets that must run before that need a toleration.

    Returns:
        Per type: `tags` of the scaling group, and the `labels` and `taints` that nodes must register with: tags tell
        the autoscaler what nodes will have, and give the nodes nothing.

    Source:
        kubernetes/autoscaler, cloudprovider/aws/README.md and utils/taints; ACK, "FAQ about node auto scaling" (custom
        resources). The upstream alicloud provider reads no resource from tags, so only ACK's own autoscaler works.
    """
    return [
        _node_group(offer, _TAGS[provider], startup_taint=startup_taint)
        for offer in sorted(offers, key=lambda offer: offer.size.name)
    ]


def _node_group(offer: NodeOffer, spelling: _Tags, *, startup_taint: bool) -> dict[str, Any]:
    tags = {f"{spelling.resource}{resource}": text for resource, text in _texts(offer).items()}
    if spelling.label:
        tags |= {f"{spelling.label}{key}": text for key, text in offer.labels.items()}
    if spelling.taint and startup_taint:
        tags[f"{spelling.taint}{STARTUP_TAINT}"] = "true:NoSchedule"
    group: dict[str, Any] = {"instanceType": offer.size.name, "tags": tags, "labels": dict(offer.labels)}
    if startup_taint:
        group["taints"] = [{"key": STARTUP_TAINT, "value": "true", "effect": "NoSchedule"}]
    return group

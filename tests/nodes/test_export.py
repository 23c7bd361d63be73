"""What autoscalers are told of nodes that do not exist yet."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.dimension import DIMENSIONS
from catalog.model import SandboxSize
from catalog.reader import make_catalog
from catalog.target import Target
from nodes.export import Provider, cluster_autoscaler, karpenter
from nodes.offer import node_offer, offers

TARGET = Target("shared", capacity_percent=95)


def size(name: str, pps: int | None, cost_m: int = 4000) -> SandboxSize:
    """Make a size that publishes packets/s at most."""
    figures = (4000, 8 << 30, 2700, pps, 4, None, None, None, None)
    return SandboxSize(name, name.rpartition(".")[0], 7, figures, cost_m)


def overlay(name: str, types: list[str], **spec: Any) -> dict[str, Any]:
    """Write the overlay that is expected."""
    requirement = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": types}
    return {
        "apiVersion": "karpenter.sh/v1alpha1",
        "kind": "NodeOverlay",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "podsla"}},
        "spec": {"requirements": [requirement], **spec},
    }


THREE = [node_offer(size("c7.l", 1_000_000), TARGET), node_offer(size("a7.l", 2_000_000, 4250), TARGET)]
THREE.append(node_offer(size("b7.l", 1_000_000, 8000), TARGET))
BLANK = node_offer(size("z.l", None), TARGET)


def test_types_that_offer_the_same_share_an_overlay() -> None:
    """Named after the first of them; a type that publishes nothing needs none."""
    assert karpenter([*THREE, BLANK]) == [
        overlay("podsla-a7.l", ["a7.l"], capacity={"podsla.io/pps": "1900000"}),
        overlay("podsla-b7.l", ["b7.l", "c7.l"], capacity={"podsla.io/pps": "950000"}),
    ]


def test_a_price_parts_types_of_another_cost() -> None:
    """Every type has a price then, also one that publishes nothing: Karpenter compares all of them."""
    assert karpenter([*THREE, BLANK], price=True, weight=10) == [
        overlay("podsla-a7.l", ["a7.l"], capacity={"podsla.io/pps": "1900000"}, price="4.25", weight=10),
        overlay("podsla-b7.l", ["b7.l"], capacity={"podsla.io/pps": "950000"}, price="8", weight=10),
        overlay("podsla-c7.l", ["c7.l"], capacity={"podsla.io/pps": "950000"}, price="4", weight=10),
        overlay("podsla-z.l", ["z.l"], price="4", weight=10),
    ]


LABELS = {
    "podsla.io/base-mhz": "2700",
    "podsla.io/family": "c7",
    "podsla.io/generation": "7",
    "podsla.io/nic-queues": "4",
    "podsla.io/node-size": "c7.l",
}
TAINT = {
    "key": "startup-taint.cluster-autoscaler.kubernetes.io/podsla-capacity",
    "value": "true",
    "effect": "NoSchedule",
}
PREFIX = "k8s.io/cluster-autoscaler/node-template"


@pytest.mark.parametrize(
    ("provider", "startup_taint", "tags"),
    [
        pytest.param(
            Provider.AWS,
            True,
            {
                f"{PREFIX}/resources/podsla.io/pps": "950000",
                **{f"{PREFIX}/label/{key}": text for key, text in LABELS.items()},
                f"{PREFIX}/taint/{TAINT['key']}": "true:NoSchedule",
            },
            id="on AWS tags say resources, labels and taints",
        ),
        pytest.param(
            Provider.AWS,
            False,
            {
                f"{PREFIX}/resources/podsla.io/pps": "950000",
                **{f"{PREFIX}/label/{key}": text for key, text in LABELS.items()},
            },
            id="no taint is told that nodes do not have",
        ),
        pytest.param(
            Provider.ACK,
            True,
            {f"{PREFIX}/resource/podsla.io/pps": "950000"},
            id="on ACK tags say resources, the node pool itself the rest",
        ),
    ],
)
def test_a_scaling_group_says_what_its_nodes_will_have(
    provider: Provider, startup_taint: bool, tags: dict[str, str]
) -> None:
    """Labels and taints stand beside the tags, since tags give nodes nothing."""
    group: dict[str, Any] = {"instanceType": "c7.l", "tags": tags, "labels": LABELS}
    if startup_taint:
        group["taints"] = [TAINT]

    assert cluster_autoscaler([THREE[0]], provider, startup_taint=startup_taint) == [group]


def test_no_tag_is_longer_than_a_cloud_allows() -> None:
    """AWS and Alibaba Cloud take keys of up to 128 characters; Alibaba Cloud up to 20 tags on one instance."""
    whole = (4000, 8 << 30, *[1_000_000] * (len(DIMENSIONS) - 2))
    offer = node_offer(SandboxSize("c7.l", "c7", 7, whole, 4000), TARGET)

    for provider in Provider:
        (group,) = cluster_autoscaler([offer], provider, startup_taint=True)
        assert len(group["tags"]) <= 20
        assert max(map(len, group["tags"])) <= 128


figures = st.sampled_from([None, 1, 1000, 999_999, 10**12])


@given(table=st.lists(st.tuples(*[figures] * 7), max_size=12), price=st.booleans(), shuffle=st.randoms())
def test_an_export_tells_of_each_node_what_it_will_publish(
    table: list[tuple[int | None, ...]], price: bool, shuffle: Any
) -> None:
    """Each type stands in one overlay at most; summed over types, overlays and tags are what nodes offer."""
    sizes = [SandboxSize(f"s{n}.l", "s", 1, (2000, 1 << 32, *row), 1000 * n + 1) for n, row in enumerate(table)]
    found = list(offers(make_catalog(sizes, []), TARGET))
    expected = sum((Counter(dict(offer.capacity)) for offer in found), Counter[str]())
    mixed = shuffle.sample(found, len(found))

    overlays = karpenter(mixed, price=price)
    groups = cluster_autoscaler(mixed, Provider.AWS, startup_taint=False)

    types = [name for o in overlays for name in o["spec"]["requirements"][0]["values"]]
    assert len(types) == len(set(types))
    assert overlays == karpenter(found, price=price)
    assert total_of_overlays(overlays) == expected
    assert total_of_tags(groups) == expected


def total_of_overlays(overlays: list[dict[str, Any]]) -> Counter[str]:
    """Sum capacities over instance types."""
    total = Counter[str]()
    for o in overlays:
        for resource, text in o["spec"].get("capacity", {}).items():
            total[resource] += int(text) * len(o["spec"]["requirements"][0]["values"])
    return +total


def total_of_tags(groups: list[dict[str, Any]]) -> Counter[str]:
    """Sum resource tags over scaling groups."""
    total = Counter[str]()
    for group in groups:
        for key, text in group["tags"].items():
            if key.startswith(f"{PREFIX}/resources/"):
                total[key.removeprefix(f"{PREFIX}/resources/")] += int(text)
    return +total

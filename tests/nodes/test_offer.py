"""What nodes publish is what the decision counts with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.dimension import DIMENSIONS, RESERVABLE
from catalog.model import Catalog, SandboxSize, SizeGpu
from catalog.reader import make_catalog
from catalog.target import Target, TargetGpu
from nodes.offer import UnknownSizeError, node_offer, offers

C7 = SandboxSize(
    name="ecs.c7.xlarge",
    family="ecs.c7",
    generation=7,
    figures=(4000, 8 << 30, 2700, 1_000_000, 4, 1_500_000_000, 30_000, 187_500_000, None),
    cost_m=4000,
)
GN6I = SandboxSize(
    name="ecs.gn6i-c4g1.xlarge",
    family="ecs.gn6i",
    generation=6,
    figures=(4000, 15 << 30, 2500, 2_500_000, 2, None, None, None, 3),
    cost_m=68_000,
    gpu=SizeGpu("T4"),
)
BARE = SandboxSize("old.large", "old", None, (2000, 4 << 30, *[None] * 7), 2000)
TARGET = Target("shared", capacity_percent=95, gpu=TargetGpu("nvidia.com/gpu", "model", seats_percent=140))
CATALOG = make_catalog([C7, GN6I, BARE], [])


def test_divisible_figures_become_capacity_and_the_others_labels() -> None:
    """The share that nodes publish is the target's; frequency and queues cannot be divided."""
    offer = node_offer(C7, TARGET)

    assert offer.capacity == {
        "podsla.io/disk-bytes-per-second": 178_125_000,
        "podsla.io/disk-iops": 28_500,
        "podsla.io/network-bits-per-second": 1_425_000_000,
        "podsla.io/pps": 950_000,
    }
    assert offer.labels == {
        "podsla.io/base-mhz": "2700",
        "podsla.io/family": "ecs.c7",
        "podsla.io/generation": "7",
        "podsla.io/nic-queues": "4",
        "podsla.io/node-size": "ecs.c7.xlarge",
    }


def test_seats_are_whole_and_rounded_down() -> None:
    """Three GPUs at 140 % are 4.2 seats: nobody sits on a fifth of one."""
    assert node_offer(GN6I, TARGET).capacity == {"podsla.io/gpu-seats": 4, "podsla.io/pps": 2_375_000}


def test_a_target_without_gpu_gives_no_seats() -> None:
    """Seats are for borrowers, and nobody could borrow here."""
    assert node_offer(GN6I, Target("plain")).capacity == {"podsla.io/pps": 2_500_000}


def test_a_figure_that_nobody_published_is_left_out() -> None:
    """Not 0, which would be a promise of nothing."""
    offer = node_offer(BARE, TARGET)

    assert offer.capacity == {}
    assert offer.labels == {"podsla.io/family": "old", "podsla.io/node-size": "old.large"}


@pytest.mark.parametrize(
    ("node_types", "only", "expected"),
    [
        pytest.param((), (), ["ecs.c7.xlarge", "ecs.gn6i-c4g1.xlarge", "old.large"], id="no limit: every size"),
        pytest.param(("ecs.c7", "old.large"), (), ["ecs.c7.xlarge", "old.large"], id="node types limit the sizes"),
        pytest.param((), ("ecs.gn6i",), ["ecs.gn6i-c4g1.xlarge"], id="a family may be picked"),
        pytest.param(("ecs.c7", "old"), ("old.large",), ["old.large"], id="a size may be picked among node types"),
    ],
)
def test_offers_are_those_of_this_cluster(
    node_types: tuple[str, ...], only: tuple[str, ...], expected: list[str]
) -> None:
    """Sorted by name, so that output never depends on the order of the catalogue."""
    found = offers(CATALOG, Target("shared", node_types=node_types), only)

    assert [offer.size.name for offer in found] == expected


def test_a_name_that_is_not_here_is_refused_with_the_nearest() -> None:
    """A typo must not give an empty export."""
    with pytest.raises(UnknownSizeError) as caught:
        offers(CATALOG, TARGET, ["ecs.c8"])

    assert str(caught.value) == ("'ecs.c8' is no size or family on target 'shared'; did you mean ecs.c7?")


figures = st.tuples(
    st.integers(1, 256_000), st.integers(1, 1 << 42), *[st.none() | st.integers(1, 10**12)] * (len(DIMENSIONS) - 2)
)


@given(figures=figures, percent=st.integers(1, 100))
def test_nodes_publish_exactly_what_the_decision_counts(figures: tuple[int | None, ...], percent: int) -> None:
    """Published capacity is Target.offer, figure by figure, and nothing else."""
    size = SandboxSize("s.large", "s", 1, figures, 1000)
    target = Target("any", capacity_percent=percent)
    catalog: Catalog = make_catalog([size], [])

    published = offers(catalog, target)[0].capacity

    offered = target.offer(size)
    assert {d: published.get(str(d.resource)) for d in RESERVABLE} == {d: offered[d.index] for d in RESERVABLE}
    assert len(published) == sum(offered[d.index] is not None for d in RESERVABLE)

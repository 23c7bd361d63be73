"""The nodes that kwok plays, before anything is created."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from catalog.dimension import DIMENSIONS, MEMORY, VCPU
from catalog.load import SHIPPED_CATALOG, load_catalog, load_target
from catalog.model import SandboxSize
from catalog.quantity import parse_cpu_m, parse_integer
from tests.cluster.nodes import DAEMONS, SIZES, nodes

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
TARGET = load_target("kubernetes")
CATALOG = load_catalog([SHIPPED_CATALOG])
TWELVE = nodes(12, CATALOG, TARGET)


def size_of(node: Mapping[str, Any]) -> SandboxSize:
    """Find the size that a node is of."""
    return next(size for size in CATALOG.sizes if size.name == node["metadata"]["labels"][INSTANCE_TYPE])


def test_twelve_nodes_are_of_twelve_families_and_floor_every_dimension() -> None:
    """Whatever a class asks for, some node has it."""
    sizes = [size_of(node) for node in TWELVE]

    assert len({size.family for size in sizes}) == 12
    assert all(any(size.figures[dimension.index] for size in sizes) for dimension in DIMENSIONS)
    assert {size.gpu.model for size in sizes if size.gpu} == {"T4", "A10", "V100"}


def test_further_nodes_begin_the_row_anew_under_other_names() -> None:
    """A thousand nodes are as many of each size, and each has a name of its own."""
    made = nodes(25, CATALOG, TARGET)

    assert len({node["metadata"]["name"] for node in made}) == 25
    assert Counter(node["metadata"]["labels"][INSTANCE_TYPE] for node in made) == {
        **dict.fromkeys(SIZES, 2),
        SIZES[0]: 3,
    }


@pytest.mark.parametrize("node", TWELVE, ids=[node["metadata"]["name"] for node in TWELVE])
def test_a_node_offers_a_little_more_than_its_size_is_counted_with(node: Mapping[str, Any]) -> None:
    """Below capacity by what the kubelet keeps; DaemonSets and all that the target counts on still fit."""
    size, status = size_of(node), node["status"]
    free_m = parse_cpu_m(status["allocatable"]["cpu"]) - sum(parse_cpu_m(cpu) for cpu, _ in DAEMONS.values())
    free_bytes = parse_integer(status["allocatable"]["memory"])
    free_bytes -= sum(parse_integer(memory) for _, memory in DAEMONS.values())
    counted = TARGET.offer(size)

    assert (counted[VCPU.index] or 0) < free_m < (size.figures[VCPU.index] or 0)
    assert (counted[MEMORY.index] or 0) < free_bytes < (size.figures[MEMORY.index] or 0)
    assert parse_cpu_m(status["capacity"]["cpu"]) == size.figures[VCPU.index]
    assert parse_integer(status["capacity"]["memory"]) == size.figures[MEMORY.index]


def test_gpu_nodes_are_labelled_as_the_target_spells_models() -> None:
    """A pod that is placed by model finds them."""
    labels = {
        node["metadata"]["labels"]["nvidia.com/gpu.product"]: node["status"]["allocatable"]["nvidia.com/gpu"]
        for node in TWELVE
        if "nvidia.com/gpu" in node["status"]["allocatable"]
    }

    assert labels == {"Tesla-T4": "1", "NVIDIA-A10": "1", "Tesla-V100-SXM2-16GB": "4"}

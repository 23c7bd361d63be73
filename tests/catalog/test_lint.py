"""What a catalogue cannot do on one cluster, though it is right by itself."""

from collections.abc import Sequence

import pytest

from catalog.lint import LintReason, Severity, lint
from catalog.load import load_target, shipped_targets
from catalog.model import Catalog
from catalog.reader import read_catalog
from catalog.target import Target
from catalog.target_reader import read_target
from catalog.yamltext import parse_documents

SIZES = """
  - {name: ecs.c7.xlarge, vcpu: 4, memory: 8Gi, generation: 7, cpu: {baseMHz: 2700},
     network: {pps: 1000000, queues: 4, bitsPerSecond: 1500M}, disk: {iops: 30000}}
  - {name: ecs.c7.2xlarge, vcpu: 8, memory: 16Gi, generation: 7, cpu: {baseMHz: 2700},
     network: {pps: 2000000, queues: 8, bitsPerSecond: 2500M}, disk: {iops: 45000}}
  - {name: ecs.gn6i.xlarge, vcpu: 4, memory: 15Gi, generation: 6, cpu: {baseMHz: 2500},
     network: {pps: 2500000, queues: 2}, gpu: {model: T4, count: 1}}
  - {name: ecs.gn7i.xlarge, vcpu: 4, memory: 15Gi, generation: 7, cpu: {baseMHz: 2900},
     network: {pps: 1600000, queues: 8}, gpu: {model: A10, count: 1}}
"""
CONSUMERS = "consumers: [{by: node-labels}, {by: reservation}]"


def catalog(*classes: str) -> Catalog:
    """Read the four sizes and *classes*."""
    listed = "".join(f"\n  - {c}" for c in classes) or " []"
    head = "apiVersion: podsla.io/v1beta1\nkind: SpecCatalog\nmetadata: {name: platform}\nspec:"
    return read_catalog(parse_documents(f"{head}\n  sizes:{SIZES}  classes:{listed}\n", "catalog.yaml"))


def target(*spec: str) -> Target:
    """Read a target of shared nodes."""
    head = "apiVersion: podsla.io/v1beta1\nkind: Target\nmetadata: {name: shared}\nspec:"
    fields = "".join(f"\n  {field}" for field in (spec or (CONSUMERS,)))
    return read_target(parse_documents(f"{head}{fields}\n", "target.yaml"))


GPU_TARGET = (CONSUMERS, "gpu: {resource: nvidia.com/gpu, modelLabel: model, models: {T4: [Tesla-T4]}}")
OVERHEAD = "nodeOverhead: {vcpu: 100m, memory: 1Gi}"


@pytest.mark.parametrize(
    ("classes", "spec", "expected"),
    [
        pytest.param(
            ["{name: web, description: x, floor: {network: {pps: 600000}}}"], [CONSUMERS], [], id="all is well"
        ),
        pytest.param(
            ["{name: web}"],
            [CONSUMERS],
            ["warning: class web: description: is missing; say what the class is for (NoDescription)"],
            id="a class does not say what it is for",
        ),
        pytest.param(
            ["{name: big, description: x, floor: {vcpu: 8}}"],
            [CONSUMERS, OVERHEAD],
            [
                "error: class big: floor.vcpu: the floor is 8, and the most that a node of target 'shared' offers is "
                "7900m (ecs.c7.2xlarge, published 8); lower the floor, or allow larger sizes: nodeOverhead is the "
                "node's own (NoSizeHolds)"
            ],
            id="the node's own share makes a floor impossible",
        ),
        pytest.param(
            ["{name: net, description: x, floor: {network: {pps: 2500000}}}"],
            [CONSUMERS, "capacityPercent: 90"],
            [
                "error: class net: floor.network.pps: the floor is 2500k, and the most that a node of target 'shared' "
                "offers is 2250k (ecs.gn6i.xlarge, published 2500k); lower the floor, or raise capacityPercent "
                "(NoSizeHolds)"
            ],
            id="the share that nodes publish makes a floor impossible",
        ),
        pytest.param(
            ["{name: fast, description: x, floor: {cpu: {baseMHz: 2900}}}"],
            [CONSUMERS, "nodeTypes: [ecs.c7]"],
            [
                "error: class fast: floor.cpu.baseMHz: the floor is 2900, and the most that a node of target 'shared' "
                "offers is 2700 (ecs.c7.xlarge, published 2700); lower the floor, or add sizes to the target's "
                "nodeTypes (NoSizeHolds)"
            ],
            id="the node types are all too slow",
        ),
        pytest.param(
            ["{name: both, description: x, floor: {cpu: {baseMHz: 2900}, network: {pps: 1500000}}}"],
            [CONSUMERS, "capacityPercent: 90"],
            [
                "error: class both: floor: no one size on target 'shared' holds all of it; ecs.gn6i.xlarge comes "
                "closest with cpu.baseMHz 2500 of 2900; lower the floor, or add sizes to its nodeTypes (NoSizeHolds)"
            ],
            id="each figure exists here, but no size has all",
        ),
        pytest.param(
            ["{name: c, description: x, sizes: {families: [ecs.c7]}}"],
            [CONSUMERS, "nodeTypes: [ecs.gn6i]"],
            [
                "error: class c: sizes: target 'shared' has none of the 2 sizes that may serve it; add one of "
                "ecs.c7.xlarge, ecs.c7.2xlarge to its nodeTypes (NoNodeType)"
            ],
            id="the cluster has none of the class's sizes",
        ),
        pytest.param(
            ["{name: c, description: x, sizes: {families: [ecs.c7]}, fallback: [any]}", "{name: any, description: x}"],
            [CONSUMERS, "nodeTypes: [ecs.gn6i]"],
            [
                "warning: class c: sizes: target 'shared' has none of the 2 sizes that may serve it; add one of "
                "ecs.c7.xlarge, ecs.c7.2xlarge to its nodeTypes; until then fallback 'any' serves every pod of it "
                "(NoNodeType)"
            ],
            id="a fallback that serves makes it a warning",
        ),
        pytest.param(
            ["{name: disk, description: x, floor: {disk: {iops: 1000}}}"],
            ["consumers: [{by: node-labels}]"],
            [
                "error: class disk: floor.disk.iops: the floor is 1k, and nobody on target 'shared' keeps it; add a "
                "consumer to the target, or list it in bestEffort (NoConsumer)"
            ],
            id="nobody keeps a floor",
        ),
        pytest.param(
            ["{name: disk, description: x, floor: {disk: {iops: 1000}}, bestEffort: [disk.iops]}"],
            ["consumers: [{by: node-labels}]"],
            [
                "warning: class disk: floor.disk.iops: the floor is 1k, best effort, and nobody on target 'shared' "
                "keeps it: dropped from every pod (FloorDropped)"
            ],
            id="a best-effort floor that nobody keeps is dropped",
        ),
        pytest.param(
            ["{name: disk, description: x, floor: {disk: {iops: 45000}}, bestEffort: [disk.iops]}"],
            ["consumers: [{by: node-labels}]", "capacityPercent: 90"],
            [
                "warning: class disk: floor.disk.iops: the floor is 45k, best effort, and nobody on target 'shared' "
                "keeps it: dropped from every pod (FloorDropped)"
            ],
            id="a floor that is dropped need not be held",
        ),
        pytest.param(
            ["{name: disk, description: x, tunable: {disk.iops: {max: 45000}}}"],
            ["consumers: [{by: node-labels}]"],
            [
                "warning: class disk: tunable.disk.iops: nobody on target 'shared' keeps it, so a pod that sets "
                "podsla.io/min-disk-iops is refused; add a consumer to the target, or list it in bestEffort "
                "(NoConsumer)"
            ],
            id="nobody keeps what pods may ask for",
        ),
        pytest.param(
            ["{name: net, description: x, tunable: {network.pps: {max: 2500000}}}"],
            [CONSUMERS],
            [
                "warning: class net: tunable.network.pps: the maximum is 2500k, and the most that a node of target "
                "'shared' offers is 2375k (ecs.gn6i.xlarge); pods that ask for more are refused: lower it "
                "(TunableBeyondOffer)"
            ],
            id="pods may ask for more than any node offers",
        ),
        pytest.param(
            ["{name: vm, description: x, runtime: rund}"],
            [CONSUMERS],
            [
                "error: class vm: runtime: target 'shared' has no runtime 'rund' (it has runc); add it to its "
                "runtimes (UnknownRuntime)"
            ],
            id="the cluster has no such runtime",
        ),
        pytest.param(
            ["{name: g, description: x, gpu: {models: [A10]}}"],
            GPU_TARGET,
            [
                "error: class g: gpu.models: target 'shared' has no name for A10; add it to the target's gpu.models "
                "(UnknownGpuModel)"
            ],
            id="the cluster has no name for the model",
        ),
        pytest.param(
            ["{name: g, description: x, gpu: {models: [A10, T4]}}"],
            GPU_TARGET,
            [
                "warning: class g: gpu.models: target 'shared' has no name for A10, so no pod of the class runs on "
                "one; add it to the target's gpu.models (UnknownGpuModel)"
            ],
            id="the cluster has a name for one of two models",
        ),
        pytest.param(
            ["{name: g, description: x, gpu: {models: [A10]}}"],
            [*GPU_TARGET, "nodeTypes: [ecs.gn7i]"],
            [],
            id="node types name the model as well",
        ),
        pytest.param(
            ["{name: g, description: x, gpu: {}}"],
            [CONSUMERS],
            [
                "error: class g: gpu.models: target 'shared' has no name for a GPU of any model; add it to the "
                "target's gpu.models (UnknownGpuModel)"
            ],
            id="the cluster knows of no GPU at all",
        ),
        pytest.param(
            ["{name: whole, description: x, reserve: size, sizes: {families: [ecs.c7]}}"],
            [CONSUMERS, OVERHEAD],
            [
                "warning: class whole: sizes: pods get whole sizes, and no node of target 'shared' has room for 1 of "
                "2 (ecs.c7.2xlarge); a pod of ecs.c7.2xlarge gets vcpu 7900m of 8, memory 15Gi of 16Gi (SizeNotWhole)"
            ],
            id="the largest size fits on no node whole, the smaller one on the larger node",
        ),
        pytest.param(
            ["{name: whole, description: x, reserve: size}"],
            [CONSUMERS, OVERHEAD, "virtualNodes: true"],
            [],
            id="a virtual node gives every pod a machine of its own",
        ),
        pytest.param(
            [],
            [CONSUMERS, "nodeTypes: [ecs.c7, ecs.gn6e]"],
            [
                "warning: target shared: nodeTypes: 'ecs.gn6e' is no size and no family of the catalogue; did you "
                "mean ecs.gn6i or ecs.gn7i? (UnknownNodeType)"
            ],
            id="a node type that no catalogue names",
        ),
    ],
)
def test_lint(classes: Sequence[str], spec: Sequence[str], expected: Sequence[str]) -> None:
    """Each finding names the field, both figures, and what to do."""
    assert list(map(str, lint(catalog(*classes), target(*spec)))) == expected


def test_sizes_of_two_architectures_are_pointed_out() -> None:
    """Nothing keeps an image from the wrong one."""
    arm = SIZES.replace("{name: ecs.c7.2xlarge,", "{name: ecs.c7.2xlarge, arch: arm64,")
    head = "apiVersion: podsla.io/v1beta1\nkind: SpecCatalog\nmetadata: {name: platform}\nspec:"
    text = f"{head}\n  sizes:{arm}  classes: [{{name: web, description: x}}]\n"
    found = lint(read_catalog(parse_documents(text, "catalog.yaml")), target())

    assert arm != SIZES
    assert list(map(str, found)) == [
        "warning: class web: sizes: sizes of amd64 and arm64 serve the class, and nothing keeps an image from the "
        "wrong one; list families of one, or give pods a nodeSelector kubernetes.io/arch (MixedArch)"
    ]


def test_errors_stand_first_and_the_rest_by_subject() -> None:
    """The order depends on nothing but the findings."""
    found = lint(catalog("{name: b}", "{name: a}", "{name: c, runtime: rund}"), target())

    assert [(f.severity, f.subject, f.reason) for f in found] == [
        (Severity.ERROR, "class c", LintReason.UNKNOWN_RUNTIME),
        (Severity.WARNING, "class a", LintReason.NO_DESCRIPTION),
        (Severity.WARNING, "class b", LintReason.NO_DESCRIPTION),
        (Severity.WARNING, "class c", LintReason.NO_DESCRIPTION),
    ]


@pytest.mark.parametrize("name", sorted(shipped_targets()))
def test_a_class_that_floors_nothing_is_right_on_every_shipped_target(name: str) -> None:
    """A shipped target by itself gives no reason to complain."""
    assert lint(catalog("{name: any, description: x}"), load_target(name)) == ()

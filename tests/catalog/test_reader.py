"""A catalogue is read whole or not at all, and every problem says what to write instead."""

import pytest

from catalog.dimension import NETWORK_BITS, PPS
from catalog.model import Catalog
from catalog.problems import InvalidError
from catalog.reader import read_catalog
from catalog.yamltext import parse_documents

HEAD = "apiVersion: podsla.io/v1beta1\nkind: SpecCatalog\nmetadata: {name: test}\nspec:\n"
SIZE = "{name: a.large, vcpu: '2', memory: 4Gi, network: {pps: 1M, queues: 2}}"
OTHER = "{name: b.large, vcpu: '2', memory: 4Gi, disk: {iops: 10k}}"


def read(spec: str, *more: str) -> Catalog:
    documents = [parse_documents(HEAD + text, f"{number}.yaml")[0] for number, text in enumerate([spec, *more])]
    return read_catalog(documents)


def problems(spec: str, *more: str) -> list[str]:
    with pytest.raises(InvalidError) as caught:
        read(spec, *more)
    return [str(problem) for problem in caught.value.problems]


def of_class(fields: str, sizes: str = f"{SIZE}, {OTHER}") -> str:
    return f"  sizes: [{sizes}]\n  classes:\n  - {{name: c, {fields}}}\n"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            "  sizes: [{name: a, vcpu: 4, memory: 8Gb}]\n",
            ["0.yaml:5: spec.sizes[0].memory: '8Gb' is not a quantity; write a number with an optional suffix, as 4, 1500M or 8Gi"],
            id="an unknown suffix",
        ),
        pytest.param(
            "  sizes: [{name: a, vcpu: -1, memory: .nan}]\n",
            [
                "0.yaml:5: spec.sizes[0].memory: '.nan' is not a quantity; write a number with an optional suffix, as 4, 1500M or 8Gi",
                "0.yaml:5: spec.sizes[0].vcpu: '-1' is negative; write 0 or more",
            ],
            id="negative, and not a number",
        ),
        pytest.param(
            "  sizes: [{name: a, vcpu: 0, memory: 1e400}]\n",
            [
                "0.yaml:5: spec.sizes[0].memory: '1e400' is beyond 64 bits; the exponent may be 40 at most",
                "0.yaml:5: spec.sizes[0].vcpu: is 0; write 1 or more, or leave it out where the figure is not known",
            ],
            id="zero, and too large",
        ),
        pytest.param(
            "  sizes:\n  - {vcpu: '1', memory: 1Gi, cpu: {baseMhz: 2700}}\n  clases: []\n",
            [
                "0.yaml:6: spec.sizes[0].cpu.baseMhz: is not a field here; did you mean baseMHz?",
                "0.yaml:6: spec.sizes[0].name: is missing; write it",
                "0.yaml:7: spec.clases: is not a field here; did you mean classes?",
            ],
            id="a typo in a field, a missing field",
        ),
        pytest.param(
            of_class("description: 5, fallback: [a, b, c, d, e, f], deprecated: {refuseFrom: soon}, reserve: all"),
            [
                "0.yaml:7: spec.classes[0].deprecated.refuseFrom: 'soon' is not a day; write it as 2027-03-01",
                "0.yaml:7: spec.classes[0].description: must be text, and is 5; put it in quotes",
                "0.yaml:7: spec.classes[0].fallback: has 6 items; 5 at most",
                "0.yaml:7: spec.classes[0].reserve: cannot be 'all'; known are ask, size",
            ],
            id="wrong type, too many, no such word",
        ),
        pytest.param(
            of_class("sizes: {families: [z]}"),
            [
                "0.yaml:7: spec.classes[0].sizes: no size is of these families, names, generations and GPU models; widen them",
                "0.yaml:7: spec.classes[0].sizes.families: 'z' is no family; known are a, b",
            ],
            id="a class that no size can serve",
        ),
        pytest.param(
            of_class("floor: {network: {pps: 2M}}"),
            ["0.yaml:7: spec.classes[0].floor.network.pps: network.pps is 2M, and the best allowed size has 1M; lower it or allow other sizes"],
            id="a floor above every size",
        ),
        pytest.param(
            of_class("floor: {disk: {iops: 1k}}, sizes: {families: [a]}"),
            ["0.yaml:7: spec.classes[0].floor.disk.iops: none of the 1 allowed sizes publishes disk.iops; drop the floor"],
            id="a floor that all allowed sizes leave blank",
        ),
        pytest.param(
            of_class("floor: {disk: {iops: 1k}, network: {pps: 1k}}"),
            ["0.yaml:7: spec.classes[0].floor: no one size holds all of it; a.large comes closest and lacks disk.iops"],
            id="floors that no one size has together",
        ),
        pytest.param(
            of_class("tunable: {network.pps: {max: 3M}, pps: {}, disk.iops: {max: lots}}"),
            [
                "0.yaml:7: spec.classes[0].tunable.pps: is not a tunable dimension; did you mean network.pps?",
                "0.yaml:7: spec.classes[0].tunable['disk.iops'].max: 'lots' is not a quantity; write a number with an optional suffix, as 4, 1500M or 8Gi",
                "0.yaml:7: spec.classes[0].tunable['network.pps'].max: 3M is above every allowed size (best: 1M); lower it to what exists",
            ],
            id="tunables that are none",
        ),
        pytest.param(
            of_class("tunable: {network.pps: {max: 3M}}"),
            ["0.yaml:7: spec.classes[0].tunable['network.pps'].max: 3M is above every allowed size (best: 1M); lower it to what exists"],
            id="a tunable above every size",
        ),
        pytest.param(
            of_class("fallback: [d]") + "  - {name: d, fallback: [c]}\n  - {name: e, fallback: [x]}\n",
            [
                "0.yaml:7: spec.classes[0].fallback: comes back to the class itself: c → d → c; remove one of them",
                "0.yaml:8: spec.classes[1].fallback: comes back to the class itself: d → c → d; remove one of them",
                "0.yaml:9: spec.classes[2].fallback: 'x' is no class; known are c, d, e",
            ],
            id="fallbacks in a circle, and to nowhere",
        ),
        pytest.param(
            f"  sizes: [{SIZE}, {SIZE}]\n",
            ["0.yaml:5: spec.sizes[1].name: 'a.large' is defined at 0.yaml:5 already; rename or remove one"],
            id="a size twice in one file",
        ),
        pytest.param(
            of_class("gpu: {models: [T5]}"),
            [
                "0.yaml:7: spec.classes[0].gpu.models: 'T5' is no GPU model of any size; there is none",
                "0.yaml:7: spec.classes[0].sizes: no size is of these families, names, generations and GPU models; widen them",
            ],
            id="a GPU model that no size has",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_and_what_to_write(spec: str, expected: list[str]) -> None:
    assert problems(spec) == expected


def test_one_run_names_faults_of_form_and_of_meaning() -> None:
    classes = "\n  - {name: d, floor: {network: {pps: 2M}}, fallback: [c, x]}\n"

    assert problems(of_class("reserve: all") + classes[1:]) == [
        "0.yaml:7: spec.classes[0].reserve: cannot be 'all'; known are ask, size",
        "0.yaml:8: spec.classes[1].fallback: 'x' is no class; known are c, d",
        "0.yaml:8: spec.classes[1].floor.network.pps: network.pps is 2M, and the best allowed size has 1M; lower it or allow other sizes",
    ]


def test_a_faulty_size_makes_no_further_problems() -> None:
    assert problems(of_class("sizes: {families: [z]}", sizes="{name: z.large, vcpu: '2', memory: 4Gb}")) == [
        "0.yaml:5: spec.sizes[0].memory: '4Gb' is not a quantity; write a number with an optional suffix, as 4, 1500M or 8Gi"
    ]


def test_a_name_taken_by_another_catalogue_is_refused() -> None:
    spec = f"  sizes: [{SIZE}]\n"

    assert problems(spec, spec.replace("1M", "2M")) == [
        "1.yaml:5: spec.sizes[0].name: 'a.large' is defined at 0.yaml:5 already with other figures; rename or remove one"
    ]


def test_the_same_definition_in_two_catalogues_is_no_conflict() -> None:
    spec = of_class("description: moving")

    assert read(spec, spec).revision == read(spec).revision


def test_the_revision_is_of_what_is_meant_not_of_how_it_is_written() -> None:
    one = read("  sizes: [{name: a, vcpu: '2', memory: 4Gi}, {name: b, vcpu: 1500m, memory: 1024Mi}]\n")
    other = read(
        "  sizes:\n  - {memory: 1Gi, name: b, vcpu: '1.5', arch: amd64}\n  - {memory: 4096Mi, vcpu: 2000m, name: a}\n"
    )

    assert one == other


def test_a_blank_figure_is_unknown_and_a_burst_is_no_promise() -> None:
    size = read("  sizes: [{name: a, vcpu: '2', memory: 4Gi, network: {burstBitsPerSecond: 10G}}]\n").sizes[0]

    assert size.figures[PPS.index] is None
    assert size.figures[NETWORK_BITS.index] is None
    assert size.shown == (("network.burstBitsPerSecond", 10_000_000_000),)


def test_a_figure_that_a_unit_would_round_is_a_slip() -> None:
    assert problems("  sizes: [{name: a, vcpu: 1.5Gi, memory: 16, cpu: {baseMHz: 2.5}, network: {pps: 2m}}]\n") == [
        "0.yaml:5: spec.sizes[0].cpu.baseMHz: '2.5' is no whole number of units; m is a thousandth, M a million: write 2500, 2M",
        "0.yaml:5: spec.sizes[0].memory: is 16; write 1048576 or more, or leave it out where the figure is not known",
        "0.yaml:5: spec.sizes[0].network.pps: '2m' is no whole number of units; m is a thousandth, M a million: write 2500, 2M",
        "0.yaml:5: spec.sizes[0].vcpu: '1.5Gi' looks like memory; write vCPUs as 4 or 500m",
    ]


def test_a_tunable_below_the_floor_could_never_be_used() -> None:
    assert problems(of_class("floor: {network: {pps: 300k}}, tunable: {network.pps: {max: 100k}}")) == [
        "0.yaml:7: spec.classes[0].tunable['network.pps'].max: 100k is below the floor of 300k; raise it, or drop the tunable"
    ]


def test_disks_of_the_host_are_said_or_there_are_none() -> None:
    catalog = read("  sizes: [{name: a, vcpu: 1, memory: 1Gi, localDisk: true}, {name: b, vcpu: 2, memory: 4Gi}]\n")

    assert [(size.name, size.local_disk) for size in catalog.sizes] == [("a", True), ("b", False)]
    assert problems("  sizes: [{name: a, vcpu: 1, memory: 1Gi, localDisk: '2'}]\n") == [
        "0.yaml:5: spec.sizes[0].localDisk: must be true or false, and is '2'"
    ]


def test_the_smallest_budget_that_is_for_a_namespace_holds() -> None:
    catalog = read(
        "  gpuBudgets:\n"
        "  - {minutesPerDay: 900}\n"
        "  - {namespaces: {matchLabels: {team: edge}}, minutesPerDay: 600}\n"
        "  - {namespaces: {matchExpressions: [{key: team, operator: Exists}]}, minutesPerDay: 2k}\n"
    )
    assert catalog.gpu_minutes({"team": "edge"}) == 600
    assert catalog.gpu_minutes({"team": "web"}) == 900
    assert catalog.gpu_minutes({}) == 900
    assert read("  classes: []\n").gpu_minutes({}) is None


def test_a_budget_is_part_of_what_a_catalogue_says() -> None:
    one, other = "  gpuBudgets: [{minutesPerDay: 1}, {minutesPerDay: 2}]\n", "  gpuBudgets: [{minutesPerDay: 3}]\n"
    assert read(one).revision == read("  gpuBudgets: [{minutesPerDay: 2}, {minutesPerDay: 1}]\n").revision
    assert len({read(text).revision for text in (one, other, "  classes: []\n")}) == 3
    assert read(other, one.replace("name: test", "name: more")).gpu_minutes({}) == 1
    assert problems("  gpuBudgets: [{minutesPerDay: 0}, {minutes: 5}]\n") == [
        "0.yaml:5: spec.gpuBudgets[0].minutesPerDay: "
        "is 0; write 1 or more, or leave it out where the figure is not known",
        "0.yaml:5: spec.gpuBudgets[1].minutes: is not a field here; did you mean minutesPerDay?",
        "0.yaml:5: spec.gpuBudgets[1].minutesPerDay: is missing; write it",
    ]

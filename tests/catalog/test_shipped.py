"""What is shipped is what was published, and the shipped classes can be had."""

import csv
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from catalog.dimension import BY_PATH, MEMORY, NOTHING, VCPU, Ask
from catalog.fit import Choice, compile_index
from catalog.importers import IMPORTERS, render_catalog
from catalog.load import SHIPPED_CATALOG, load_catalog, load_target, shipped_targets
from catalog.model import Catalog, Reserve, SizeFilter, SlaClass
from catalog.pod import read_pod
from catalog.reader import make_catalog
from catalog.target import Target
from webhook.decide import decide
from webhook.decision import Place

SHARED_OR_BURSTABLE = {"ecs.t5", "ecs.t6", "ecs.e4", "ecs.xn4", "ecs.n4", "ecs.mn4", "ecs.v5"}
CLASSES = (
    "batch",
    "disk-intensive",
    "general",
    "gpu-inference",
    "gpu-on-demand",
    "high-frequency",
    "net-intensive",
    "whole-sandbox",
)


@pytest.fixture(scope="module")
def shipped() -> Catalog:
    return load_catalog([SHIPPED_CATALOG])


def test_the_shipped_sizes_are_the_published_rows_byte_for_byte(shared_data: Path) -> None:
    """After a change of the importer: write what it renders to the shipped file, and read the difference."""
    ecs = IMPORTERS["ecs"]
    with (shared_data / "catalogs" / "ecs-instance-types.csv").open(newline="", encoding="utf-8") as stream:
        text = render_catalog(ecs.read(csv.DictReader(stream), "ecs", "ecs.csv"), ecs.header)
    assert text == (SHIPPED_CATALOG / "ecs.yaml").read_text(encoding="utf-8")


def test_every_family_of_the_shipped_sizes_names_its_source(shipped: Catalog) -> None:
    text = (SHIPPED_CATALOG / "ecs.yaml").read_text(encoding="utf-8")
    assert len(shipped.sizes) == 718
    for family in {size.family for size in shipped.sizes}:
        assert f"  - {{family: {family}, snapshot: " in text


GENERATION_7 = frozenset({"ecs.c7", "ecs.g7", "ecs.r7"})
FIGURES_OF_THE_TABLE = (
    "cpu.baseMHz",
    "network.pps",
    "network.queues",
    "network.bitsPerSecond",
    "disk.iops",
    "disk.bytesPerSecond",
)


def fully_published(catalog: Catalog) -> frozenset[str]:
    """The names of the sizes that publish all six figures."""
    rows = [BY_PATH[path].index for path in FIGURES_OF_THE_TABLE]
    return frozenset(s.name for s in catalog.sizes if all(s.figures[index] is not None for index in rows))


def choose(catalog: Catalog, sizes: SizeFilter, floor: Mapping[str, int]) -> Choice | None:
    """Choose for 4 vCPU, 8 GiB and *floor*, where nodes offer what is printed."""
    ask = list(NOTHING)
    ask[VCPU.index], ask[MEMORY.index] = 4000, 8 << 30
    for path, figure in floor.items():
        ask[BY_PATH[path].index] = figure
    sla_class = SlaClass("asked", "test", sizes=sizes)
    index = compile_index(make_catalog(catalog.sizes, [sla_class]), Target("bare", capacity_percent=100))
    wanted: Ask = tuple(ask)
    return index.choose(sla_class, wanted)


def vcpu_of(choice: Choice | None) -> int | None:
    return None if choice is None else (choice.size.figures[VCPU.index] or 0) // 1000


@pytest.mark.parametrize(
    ("floor", "generation_7", "every_family"),
    [
        pytest.param({}, 4, 4, id="nothing more asked: 4 vCPU hold it"),
        pytest.param({"network.pps": 1_000_000}, 4, 4, id="1 M packets a second cost nothing more"),
        pytest.param({"cpu.baseMHz": 3000}, None, 4, id="3.0 GHz: impossible in generation 7, 4 vCPU elsewhere"),
        pytest.param({"network.pps": 1_500_000}, 8, 8, id="1.5 M packets a second are paid in vCPU everywhere"),
        pytest.param({"network.queues": 8}, 8, 8, id="8 NIC queues are paid in vCPU everywhere"),
        pytest.param({"network.pps": 2_000_000}, 12, 12, id="2 M packets a second take 12 vCPU"),
        pytest.param({"disk.iops": 50_000}, 8, 4, id="50 k operations a second: half the vCPU elsewhere"),
        pytest.param({"disk.bytesPerSecond": 500_000_000}, 12, 4, id="4 Gbit/s of disk: a third of the vCPU elsewhere"),
    ],
)
def test_why_all_dimensions_at_once_matter(
    shipped: Catalog, floor: dict[str, int], generation_7: int | None, every_family: int
) -> None:
    virtual = frozenset(name for name in fully_published(shipped) if not name.startswith("ecs.ebm"))
    assert vcpu_of(choose(shipped, SizeFilter(families=GENERATION_7), floor)) == generation_7
    assert vcpu_of(choose(shipped, SizeFilter(names=virtual), floor)) == every_family


@pytest.mark.parametrize(
    ("floor", "names"),
    [
        pytest.param({}, {"ecs.c7.xlarge"}, id="nothing more"),
        pytest.param({"network.pps": 1_500_000}, {"ecs.c7.2xlarge"}, id="1.5 M packets a second"),
        pytest.param({"network.pps": 2_000_000}, {"ecs.c7.3xlarge"}, id="2 M packets a second"),
        pytest.param({"disk.iops": 50_000}, {"ecs.c7.2xlarge"}, id="50 k operations a second"),
        pytest.param({"disk.bytesPerSecond": 500_000_000}, {"ecs.c7.3xlarge"}, id="4 Gbit/s of disk"),
    ],
)
def test_the_size_within_generation_7(shipped: Catalog, floor: dict[str, int], names: set[str]) -> None:
    choice = choose(shipped, SizeFilter(families=GENERATION_7), floor)
    assert choice is not None
    assert {choice.size.name} == names


def test_two_million_packets_on_8_vcpu_exist_on_bare_metal_alone(shipped: Catalog) -> None:
    choice = choose(shipped, SizeFilter(), {"network.pps": 2_000_000})
    assert choice is not None
    assert (choice.size.family, vcpu_of(choice)) == ("ecs.ebmhfg5", 8)


def test_the_published_rows_with_all_six_figures_are_as_many_as_the_source_says(shipped: Catalog) -> None:
    families = {size.family for size in shipped.sizes if size.name in fully_published(shipped)}
    assert (len(fully_published(shipped)), len(families)) == (359, 48)


@pytest.mark.parametrize(
    ("name", "share", "model"),
    [
        pytest.param("ecs.vgn6i-m4.xlarge", "1/4", "T4", id="a quarter of a T4"),
        pytest.param("ecs.vgn5i-m1.large", "1/8", "P4", id="an eighth of a P4"),
    ],
)
def test_a_share_of_a_gpu_is_shown_and_counts_for_none(shipped: Catalog, name: str, share: str, model: str) -> None:
    size = next(size for size in shipped.sizes if size.name == name)
    assert size.gpu is not None
    assert (size.gpu.share, size.gpu.model, size.gpu_count) == (share, model, 0)


@pytest.mark.parametrize("family", ["ecs.gn8v", "ecs.gn8v-tee"])
def test_a_base_clock_published_as_up_to_is_not_promised(shipped: Catalog, family: str) -> None:
    for size in (size for size in shipped.sizes if size.family == family):
        assert size.figures[BY_PATH["cpu.baseMHz"].index] is None
        assert dict(size.shown)["cpu.turboMHz"] == 3100


@pytest.mark.parametrize("family", ["ecs.i2", "ecs.i2d", "ecs.i2ne"])
def test_a_disk_published_as_up_to_is_a_burst_only(shipped: Catalog, family: str) -> None:
    for size in (size for size in shipped.sizes if size.family == family):
        assert size.figures[BY_PATH["disk.bytesPerSecond"].index] is None
        assert dict(size.shown)["disk.burstBytesPerSecond"] == 2_000_000_000


def test_the_shipped_classes_are_these(shipped: Catalog) -> None:
    assert tuple(shipped.classes) == CLASSES
    assert {c.name for c in shipped.classes.values() if c.reserve is Reserve.SIZE} == {"whole-sandbox"}
    assert all(c.description and c.reserve for c in shipped.classes.values())


@pytest.mark.parametrize("name", CLASSES)
def test_no_class_is_served_by_shared_burstable_bare_metal_super_computing_or_arm_sizes(
    shipped: Catalog, name: str
) -> None:
    index = compile_index(shipped, load_target("kubernetes"))
    for size, _ in index.sizes_of(shipped.classes[name]):
        assert size.family not in SHARED_OR_BURSTABLE, size.name
        assert not size.family.startswith(("ecs.ebm", "ecs.scc")), size.name
        assert size.arch == "amd64", size.name


def pod(name: str, **annotations: str) -> dict[str, Any]:
    keys = {f"podsla.io/{key.replace('_', '-')}": text for key, text in annotations.items()}
    return {
        "metadata": {"name": "it", "annotations": {"podsla.io/class": name, **keys}},
        "spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1", "memory": "2Gi"}}}]},
    }


def decided(catalog: Catalog, target: str, wanted: dict[str, Any]) -> Place:
    decision = decide(read_pod(wanted), {}, compile_index(catalog, load_target(target)), date(2026, 1, 1))
    assert isinstance(decision, Place), decision
    return decision


@pytest.mark.parametrize("target", list(shipped_targets()))
@pytest.mark.parametrize("name", CLASSES)
def test_every_shipped_class_is_served_as_itself_on_every_shipped_target(
    shipped: Catalog, name: str, target: str
) -> None:
    if (name, target) == ("gpu-on-demand", "ack-eci"):
        return  # virtual nodes share no GPU, so none is lent there: tests/webhook/test_decide.py
    place = decided(shipped, target, pod(name))
    assert (place.sla_class.name, place.dropped, place.warnings) == (name, (), ())


@pytest.mark.parametrize("name", CLASSES)
def test_every_shipped_class_keeps_its_vcpu_small_for_a_small_pod(shipped: Catalog, name: str) -> None:
    assert (vcpu_of(decided(shipped, "kubernetes", pod(name)).choice) or 0) <= 4


@pytest.mark.parametrize("name", CLASSES)
def test_a_pod_may_have_the_maximum_of_whatever_a_class_lets_it_tune(shipped: Catalog, name: str) -> None:
    for dimension, maximum in shipped.classes[name].tunable:
        assert maximum is not None
        key = str(dimension.min_key).removeprefix("podsla.io/").replace("-", "_")
        place = decided(shipped, "kubernetes", pod(name, **{key: str(maximum)}))
        assert (place.sla_class.name, place.ask[dimension.index]) == (name, maximum)


def test_where_nobody_keeps_anything_a_class_falls_back_or_refuses(shipped: Catalog) -> None:
    index = compile_index(shipped, Target("bare"))
    day = date(2026, 1, 1)
    fallen = {name: decide(read_pod(pod(name)), {}, index, day) for name in CLASSES}
    served = {name: d.sla_class.name for name, d in fallen.items() if isinstance(d, Place)}
    assert served == {
        "batch": "batch",
        "disk-intensive": "general",
        "general": "general",
        "net-intensive": "general",
        "whole-sandbox": "whole-sandbox",
    }

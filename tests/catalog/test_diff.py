"""What an edit of a catalogue says to the people who read it."""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.diff import CatalogDiff, diff_catalogs, dump_diff, render_diff
from catalog.dimension import DIMENSIONS, NOTHING, PPS
from catalog.model import (
    Catalog,
    ClassGpu,
    Deprecation,
    GpuBudget,
    GpuMode,
    Requirement,
    Reserve,
    SandboxSize,
    SizeFilter,
    SizeGpu,
    SlaClass,
)
from catalog.reader import make_catalog
from tests.drift import drifted

SIZE = SandboxSize(
    name="ecs.c7.xlarge",
    family="ecs.c7",
    generation=7,
    figures=(4000, 8 << 30, 2700, 1_000_000, 4, 1_500_000_000, 30_000, None, None),
    cost_m=4000,
    shown=(("cpu.turboMHz", 3500),),
)
CLASS = SlaClass("web", "platform", "Web services.", tunable=((PPS, 1_000_000),))


def figured(**changes: int | None) -> SandboxSize:
    """Make SIZE with other figures."""
    by_name = {d.path.replace(".", "_"): d.index for d in DIMENSIONS}
    row = list(SIZE.figures)
    for name, figure in changes.items():
        row[by_name[name]] = figure
    return replace(SIZE, figures=tuple(row))


def lines(old: SandboxSize | SlaClass, new: SandboxSize | SlaClass) -> list[str]:
    """Diff two catalogues of one thing each; the line of revisions left out."""
    return render_diff(diff_catalogs(_one(old), _one(new)))[1:]


def _one(thing: SandboxSize | SlaClass) -> Catalog:
    return make_catalog([thing], []) if isinstance(thing, SandboxSize) else make_catalog([], [thing])


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        pytest.param(figured(network_pps=1_100_000), "network.pps 1M → 1100k (raised)", id="a raised figure"),
        pytest.param(figured(memory=7 << 30), "memory 8Gi → 7Gi (lowered)", id="a lowered figure"),
        pytest.param(figured(disk_iops=None), "disk.iops 30k → not published (withdrawn)", id="a withdrawn figure"),
        pytest.param(
            figured(disk_bytesPerSecond=187_500_000),
            "disk.bytesPerSecond not published → 187500k (published)",
            id="a published figure",
        ),
        pytest.param(replace(SIZE, cost_m=4500), "cost 4 → 4500m", id="another rank"),
        pytest.param(replace(SIZE, shown=()), "cpu.turboMHz 3500 → not set", id="a figure that was only shown"),
        pytest.param(replace(SIZE, generation=None), "generation 7 → not set", id="no generation any more"),
        pytest.param(replace(SIZE, local_disk=True), "localDisk not set → true", id="disks of the host"),
    ],
)
def test_a_changed_size_names_each_figure_and_which_way_it_went(new: SandboxSize, expected: str) -> None:
    """One line each, with both figures."""
    assert lines(SIZE, new) == [f"~ size ecs.c7.xlarge: {expected}"]


def test_a_gpu_is_compared_field_by_field() -> None:
    """Model, share and memory are no figures, and are told all the same."""
    old, new = replace(SIZE, gpu=SizeGpu("T4", None, 16 << 30)), replace(SIZE, gpu=SizeGpu("A10", "1/4", 16 << 30))

    assert lines(old, new) == [
        "~ size ecs.c7.xlarge: gpu.model T4 → A10",
        "~ size ecs.c7.xlarge: gpu.share not set → 1/4",
    ]


EDITS: Mapping[str, tuple[SlaClass, list[str]]] = {
    "name": (replace(CLASS, name="web-2"), []),
    "catalog": (replace(CLASS, catalog="edge"), ["catalog platform → edge"]),
    "description": (replace(CLASS, description=""), ["description Web services. → not set"]),
    "floor": (replace(CLASS, floor=(2000, *NOTHING[1:])), ["floor.vcpu not set → 2"]),
    "sizes": (
        replace(CLASS, sizes=SizeFilter(frozenset({"ecs.g7", "ecs.c7"}), frozenset(), 7)),
        ["sizes.families not set → ecs.c7, ecs.g7", "sizes.minGeneration not set → 7"],
    ),
    "reserve": (replace(CLASS, reserve=Reserve.SIZE), ["reserve not set → size"]),
    "runtime": (replace(CLASS, runtime="rund"), ["runtime not set → rund"]),
    "tolerations": (
        replace(CLASS, tolerations=((("key", "spot"), ("operator", "Exists")),)),
        ["tolerations not set → key=spot operator=Exists"],
    ),
    "tunable": (replace(CLASS, tunable=((PPS, None),)), ["tunable.network.pps up to 1M → no maximum"]),
    "best_effort": (replace(CLASS, best_effort=(PPS,)), ["bestEffort not set → network.pps"]),
    "fallback": (replace(CLASS, fallback=("b", "a")), ["fallback not set → b, a"]),
    "namespaces": (
        replace(CLASS, namespaces=(Requirement("team", "In", ("edge", "web")),)),
        ["namespaces not set → team In edge, web"],
    ),
    "gpu": (
        replace(CLASS, gpu=ClassGpu(("A10", "T4"), 2, GpuMode.ON_DEMAND)),
        [
            "gpu.count not set → 2",
            "gpu.evictable not set → false",
            "gpu.mode not set → on-demand",
            "gpu.models not set → A10, T4",
        ],
    ),
    "deprecated": (
        replace(CLASS, deprecated=Deprecation("", "web-2", date(2027, 3, 1))),
        [
            "deprecated not set → yes",
            "deprecated.refuseFrom not set → 2027-03-01",
            "deprecated.replacedBy not set → web-2",
        ],
    ),
}


def test_no_field_of_a_class_can_change_unseen() -> None:
    """A field that is added to the model must be added here, and so to the diff."""
    assert list(EDITS) == [field.name for field in fields(SlaClass)]


@pytest.mark.parametrize("field", [name for name in EDITS if name != "name"])
def test_a_changed_class_is_told_field_by_field(field: str) -> None:
    """By YAML path, sorted."""
    new, expected = EDITS[field]

    assert lines(CLASS, new) == [f"~ class web: {line}" for line in expected]


def test_another_name_is_another_class() -> None:
    """What went stands before what came."""
    assert lines(CLASS, EDITS["name"][0]) == ["- class web", "+ class web-2"]


def test_a_diff_is_also_data() -> None:
    """Figures are integers in base units there."""
    old, new = (
        make_catalog([SIZE], [CLASS]),
        make_catalog([figured(network_pps=None)], [replace(CLASS, runtime="rund")]),
    )

    assert dump_diff(diff_catalogs(old, new)) == {
        "oldRevision": old.revision,
        "newRevision": new.revision,
        "sizes": {
            "added": [],
            "removed": [],
            "changed": [
                {
                    "name": "ecs.c7.xlarge",
                    "figures": [
                        {"dimension": "network.pps", "old": 1_000_000, "new": None, "direction": "withdrawn"},
                    ],
                    "fields": [],
                }
            ],
        },
        "classes": {
            "added": [],
            "removed": [],
            "changed": [{"name": "web", "fields": [{"path": "runtime", "old": None, "new": "rund"}]}],
        },
        "gpuBudgets": [],
    }


def test_a_budget_is_told_by_its_namespaces_with_both_figures() -> None:
    edge = (Requirement("team", "In", ("edge",)),)
    old = make_catalog([], [], [GpuBudget(edge, 600), GpuBudget(edge, 900), GpuBudget(None, 60)])
    new = make_catalog([], [], [GpuBudget(edge, 300)])

    diff = diff_catalogs(old, new)

    assert render_diff(diff)[1:] == [
        "~ GPU budget of every namespace 60 GPU-minutes a day → not set",
        "~ GPU budget of team In edge 600 GPU-minutes a day → 300 GPU-minutes a day",
    ]
    assert [each["namespaces"] for each in dump_diff(diff)["gpuBudgets"]] == ["every namespace", "team In edge"]
    assert not diff.empty
    assert diff_catalogs(new, make_catalog([], [], new.gpu_budgets)).empty


def test_what_was_published_in_2021_and_is_published_now(shared_data: Path) -> None:
    """The real drift: figures went both ways, and one size went altogether."""
    diff = diff_catalogs(*drifted(shared_data))

    assert (diff.sizes_added, diff.sizes_removed) == ((), ("ecs.g7ne.16xlarge",))
    promised = [f"{size.name}: {figure}" for size in diff.sizes_changed for figure in size.figures]
    assert promised == [
        "ecs.g7.large: network.pps 900k → 1100k (raised)",
        "ecs.g7a.16xlarge: disk.bytesPerSecond 1G → 1025M (raised)",
        "ecs.g7a.32xlarge: disk.bytesPerSecond 2G → 2050M (raised)",
        "ecs.g7a.4xlarge: network.bitsPerSecond 5G → 7G (raised)",
        "ecs.g7a.4xlarge: disk.bytesPerSecond 375M → 462500k (raised)",
        "ecs.g7a.8xlarge: disk.bytesPerSecond 500M → 512500k (raised)",
        "ecs.g7ne.24xlarge: network.queues 32 → 48 (raised)",
        "ecs.g7ne.2xlarge: network.pps 1500k → 1600k (raised)",
        "ecs.g7ne.8xlarge: network.queues 16 → 32 (raised)",
        "ecs.gn6i-c16g1.4xlarge: network.pps 1M → 2500k (raised)",
        "ecs.gn6i-c24g1.12xlarge: network.pps 2400k → 4500k (raised)",
        "ecs.gn6i-c24g1.24xlarge: network.pps 4800k → 4500k (lowered)",
        "ecs.gn6i-c24g1.6xlarge: network.pps 1200k → 2500k (raised)",
        "ecs.gn6i-c4g1.xlarge: network.pps 500k → 2500k (raised)",
        "ecs.gn6i-c8g1.2xlarge: network.pps 800k → 2500k (raised)",
        "ecs.gn7-c12g1.3xlarge: memory 95Gi → 94Gi (lowered)",
        "ecs.gn7-c13g1.13xlarge: memory 380Gi → 378Gi (lowered)",
        "ecs.gn7-c13g1.13xlarge: network.bitsPerSecond 15G → 16G (raised)",
        "ecs.gn7-c13g1.26xlarge: memory 760Gi → 756Gi (lowered)",
    ]


classes = st.sampled_from([CLASS, *(edit for edit, _ in EDITS.values() if edit.name == CLASS.name)])
sizes = st.builds(
    lambda name, pps, cost: replace(figured(network_pps=pps), name=name, cost_m=cost),
    st.sampled_from(["a.l", "b.l", "c.l"]),
    st.sampled_from([None, 1000, 2000]),
    st.sampled_from([1000, 2000]),
)
catalogs = st.builds(
    make_catalog, st.lists(sizes, max_size=3, unique_by=lambda s: s.name), st.lists(classes, max_size=1)
)


@given(catalog=catalogs)
def test_a_catalogue_does_not_differ_from_itself(catalog: Catalog) -> None:
    """Nothing is told of an edit that changed nothing."""
    diff = diff_catalogs(catalog, catalog)

    assert diff == CatalogDiff(catalog.revision, catalog.revision)
    assert diff.empty


@given(old=catalogs, new=catalogs)
def test_a_diff_is_empty_exactly_where_nothing_differs(old: Catalog, new: Catalog) -> None:
    """Whatever gives another revision is told; the one thing that is told without one is a move."""
    diff = diff_catalogs(old, new)
    moved: Any = [change.path for c in diff.classes_changed for change in c.fields if change.path == "catalog"]

    assert diff.empty == ((old.sizes, old.classes) == (new.sizes, new.classes))
    assert diff.empty or bool(moved) or old.revision != new.revision


@given(old=catalogs, new=catalogs)
def test_the_way_back_mirrors_the_way_there(old: Catalog, new: Catalog) -> None:
    """What came on the one went on the other."""
    there, back = diff_catalogs(old, new), diff_catalogs(new, old)

    assert (there.sizes_added, there.sizes_removed) == (back.sizes_removed, back.sizes_added)
    assert [s.name for s in there.sizes_changed] == [s.name for s in back.sizes_changed]
    for one, other in zip(there.sizes_changed, back.sizes_changed, strict=True):
        assert [(f.old, f.new) for f in one.figures] == [(f.new, f.old) for f in other.figures]

"""Published figures become a catalogue exactly, and bad files say on which line and column they are bad."""

import csv
import io
from collections.abc import Mapping
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any

import pytest

from catalog.dimension import BY_PATH, GPU_COUNT
from catalog.importers import IMPORTERS, import_ec2, import_ecs, render_catalog
from catalog.importers.common import arch_of, generation
from catalog.model import SandboxSize, SizeGpu
from catalog.problems import InvalidError
from catalog.quantity import parse_integer
from catalog.reader import read_catalog
from catalog.yamltext import Document, Numeral, parse_documents

ECS_ROW: Mapping[str, str] = {
    "family": "c7",
    "size": "ecs.c7.xlarge",
    "vcpu": "4",
    "memory_gib": "8",
    "cpu_model": "Ice Lake",
    "base_ghz": "2.7",
    "turbo_ghz": "3.5",
    "net_gbps_base": "1.5",
    "net_gbps_burst": "10",
    "pps": "1000000",
    "nic_queues": "4",
    "disk_iops": "30000",
    "disk_iops_burst": "110000",
    "disk_gbps": "1.5",
    "disk_gbps_burst": "6",
    "gpu_model": "",
    "gpu_count": "",
    "gpu_memory_gib": "",
    "doc_snapshot": "2021-07",
    "notes": "",
    "source": "a page",
}
EC2_ROW: Mapping[str, str] = {
    "family": "c5a",
    "size": "c5a.large",
    "vcpu": "2",
    "memory_gib": "4",
    "arch": "x86_64",
    "sustained_ghz": "3.3",
    "net_gbps_base": "0.75",
    "net_gbps_burst": "10.0",
    "ena_queues_per_interface_default": "2",
    "ebs_iops_base": "800",
    "ebs_iops_max": "13300",
    "ebs_mbit_s_base": "200",
    "ebs_mbit_s_max": "3170",
    "gpu_model": "",
    "gpu_count": "",
    "gpu_memory_gib_each": "",
    "bare_metal": "false",
    "burstable": "false",
    "source": "a dump",
}


def ecs(**changes: str) -> dict[str, Any]:
    """Import one ECS row and give its size."""
    size: dict[str, Any] = import_ecs([{**ECS_ROW, **changes}], "ecs")["spec"]["sizes"][0]
    return size


def ec2(**changes: str) -> dict[str, Any]:
    """Import one EC2 row and give its size."""
    size: dict[str, Any] = import_ec2([{**EC2_ROW, **changes}], "ec2")["spec"]["sizes"][0]
    return size


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def units(text: str, scale: str) -> int | None:
    """Compute base units another way than the importer does."""
    return int((Decimal(text) * Decimal(scale)).to_integral_value(ROUND_DOWN)) if text else None


def promised(size: SandboxSize, path: str) -> int | None:
    return size.figures[BY_PATH[path].index]


def read_back(document: Mapping[str, Any], header: str = "") -> dict[str, SandboxSize]:
    catalog = read_catalog(parse_documents(render_catalog(document, header), "it.yaml"))
    return {size.name: size for size in catalog.sizes}


def test_an_ecs_row_becomes_a_size_with_every_figure_in_base_units() -> None:
    assert ecs() == {
        "name": "ecs.c7.xlarge",
        "family": "ecs.c7",
        "generation": 7,
        "vcpu": "4",
        "memory": "8Gi",
        "cpu": {"model": "Ice Lake", "baseMHz": 2700, "turboMHz": 3500},
        "network": {"pps": 1000000, "queues": 4, "bitsPerSecond": "1500M", "burstBitsPerSecond": "10G"},
        "disk": {
            "iops": 30000,
            "bytesPerSecond": "187500k",
            "burstIops": 110000,
            "burstBytesPerSecond": "750M",
        },
    }


def test_an_ec2_row_becomes_a_size_whose_clock_is_only_shown() -> None:
    assert ec2() == {
        "name": "c5a.large",
        "family": "c5a",
        "generation": 5,
        "vcpu": "2",
        "memory": "4Gi",
        "cpu": {"turboMHz": 3300},
        "network": {"queues": 2, "bitsPerSecond": "750M", "burstBitsPerSecond": "10G"},
        "disk": {"iops": 800, "bytesPerSecond": "25M", "burstIops": 13300, "burstBytesPerSecond": "396250k"},
    }


@pytest.mark.parametrize(
    ("changes", "path", "expected"),
    [
        pytest.param({"memory_gib": "0.5"}, "memory", "512Mi", id="half a GiB is 512Mi"),
        pytest.param({"base_ghz": "2.55"}, "cpu.baseMHz", 2550, id="a clock of two places is exact"),
        pytest.param({"base_ghz": "2.6999"}, "cpu.baseMHz", 2699, id="what is no whole MHz is rounded down"),
        pytest.param({"disk_gbps": "7.496"}, "disk.bytesPerSecond", "937M", id="disk bits are bytes, exactly"),
        pytest.param({"pps": ""}, "network.pps", None, id="a blank stays absent"),
        pytest.param({"net_gbps_burst": "1.5"}, "network.burstBitsPerSecond", None, id="a burst of the base is none"),
        pytest.param({"disk_gbps": ""}, "disk.burstBytesPerSecond", "750M", id="a burst without a base is still shown"),
        pytest.param(
            {"notes": 'queues are per primary ENI; base/turbo are "up to"'},
            "cpu.baseMHz",
            None,
            id="a base published as up to is no promise",
        ),
        pytest.param(
            {"notes": 'base is a stated minimum; connections is "up to"'},
            "cpu.baseMHz",
            2700,
            id="another figure published as up to leaves the base alone",
        ),
        pytest.param({"notes": 'turbo is "up to"'}, "cpu.baseMHz", 2700, id="a turbo published as up to is no matter"),
        pytest.param({"cpu_model": "Yitian 710 (Arm)"}, "arch", "arm64", id="an ARM processor is arm64"),
        pytest.param({"cpu_model": ""}, "arch", None, id="no processor is named: the default, amd64"),
        pytest.param({"local_disks_gib": "2x1788"}, "localDisk", True, id="disks of the host, whatever they hold"),
        pytest.param({"local_disks_gib": "0"}, "localDisk", None, id="0 disks are none"),
        pytest.param({"local_disks_gib": " "}, "localDisk", None, id="blank: no disks of the host"),
    ],
)
def test_ecs_figures(changes: dict[str, str], path: str, expected: object) -> None:
    value: Any = ecs(**changes)
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    assert value == expected


@pytest.mark.parametrize(
    ("changes", "gpu", "cost"),
    [
        pytest.param(
            {"gpu_model": "NVIDIA A10", "gpu_count": "2", "gpu_memory_gib": "24"},
            {"model": "A10", "count": 2, "memory": "24Gi"},
            68,
            id="whole GPUs are counted, and rank 32 vCPUs each",
        ),
        pytest.param(
            {"gpu_model": "NVIDIA T4", "gpu_count": "1/4", "gpu_memory_gib": "16"},
            {"model": "T4", "share": "1/4", "memory": "16Gi"},
            12,
            id="a share of a GPU is shown, counts for no GPU, and ranks as its share",
        ),
        pytest.param(
            {"gpu_count": "1/3"}, {"share": "1/3"}, "14666m", id="a share that no vCPU equals ranks in millis"
        ),
        pytest.param({"gpu_count": "8", "gpu_memory_gib": "80"}, {"count": 8, "memory": "80Gi"}, 260, id="no model"),
        pytest.param({}, None, None, id="no GPU: the vCPU is the rank"),
    ],
)
def test_ecs_gpus(changes: dict[str, str], gpu: object, cost: object) -> None:
    size = ecs(**changes)
    assert (size.get("gpu"), size.get("cost")) == (gpu, cost)


def test_an_ec2_share_of_unstated_size_has_no_count_and_ranks_as_a_whole_gpu() -> None:
    row = {**EC2_ROW, "gpu_model": "NVIDIA L4", "gpu_count": "0", "gpu_memory_gib_each": "2.79"}
    spec = import_ec2([row], "ec2")["spec"]
    size = spec["sizes"][0]
    assert (size["gpu"], size["cost"]) == ({"model": "L4", "memory": "2995739688"}, 34)
    told = "a share of one GPU, which the source does not state; memory is of the share, and cost counts it whole"
    assert spec["sources"] == [{"family": "c5a", "source": "a dump", "notes": told}]


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        pytest.param("c7", 7, id="c7 is generation 7"),
        pytest.param("hfc8i", 8, id="letters after the number are no matter"),
        pytest.param("gn8v-tee", 8, id="so is what follows a dash"),
        pytest.param("c7i-flex", 7, id="a variant has the generation of its family"),
        pytest.param("u7in-16tb", 7, id="an amount of memory is no generation"),
        pytest.param("u-6tb1", None, id="u-6tb1 names its memory, not a generation"),
        pytest.param("mac-m4", None, id="the chip of a Mac is no generation"),
    ],
)
def test_generation(family: str, expected: int | None) -> None:
    assert generation(family) == expected


@pytest.mark.parametrize("model", ["Charm 5", "Intel Xeon", "AMD EPYC Genoa 9T24", ""])
def test_other_processors_are_not_taken_for_arm(model: str) -> None:
    assert arch_of(model) is None


@pytest.mark.parametrize(
    ("arch", "expected"), [("x86_64", None), ("arm64", "arm64"), ("arm64_mac", "arm64"), ("", None)]
)
def test_ec2_architectures(arch: str, expected: str | None) -> None:
    assert ec2(arch=arch).get("arch") == expected


def test_an_ec2_size_with_disks_of_its_host_says_so() -> None:
    assert (ec2(local_ssd_count="2").get("localDisk"), ec2(local_ssd_count="").get("localDisk")) == (True, None)


@pytest.mark.parametrize("kind", sorted(IMPORTERS))
def test_four_columns_make_a_size(kind: str) -> None:
    """Everything else is as if it were blank, and a family without a source is not among the sources."""
    row = {"family": "c7", "size": "my.large", "vcpu": "2", "memory_gib": "4"}
    spec = IMPORTERS[kind].read([row], "mine", "it.csv")["spec"]
    family = {"ec2": "c7", "ecs": "my.c7"}[kind]
    size = {"name": "my.large", "family": family, "generation": 7, "vcpu": "2", "memory": "4Gi"}
    assert spec == {"sizes": [size], "sources": []}


def test_any_figure_may_stand_beside_the_four_columns() -> None:
    text = "family,size,vcpu,memory_gib,pps\nc7,my.large,2,4,600000\nc7,my.xlarge,4,8,\n"
    document = import_ecs(csv.DictReader(io.StringIO(text)), "mine")
    figures = {name: promised(size, "network.pps") for name, size in read_back(document).items()}
    assert figures == {"my.large": 600_000, "my.xlarge": None}


def test_a_note_that_takes_a_figure_back_counts_without_a_source() -> None:
    row = {**ECS_ROW, "notes": 'base is "up to"', "source": ""}
    spec = import_ecs([row], "ecs")["spec"]
    assert (spec["sizes"][0]["cpu"], spec["sources"]) == ({"model": "Ice Lake", "turboMHz": 3500}, [])


def test_sources_stand_once_per_family_and_page_with_each_note_once() -> None:
    rows = [
        {**ECS_ROW, "size": "ecs.c7.large", "notes": "beta; shown x8"},
        {**ECS_ROW, "notes": "beta; turbo is single-core"},
        {**ECS_ROW, "size": "ecs.c7.2xlarge", "source": "another page", "doc_snapshot": "2025-26"},
    ]
    assert import_ecs(rows, "ecs")["spec"]["sources"] == [
        {
            "family": "ecs.c7",
            "snapshot": "2021-07",
            "source": "a page",
            "notes": "beta; shown x8; turbo is single-core",
        },
        {"family": "ecs.c7", "snapshot": "2025-26", "source": "another page"},
    ]


def test_sizes_stand_by_family_vcpu_memory_and_name_whatever_the_order_of_rows() -> None:
    names = [("c7", "ecs.c7.2xlarge", "8"), ("c7", "ecs.c7.large", "2"), ("c6", "ecs.c6.16xlarge", "64")]
    rows = [{**ECS_ROW, "family": family, "size": size, "vcpu": vcpu} for family, size, vcpu in names]
    expected = ["ecs.c6.16xlarge", "ecs.c7.large", "ecs.c7.2xlarge"]
    for order in (rows, rows[::-1]):
        assert [size["name"] for size in import_ecs(order, "ecs")["spec"]["sizes"]] == expected


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(
            [], "it.csv: holds no rows; write a header line, and one line for each size", id="an empty file is told so"
        ),
        pytest.param(
            [{key: text for key, text in ECS_ROW.items() if key not in ("size", "vcpu")}] * 2,
            "it.csv:1: size: is no column of this file, and there is no size without it; add it\n"
            "it.csv:1: vcpu: is no column of this file, and there is no size without it; add it",
            id="missing columns are told once, on the header's line",
        ),
        pytest.param(
            [ECS_ROW, ECS_ROW],
            "it.csv:3: size: 'ecs.c7.xlarge' is on line 2 already; keep one",
            id="a size that stands twice names both lines",
        ),
        pytest.param(
            [{**ECS_ROW, "pps": "1 M"}],
            "it.csv:2: pps: '1 M' is not a number; write it as 4 or 2.5, or leave it blank where none is published",
            id="a number with a unit is no number",
        ),
        pytest.param(
            [{**ECS_ROW, "vcpu": "-4"}],
            "it.csv:2: vcpu: '-4' is not a number; write it as 4 or 2.5",
            id="a negative number is no figure, and a size without vCPUs none",
        ),
        pytest.param(
            [{**ECS_ROW, "nic_queues": "0"}],
            "it.csv:2: nic_queues: is 0, which is less than one whole unit; "
            "write more, or leave it blank where none is published",
            id="zero is not the same as not published",
        ),
        pytest.param(
            [{**ECS_ROW, "memory_gib": "0"}],
            "it.csv:2: memory_gib: is 0, which is less than one whole unit; write more",
            id="no size is without memory",
        ),
        pytest.param(
            [{**ECS_ROW, "vcpu": "", "family": " "}],
            "it.csv:2: family: is blank; write it, or remove the line\n"
            "it.csv:2: vcpu: is blank; write it, or remove the line",
            id="every blank that may not be is named in one go",
        ),
        pytest.param(
            [{**ECS_ROW, "gpu_count": "half"}],
            "it.csv:2: gpu_count: 'half' is no count of GPUs; write it as 2, as a share such as 1/4, or blank",
            id="a GPU count is a number or a share",
        ),
        pytest.param(
            [{**ECS_ROW, "size": "C7 large"}],
            "it.csv:2: spec.sizes[0].name: 'C7 large' does not have the form [a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?\n"
            "it.csv:2: spec.sizes[0].family: 'C7 large.c7' does not have the form [a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?",
            id="a name that no label can hold is found by the catalogue's own schema",
        ),
    ],
)
def test_bad_rows_are_refused_with_what_to_write(rows: list[dict[str, str]], message: str) -> None:
    with pytest.raises(InvalidError) as raised:
        import_ecs(rows, "ecs", "it.csv")
    assert sorted(str(raised.value).splitlines()) == sorted(message.splitlines())


HEAD = ",".join(EC2_ROW)
LINE = ",".join(EC2_ROW.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            f"{HEAD}\nc5a,c5a.large,2\n",
            "it.csv:2: memory_gib: is beyond the end of the line; write as many fields as the header has",
            id="a line that ends early names the first column that it lacks",
        ),
        pytest.param(
            f"{HEAD}\n{LINE},and more\n",
            "it.csv:2: the line has more fields than the header; put text that contains a comma in quotes",
            id="a line with too many fields",
        ),
        pytest.param(
            f"{HEAD}\n\n{LINE.replace('c5a.large', '')}\n",
            "it.csv:3: size: is blank; write it, or remove the line",
            id="lines are counted as an editor counts them",
        ),
        pytest.param(
            f"{HEAD}\n{LINE.replace('x86_64', 'sparc')}\n",
            "it.csv:2: arch: 'sparc' is no architecture; "
            "write one of arm64, arm64_mac, i386+x86_64, x86_64, x86_64_mac",
            id="an unknown architecture lists those that are known",
        ),
        pytest.param(
            f"{HEAD}\n{LINE}\n{'x' * 200_000}\n",
            "it.csv:3: this is not CSV: field larger than field limit (131072)",
            id="what the CSV reader refuses is told with its line",
        ),
    ],
)
def test_bad_files_are_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(InvalidError) as raised:
        import_ec2(csv.DictReader(io.StringIO(text)), "ec2", "it.csv")
    assert str(raised.value) == message


def test_a_document_is_rendered_with_one_line_for_each_size_and_reads_back_the_same() -> None:
    document = import_ecs([ECS_ROW], "ecs")
    text = render_catalog(document, "First.\n\nSecond.")
    assert text == (
        "# First.\n"
        "#\n"
        "# Second.\n"
        "apiVersion: podsla.io/v1beta1\n"
        "kind: SpecCatalog\n"
        "metadata: {name: ecs}\n"
        "spec:\n"
        "  sizes:\n"
        "  - {name: ecs.c7.xlarge, family: ecs.c7, generation: 7, vcpu: '4', memory: 8Gi,"
        " cpu: {model: Ice Lake, baseMHz: 2700, turboMHz: 3500},"
        " network: {pps: 1000000, queues: 4, bitsPerSecond: 1500M, burstBitsPerSecond: 10G},"
        " disk: {iops: 30000, bytesPerSecond: 187500k, burstIops: 110000, burstBytesPerSecond: 750M}}\n"
        "  sources:\n"
        "  - {family: ecs.c7, snapshot: 2021-07, source: a page}\n"
    )
    assert [found.data for found in parse_documents(text, "it.yaml")] == [document]


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "1:30",
        "a: b",
        "# no",
        "'",
        '"',
        "[x]",
        "{",
        "*a",
        "é",
        "1e3",
        "",
        "- x",
        "x" * 500,
        "a\nb",
        "a\u2028b",
        "\0",
        "null",
        "@",
    ],
    ids=repr,
)
def test_any_text_reads_back_from_one_line(text: str) -> None:
    document = {"metadata": {"name": text}, "spec": {"sizes": [{"name": text}], "classes": []}}
    rendered = render_catalog(document, "")
    assert len(rendered.splitlines()) == 5
    assert parse_documents(rendered, "it.yaml")[0].data == document


def test_a_number_that_was_kept_as_text_is_quoted() -> None:
    assert "cost: '4.50'" in render_catalog({"spec": {"sizes": [{"cost": Numeral("4.50")}]}}, "")


def test_every_ecs_row_reads_back_as_an_independent_computation_has_it(shared_data: Path) -> None:
    rows = rows_of(shared_data / "catalogs" / "ecs-instance-types.csv")
    sizes = read_back(import_ecs(rows, "ecs"))
    assert len(sizes) == len(rows) == 718
    for row in rows:
        size = sizes[row["size"]]
        shown = dict(size.shown)
        up_to = 'base/turbo are "up to"' in row["notes"]
        expected = {
            "vcpu": units(row["vcpu"], "1000"),
            "memory": units(row["memory_gib"], "1073741824"),
            "cpu.baseMHz": None if up_to else units(row["base_ghz"], "1000"),
            "network.pps": units(row["pps"], "1"),
            "network.queues": units(row["nic_queues"], "1"),
            "network.bitsPerSecond": units(row["net_gbps_base"], "1e9"),
            "disk.iops": units(row["disk_iops"], "1"),
            "disk.bytesPerSecond": units(row["disk_gbps"], "125e6"),
            "gpu.count": int(row["gpu_count"]) if row["gpu_count"].isdigit() else None,
        }
        assert {path: promised(size, path) for path in expected} == expected, row["size"]
        assert shown.get("cpu.turboMHz") == units(row["turbo_ghz"], "1000"), row["size"]
        assert shown.get("cpu.model", "") == row["cpu_model"]
        assert shown.get("network.burstBitsPerSecond") == units(row["net_gbps_burst"], "1e9")
        assert shown.get("disk.burstIops") == units(row["disk_iops_burst"], "1")
        assert shown.get("disk.burstBytesPerSecond") == units(row["disk_gbps_burst"], "125e6")
        assert size.family == f"ecs.{row['family']}"
        assert size.arch == ("arm64" if row["family"] == "c8y" else "amd64")
        assert size.gpu == ecs_gpu(row), row["size"]
        assert size.local_disk == bool(row["local_disks_gib"]), row["size"]


def ecs_gpu(row: Mapping[str, str]) -> SizeGpu | None:
    if not (row["gpu_model"] or row["gpu_count"]):
        return None
    share = row["gpu_count"] if "/" in row["gpu_count"] else None
    return SizeGpu(row["gpu_model"].replace("NVIDIA ", "") or None, share, units(row["gpu_memory_gib"], "1073741824"))


def test_every_ec2_row_reads_back_with_no_packet_rate_and_no_base_clock(shared_data: Path) -> None:
    rows = rows_of(shared_data / "catalogs" / "ec2-instance-types.csv")
    sizes = read_back(import_ec2(rows, "ec2"), IMPORTERS["ec2"].header)
    assert len(sizes) == len(rows) == 1255
    for row in rows:
        size = sizes[row["size"]]
        expected = {
            "vcpu": units(row["vcpu"], "1000"),
            "memory": units(row["memory_gib"], "1073741824"),
            "cpu.baseMHz": None,
            "network.pps": None,
            "network.queues": units(row["ena_queues_per_interface_default"], "1"),
            "network.bitsPerSecond": units(row["net_gbps_base"], "1e9"),
            "disk.iops": units(row["ebs_iops_base"], "1"),
            "disk.bytesPerSecond": units(row["ebs_mbit_s_base"], "125e3"),
            "gpu.count": int(row["gpu_count"] or 0) or None,
        }
        assert {path: promised(size, path) for path in expected} == expected, row["size"]
        assert dict(size.shown).get("cpu.turboMHz") == units(row["sustained_ghz"], "1000")
        assert size.arch == ("arm64" if row["arch"].startswith("arm64") else "amd64")
        assert size.local_disk == bool(row["local_ssd_count"]), row["size"]
        whole = row["ebs_mbyte_s_base"]
        assert not whole or (promised(size, "disk.bytesPerSecond") or 0) <= Decimal(whole) * 1_000_000


def test_no_size_without_a_gpu_is_ranked_and_every_size_with_one_ranks_above_its_vcpu(shared_data: Path) -> None:
    for kind, importer in IMPORTERS.items():
        rows = rows_of(shared_data / "catalogs" / f"{kind}-instance-types.csv")
        document = importer.read(rows, kind, "it.csv")
        for size in document["spec"]["sizes"]:
            assert ("cost" in size) == ("gpu" in size), size["name"]
            assert "cost" not in size or parse_integer(size["cost"]) > parse_integer(size["vcpu"]), size["name"]


def test_what_an_importer_makes_is_a_catalogue_with_no_classes() -> None:
    catalog = read_catalog([Document(import_ecs([ECS_ROW], "mine"), "it.csv", {})])
    assert (dict(catalog.classes), [size.name for size in catalog.sizes]) == ({}, ["ecs.c7.xlarge"])
    assert catalog.sizes[0].figures[GPU_COUNT.index] is None

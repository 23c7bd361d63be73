"""The CRD on a real API server: it takes what the reader takes, and refuses a slip where it is typed, by its field."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.importers import IMPORTERS
from catalog.load import SHIPPED_CATALOG, load_documents
from catalog.model import MAX_SIZES
from catalog.problems import InvalidError
from catalog.quantity import QuantityError, parse_integer, parse_vcpu, parse_whole
from catalog.reader import read_catalog
from catalog.schema import MAX_CLASSES
from catalog.yamltext import parse_documents
from tests.manifests.kubectl import MANIFESTS, run
from tests.sample import CLASSES, SIZES
from tests.system.user import User

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd")]

HEAD = "apiVersion: podsla.io/v1beta1\nkind: SpecCatalog\nmetadata: {name: test}\nspec:\n"
BY_SERVER = ("apply", "--server-side", "--dry-run=server", "-f", "-")


def of_spec(text: str) -> dict[str, Any]:
    """Read a catalogue of a spec in YAML, as the command line would send it."""
    data: dict[str, Any] = parse_documents(f"{HEAD}{text}", "test.yaml")[0].data
    return data


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda: [d.data for d in load_documents([SHIPPED_CATALOG])], id="the shipped catalogues"),
        pytest.param(lambda: [of_spec(f"  sizes:{SIZES}  classes:{CLASSES}")], id="the catalogue of these tests"),
        pytest.param(
            lambda: [d.data for d in load_documents(sorted((MANIFESTS / "examples").glob("figures-*.yaml")))],
            id="the examples",
        ),
    ],
)
def test_what_files_may_say_the_api_server_takes(admin: User, read: Callable[[], list[dict[str, Any]]]) -> None:
    for document in read():
        run(admin, *BY_SERVER, text=json.dumps(document))


@pytest.mark.parametrize(("provider", "file"), [("ecs", "ecs-instance-types.csv"), ("ec2", "ec2-instance-types.csv")])
def test_every_published_size_is_taken(admin: User, shared_data: Path, provider: str, file: str) -> None:
    with (shared_data / "catalogs" / file).open(newline="") as rows:
        document = IMPORTERS[provider].read(csv.DictReader(rows), provider, file)
    run(admin, *BY_SERVER, text=json.dumps(document, default=str))


DIGITS = st.text(st.sampled_from("0123456789"), max_size=6)
TEXTS = st.builds(
    lambda sign, whole, part, suffix: f"{sign}{whole}{part}{suffix}",
    st.sampled_from(["", "", "", "+", "-"]),
    DIGITS,
    st.just("") | DIGITS.map(lambda digits: f".{digits}"),
    st.sampled_from(["", "", *"numkMGTPE", *(f"{c}i" for c in "KMGTPE"), "e3", "E2", "e+1", "e-2", "K", "kb"]),
)


def is_read(parse: Callable[[object], int], value: object, least: int) -> bool:
    """Tell whether a file may have *value*."""
    try:
        return parse(value) >= least
    except QuantityError:
        return False


@settings(max_examples=10)
@given(values=st.lists(TEXTS | st.integers(-2, 1 << 40), min_size=200, max_size=200))
def test_a_quantity_that_files_may_have_is_taken_in_every_form(admin: User, values: list[str | int]) -> None:
    vcpus = [value for value in values if is_read(parse_vcpu, value, 1)]
    counts = [value for value in values if is_read(parse_whole, value, 1)]
    bytes_ = [value for value in values if is_read(parse_whole, value, 1 << 20)]
    maxima = [value for value in values if is_read(parse_integer, value, 0)]
    sizes: list[dict[str, Any]] = [
        *({"vcpu": value, "memory": "1Gi"} for value in vcpus),
        *({"vcpu": 1, "memory": value} for value in bytes_),
        *({"vcpu": 1, "memory": "1Gi", "network": {"pps": value}} for value in counts),
    ]
    classes = [{"name": f"c{n}", "tunable": {"network.pps": {"max": value}}} for n, value in enumerate(maxima)]
    document = of_spec("  {}")
    document["spec"] = {"sizes": [{"name": f"s{n}", **size} for n, size in enumerate(sizes)], "classes": classes}
    run(admin, *BY_SERVER, text=json.dumps(document))


SIZE = "name: a, vcpu: 1, memory: 1Gi"
FROM_1 = "must be a quantity of 1 or more; write it as 4, 1500M or 8Gi"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            "  clases: []",
            'unknown field "spec.clases"',
            id="a typo in a field",
        ),
        pytest.param(
            "  classes: [{name: a, floor: {network: {ppps: 1}}}]",
            'unknown field "spec.classes[0].floor.network.ppps"',
            id="a typo deep inside",
        ),
        pytest.param(
            "  sizes: [{name: a, vcpu: 4x, memory: 8}]",
            "* spec.sizes[0].memory: Invalid value: 8: must be a quantity of 1Mi or more; write it as 4, 1500M or 8Gi\n"
            '* spec.sizes[0].vcpu: Invalid value: "4x": must be vCPUs, more than 0; write 4 or 500m',
            id="no quantity, and memory without its unit",
        ),
        pytest.param(
            f"  sizes: [{{{SIZE}, network: {{pps: 600K}}, disk: {{iops: 0}}}}]",
            f"spec.sizes[0].disk.iops: Invalid value: 0: {FROM_1}\n"
            f'spec.sizes[0].network.pps: Invalid value: "600K": {FROM_1}',
            id="a thousand written K, and zero for unknown",
        ),
        pytest.param(
            "  sizes: [{name: a, vcpu: 8Gi, memory: 1Gi}]",
            'spec.sizes[0].vcpu: Invalid value: "8Gi": must be vCPUs, more than 0; write 4 or 500m',
            id="memory where vCPUs belong",
        ),
        pytest.param("  sizes: [{name: a, vcpu: 1}]", "* spec.sizes[0].memory: Required value", id="memory is missing"),
        pytest.param(
            f"  sizes: [{{{SIZE}, arch: arm}}]",
            '* spec.sizes[0].arch: Unsupported value: "arm": supported values: "amd64", "arm64"',
            id="no such architecture",
        ),
        pytest.param(
            "  sizes: [{name: A_, vcpu: 1, memory: 1Gi}]",
            'spec.sizes[0].name: Invalid value: "A_": spec.sizes[0].name in body should match',
            id="a name that cannot be a label",
        ),
        pytest.param(
            f"  sizes: [{{{SIZE}, localDisk: 'yes'}}]",
            '* spec.sizes[0].localDisk: Invalid value: "string": spec.sizes[0].localDisk in body must be of type bool',
            id="text for true",
        ),
        pytest.param(
            "  classes: [{name: none}]",
            "spec.classes[0].name: Invalid value: \"none\": cannot be 'none': the word is taken; choose another",
            id="a class named none",
        ),
        pytest.param(
            "  classes: [{name: a}, {name: b}, {name: a}]",
            "spec.classes: Invalid value: two classes have one name; rename or remove one",
            id="two classes of one name",
        ),
        pytest.param(
            "  classes: [{name: a, fallback: [a]}]",
            "spec.classes[0].fallback: Invalid value: a class cannot be its own fallback; remove it from the list",
            id="its own fallback",
        ),
        pytest.param(
            "  classes: [{name: a, fallback: [b, c, b]}, {name: b}, {name: c}]",
            "spec.classes[0].fallback: Invalid value: names a class twice; keep one",
            id="a fallback twice",
        ),
        pytest.param(
            "  classes: [{name: a, fallback: [b, c, d, e, f, g]}]",
            "* spec.classes[0].fallback: Too many: 6: must have at most 5 items",
            id="too many fallbacks",
        ),
        pytest.param(
            "  classes: [{name: a, tunable: {network.pp: {max: 3}}}]",
            "spec.classes[0].tunable: Invalid value: can be tuned: cpu.baseMHz, network.pps, network.queues, "
            "network.bitsPerSecond, disk.iops, disk.bytesPerSecond; nothing else",
            id="no such dimension",
        ),
        pytest.param(
            "  classes: [{name: a, deprecated: {replacedBy: a}}]",
            "spec.classes[0].deprecated.replacedBy: Invalid value: a class cannot replace itself; name another one",
            id="replaced by itself",
        ),
        pytest.param(
            "  classes: [{name: a, deprecated: {refuseFrom: 2027-3-1}}]",
            '* spec.classes[0].deprecated.refuseFrom: Invalid value: "2027-3-1": '
            'spec.classes[0].deprecated.refuseFrom in body must be of type date: "2027-3-1"',
            id="no day",
        ),
        pytest.param(
            "  classes: [{name: a, gpu: {mode: ondemand}}]",
            '* spec.classes[0].gpu.mode: Unsupported value: "ondemand": supported values: "whole-life", "on-demand"',
            id="no such mode",
        ),
    ],
)
def test_a_slip_is_refused_where_it_is_typed(admin: User, spec: str, expected: str) -> None:
    document = of_spec(spec)
    done = admin.kubectl("apply", "--dry-run=server", "-f", "-", text=json.dumps(document))
    assert done.returncode == 1
    assert [line for line in expected.splitlines() if line not in done.stderr] == []  # they come in no order
    with pytest.raises(InvalidError):  # the reader refuses it too: the CRD is never the stricter one
        read_catalog(parse_documents(f"{HEAD}{spec}", "test.yaml"))


def test_a_fraction_needs_quotes_where_kubectl_sends_it(admin: User) -> None:
    """The one thing that a file may say and kubectl may not: a JSON number with a point is no integer and no text."""
    unquoted = f"{HEAD}  sizes: [{{name: a, vcpu: 0.5, memory: 1Gi}}]"
    done = admin.kubectl("apply", "--dry-run=server", "-f", "-", text=unquoted)
    assert 'spec.sizes[0].vcpu in body must be of type integer,string: "number"' in done.stderr
    run(admin, "apply", "--dry-run=server", "-f", "-", text=unquoted.replace("0.5", "'0.5'"))


def test_a_name_that_no_label_holds_is_refused(admin: User) -> None:
    document = {**of_spec("  sizes: []"), "metadata": {"name": "a" * 64}}
    done = admin.kubectl("apply", "--dry-run=server", "-f", "-", text=json.dumps(document))
    assert "the name of a catalogue also stands in a label; write 63 characters at most" in done.stderr


def test_the_largest_catalogue_stays_within_what_rules_may_cost(admin: User) -> None:
    """Bounds are counted while the rules run, too: a valid catalogue is never refused for its length."""
    figures = {"network": {"pps": "1M", "queues": 4}, "disk": {"iops": "30k", "bytesPerSecond": "187500k"}}
    sizes = [
        {"name": f"family.{n}xlarge", "vcpu": "4", "memory": "8Gi", "cpu": {"baseMHz": 2700}, **figures}
        for n in range(MAX_SIZES)
    ]
    tunable = {"network.pps": {"max": "2M"}, "disk.iops": {"max": "40k"}}
    classes = [
        {"name": f"{n:063}", "floor": figures, "tunable": tunable, "fallback": [f"{i:063}" for i in range(600, 605)]}
        for n in range(MAX_CLASSES)
    ]
    document = {**of_spec("  sizes: []"), "spec": {"sizes": sizes, "classes": classes}}
    run(admin, *BY_SERVER, text=json.dumps(document))


STATUS = {
    "observedGeneration": 1,
    "revision": "sha256:ab",
    "serving": "sha256:ab",
    "classes": 1,
    "sizes": 2,
    "pods": 118,
    "conditions": [
        {
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": "serves",
            "lastTransitionTime": "2026-11-23T00:00:00Z",
        }
    ],
}


def test_a_catalogue_is_read_at_a_glance(admin: User) -> None:
    """`kubectl get` by short name and by category shows whether the newest edit serves; -o wide says why."""
    run(admin, "apply", "--server-side", "-f", "-", text=json.dumps(of_spec("  classes: [{name: a}]")))
    patch = json.dumps({"status": STATUS})
    run(admin, "patch", "spec", "test", "--subresource=status", "--type=merge", "-p", patch)
    head, row = (line.split() for line in run(admin, "get", "spec", "test").splitlines())
    assert head == ["NAME", "ACCEPTED", "REASON", "CLASSES", "SIZES", "PODS", "AGE"]
    assert row[:-1] == ["test", "True", "Accepted", "1", "2", "118"]
    wide = run(admin, "get", "podsla", "-o", "wide", "--no-headers").split()
    assert wide[7:] == ["sha256:ab", "serves"]
    run(admin, "delete", "spec", "test")


def test_explain_describes_a_field(admin: User) -> None:
    assert "Packets/s, such as 600k." in run(admin, "explain", "speccatalog.spec.classes.floor.network.pps")

"""What continuous integration is shown of catalogue files: every problem and finding, with file and line."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest
import yaml

from catalog.lint import Severity, lint
from catalog.problems import Problem
from catalog.reader import read_catalog
from catalog.target_reader import read_target
from catalog.yamltext import parse_documents
from podsla.reports import Entry, junit, of_findings, of_problems, sarif
from tests.podsla.shell import CATALOG as MINE
from tests.podsla.shell import Shell

CATALOG: Final = """\
apiVersion: podsla.io/v1beta1
kind: SpecCatalog
metadata: {name: mine}
spec:
  sizes:
  - {name: lab.c1.large, vcpu: 2, memory: 4Gi, network: {pps: 100k}, disk: {iops: 10k}}
  classes:
  - name: relay
    description: Forwards packets.
    floor:
      vcpu: 100m
      network:
        pps: 90k
    tunable:
      network.pps: {max: 98k}
  - name: disk
    floor: {vcpu: 100m}
    tunable: {disk.iops: {}}
"""
TARGET: Final = """\
apiVersion: podsla.io/v1beta1
kind: Target
metadata: {name: shared}
spec:
  nodeTypes:
  - lab.c1
  - lab.c9
  consumers: [{by: node-labels}, {by: reservation}]
"""
# What the schema of SARIF 2.1.0 says of the objects that are written: what must be there, and what may; nothing else.
SHAPE: Final[Mapping[str, tuple[set[str], Mapping[str, Any]]]] = {
    "log": ({"version", "runs"}, {"$schema": str, "version": {"2.1.0"}, "runs": ["run"]}),
    "run": ({"tool"}, {"tool": "tool", "automationDetails": "automation", "results": ["result"]}),
    "tool": ({"driver"}, {"driver": "component"}),
    "component": ({"name"}, {"name": str, "version": str, "rules": ["rule"]}),
    "rule": ({"id"}, {"id": str}),
    "automation": (set(), {"id": str}),
    "result": (
        {"message"},
        {
            "ruleId": str, "ruleIndex": int, "level": {"none", "note", "warning", "error"}, "message": "message",
            "locations": ["location"],
        },
    ),
    "message": ({"text"}, {"text": str}),
    "location": (set(), {"physicalLocation": "physical"}),
    "physical": ({"artifactLocation"}, {"artifactLocation": "artifact", "region": "region"}),
    "artifact": (set(), {"uri": str}),
    "region": ({"startLine"}, {"startLine": int}),
}  # fmt: skip


def assert_shape(value: Any, shape: Any) -> None:
    """Hold a value against what the schema says of it."""
    if isinstance(shape, list):
        assert isinstance(value, list)
        for one in value:
            assert_shape(one, shape[0])
    elif isinstance(shape, str):
        required, allowed = SHAPE[shape]
        assert required <= value.keys() <= allowed.keys(), (shape, sorted(value))
        for key, one in value.items():
            assert_shape(one, allowed[key])
    elif isinstance(shape, set):
        assert value in shape
    else:
        assert type(value) is shape


def assert_sarif(log: Any) -> list[Any]:
    """Hold a log against the schema and against itself; gives its results."""
    assert_shape(log, "log")
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(rules) == len(set(rules)), "the schema wants rules to be unique"
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place.get("region", {"startLine": 1})["startLine"] >= 1
        uri = place["artifactLocation"]["uri"]
        assert re.fullmatch(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]+", uri), "a URI reference"
        assert urlsplit(uri).scheme in ("", "file")
    return list(run["results"])


def findings() -> list[Entry]:
    documents = [*parse_documents(CATALOG, "mine.yaml"), *parse_documents(TARGET, "target.yaml")]
    return of_findings(lint(read_catalog(documents[:1]), read_target(documents[1:])), documents)


def entry(file: str = "a.yaml", line: int = 3, message: str = "is wrong") -> Entry:
    (made,) = of_problems([Problem(file, line, "spec", message)])
    return made


def read_xml(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - it is our own


def test_each_finding_stands_where_its_field_is_written() -> None:
    assert [(one.severity, one.reason, one.subject, one.path, one.file, one.line) for one in findings()] == [
        (Severity.WARNING, "NoDescription", "class disk", "description", "mine.yaml", 16),
        (Severity.WARNING, "TunableBeyondOffer", "class relay", "tunable.network.pps", "mine.yaml", 15),
        (Severity.WARNING, "UnknownNodeType", "target shared", "nodeTypes", "target.yaml", 5),
    ]


def test_a_floor_that_no_node_holds_is_told_at_its_line() -> None:
    documents = [
        *parse_documents(CATALOG.replace("pps: 90k", "pps: 96k"), "mine.yaml"),
        *parse_documents(TARGET, "target.yaml"),
    ]
    found = of_findings(lint(read_catalog(documents[:1]), read_target(documents[1:])), documents)

    assert [(one.reason, one.path, one.line) for one in found if one.severity is Severity.ERROR] == [
        ("NoSizeHolds", "floor.network.pps", 13)
    ]


def test_sarif_has_the_shape_that_its_schema_wants() -> None:
    results = assert_sarif(json.loads(json.dumps(sarif("1.0", "shared", [*findings(), entry()]))))

    assert [(one["ruleId"], one["level"]) for one in results] == [
        ("NoDescription", "warning"), ("TunableBeyondOffer", "warning"), ("UnknownNodeType", "warning"),
        ("UnusableFile", "error"),
    ]  # fmt: skip
    assert results[1]["message"]["text"].startswith("class relay: tunable.network.pps: ")


def test_a_file_without_findings_is_a_run_with_an_empty_list() -> None:
    assert assert_sarif(sarif("1.0", "shared", [])) == []


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        pytest.param("edge/my classes.yaml", "edge/my%20classes.yaml", id="relative, as it was named"),
        pytest.param("/srv/ä.yaml", "file:///srv/%C3%A4.yaml", id="absolute"),
        pytest.param("c:d.yaml", "c%3Ad.yaml", id="a colon makes no scheme"),
    ],
)
def test_files_are_named_by_uris(file: str, uri: str) -> None:
    (result,) = assert_sarif(sarif("1.0", "shared", [entry(file)]))

    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": uri}


def test_a_problem_of_a_whole_file_has_no_line() -> None:
    (result,) = assert_sarif(sarif("1.0", "shared", [entry(line=0)]))

    assert "region" not in result["locations"][0]["physicalLocation"]


def test_junit_counts_what_it_holds_and_stays_xml_whatever_a_file_says() -> None:
    suite = read_xml(junit("lint", [*findings(), entry(message="is 'a\x00<b>\x1b' & \ud800")]))

    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "3")
    assert [case[0].tag for case in suite] == ["skipped", "skipped", "skipped", "failure"]
    assert suite[3][0].text == "a.yaml:3: spec: is 'a�<b>�' & �"
    assert suite[1].get("name") == "tunable.network.pps: TunableBeyondOffer"


def test_junit_of_nothing_is_one_test_that_passed() -> None:
    (case,) = read_xml(junit("lint", []))

    assert (case.get("name"), len(case)) == ("no findings", 0)


def reported(form: str, text: str) -> list[tuple[str, str, str]]:
    """Reason, file and message of everything in a report."""
    if form in ("json", "yaml"):
        found = json.loads(text) if form == "json" else yaml.safe_load(text)
        return [(one["reason"], one["file"], one["message"]) for one in found]
    if form == "junit":
        cases = read_xml(text)
        return [
            (str(case.get("name")).rpartition(": ")[2], str(case.get("classname")), str(case[0].get("message")))
            for case in cases
        ]
    results = json.loads(text)["runs"][0]["results"]
    places = [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in results]
    return [(one["ruleId"], uri, one["message"]["text"]) for one, uri in zip(results, places, strict=True)]


@pytest.mark.parametrize(
    ("arguments", "file", "said"),
    [
        pytest.param(["gone.yaml"], "gone.yaml", "cannot be read: No such file or directory", id="not there"),
        pytest.param(["no.yaml"], "no.yaml", "this is not YAML: ", id="no YAML"),
        pytest.param(["flor.yaml"], "flor.yaml", "is not a field here; did you mean floor?", id="a wrong field"),
        pytest.param(["ecs", "--target", "calic"], "calic", "is no shipped target and no file", id="no such target"),
    ],
)
@pytest.mark.parametrize("form", ["json", "yaml", "junit", "sarif"])
def test_a_file_that_cannot_be_used_is_in_every_report(
    shell: Shell, form: str, arguments: list[str], file: str, said: str
) -> None:
    shell.file("no.yaml", "{")
    shell.file("flor.yaml", MINE.replace("floor", "flor"))
    ran = shell.run("catalog", "lint", *arguments, "-o", form)

    assert (ran.code, said in ran.err) == (3, True)
    told = reported(form, ran.out)
    assert [one[:2] for one in told] == [("UnusableFile", file)] * len(told)
    assert any(said in message for _, _, message in told), told

"""Catalogues of a cluster, edited one after the other: what serves, what is said, and what is never lost."""

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from catalog.accept import Memo, Merged, Parsed, judge, merge, parse
from catalog.dimension import VCPU
from catalog.load import load_documents, shipped_catalogs
from catalog.model import SandboxSize
from catalog.reader import read_catalog
from catalog.stored import KEPT, kept_of, last_good, prune, read_kept, revision_object
from catalog.verdict import MAX_MESSAGE_CHARACTERS, Keep, Reason, Verdict, status_of
from catalog.yamltext import parse_documents
from tests.sample import CLASSES, SIZES

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
HEAD = {"apiVersion": "podsla.io/v1beta1", "kind": "SpecCatalog"}

NODES = "{sizes: [{name: m, vcpu: 4, memory: 8Gi, network: {pps: 1M}}, {name: l, vcpu: 8, memory: 16Gi}]}"
NET = "{classes: [{name: net, floor: {network: {pps: 600k}}}]}"
NET_AT_900 = "{classes: [{name: net, floor: {network: {pps: 900k}}}]}"
TOO_MUCH = "{classes: [{name: net, floor: {network: {pps: 2M}}}]}"
TOO_MUCH_TEXT = (
    "spec.classes[0].floor.network.pps: network.pps is 2M, and the best allowed size has 1M; lower it or allow other "
    "sizes"
)


class Cluster:
    """An API server with a controller: objects in, statuses and ControllerRevisions out."""

    def __init__(self, **specs: str | Mapping[str, Any]) -> None:
        self.catalogs: dict[str, dict[str, Any]] = {}
        self.revisions: dict[str, dict[str, Any]] = {}
        self.memo, self.now, self.made = Memo(), NOW, 0
        self.used: dict[str, int] = {}
        for name, spec in specs.items():
            self.edit(name, spec)

    def edit(self, name: str, spec: str | Mapping[str, Any]) -> None:
        """Write a spec, as kubectl would: as a new object where there is none, each a second younger than the last."""
        data = yaml.safe_load(spec) if isinstance(spec, str) else spec
        if name not in self.catalogs:
            self.made += 1
            created = f"{NOW + timedelta(seconds=self.made):%Y-%m-%dT%H:%M:%SZ}"
            metadata = {"name": name, "uid": f"uid-{self.made}", "generation": 0, "creationTimestamp": created}
            self.catalogs[name] = {**HEAD, "metadata": metadata}
        if self.catalogs[name].get("spec") != data:
            self.catalogs[name]["metadata"]["generation"] += 1
        self.catalogs[name]["spec"] = json.loads(json.dumps(data))

    def delete(self, name: str) -> None:
        """Delete a catalogue; the garbage collector takes what it owns."""
        uid = self.catalogs.pop(name)["metadata"]["uid"]
        for key, thing in [*self.revisions.items()]:
            if thing["metadata"]["ownerReferences"][0]["uid"] == uid:
                del self.revisions[key]

    def judge(self) -> dict[str, Verdict]:
        kept = read_kept(self.revisions.values())
        return {v.catalog: v for v in judge([*self.catalogs.values()], kept, self.memo, self.used)}

    def keep(self, verdict: Verdict) -> None:
        """Write what is to be kept."""
        keep = verdict.keep
        if keep is not None and keep.stored is None:
            thing = revision_object(self.catalogs[verdict.catalog], keep.revision, keep.number, "podsla-system")
            assert thing["metadata"]["name"] not in self.revisions, "the API server refuses a name that is taken"
            self.revisions[thing["metadata"]["name"]] = thing
        elif keep is not None and keep.stored is not None:
            self.revisions[keep.stored.name]["revision"] = keep.number

    def reconcile(self) -> dict[str, Verdict]:
        """Judge, keep, and say so in the status."""
        verdicts = self.judge()
        for name, verdict in verdicts.items():
            self.keep(verdict)
            patch = status_of(verdict, self.catalogs[name], self.now).get("status", {})
            status = {**self.catalogs[name].get("status", {}), **patch}
            self.catalogs[name]["status"] = {key: value for key, value in status.items() if value is not None}
        return verdicts

    def served(self) -> Merged:
        """What a replica serves."""
        kept = read_kept(self.revisions.values())
        good = {name: last_good(thing, kept) for name, thing in self.catalogs.items()}
        return merge({name: found.spec for name, found in good.items() if found})

    def floors(self) -> dict[str, int]:
        """The PPS floor of each class that is served."""
        return {name: sla_class.floor[3] for name, sla_class in self.served().catalog.classes.items()}


def outcome(cluster: Cluster) -> dict[str, tuple[Reason, tuple[str, ...]]]:
    """Judge, and say for each catalogue what became of it."""
    return {name: (verdict.reason, verdict.problems) for name, verdict in cluster.reconcile().items()}


ACCEPTED: tuple[Reason, tuple[str, ...]] = (Reason.ACCEPTED, ())


def test_a_first_catalogue_is_kept_then_served() -> None:
    cluster = Cluster(nodes=NODES)

    verdict = cluster.reconcile()["nodes"]

    revision = parse(cluster.catalogs["nodes"]).revision
    assert verdict == Verdict("nodes", revision, revision, Reason.ACCEPTED, (), 2, 0, Keep(str(revision), 1, None))
    (thing,) = cluster.revisions.values()
    assert thing["metadata"]["labels"] == {"podsla.io/catalog": "nodes"}
    assert thing["metadata"]["annotations"] == {"podsla.io/revision": revision}
    assert thing["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    assert thing["data"] == {"spec": cluster.catalogs["nodes"]["spec"]}
    assert [size.name for size in cluster.served().catalog.sizes] == ["m", "l"]


def test_a_bad_edit_names_every_problem_and_the_last_good_one_serves_on() -> None:
    cluster = Cluster(nodes=NODES, teams=NET)
    cluster.reconcile()
    cluster.edit("teams", "{classes: [{name: net, flor: {}}, {name: slow, fallback: [nett]}, {name: slow}]}")

    verdict = cluster.reconcile()["teams"]

    assert verdict.problems == (
        "spec.classes[0].flor: is not a field here; did you mean floor?",
        "spec.classes[2].name: 'slow' is defined at speccatalog/teams spec.classes[1] already; rename or remove one",
        "spec.classes[1].fallback: 'nett' is no class; did you mean net?",
    )
    assert (verdict.reason, verdict.revision, verdict.sizes, verdict.classes) == (Reason.INVALID_CATALOG, None, 0, 1)
    assert verdict.serving == cluster.catalogs["teams"]["status"]["serving"]
    assert "revision" not in cluster.catalogs["teams"]["status"]
    assert cluster.floors() == {"net": 600_000}


def test_a_first_catalogue_that_is_bad_serves_nothing_and_disturbs_nobody() -> None:
    cluster = Cluster(nodes=NODES, teams=TOO_MUCH)

    assert outcome(cluster) == {"nodes": ACCEPTED, "teams": (Reason.INVALID_CATALOG, (TOO_MUCH_TEXT,))}
    assert "serving" not in cluster.catalogs["teams"]["status"]
    assert len(cluster.served().catalog.sizes) == 2


BREAKS_NET = (
    "breaks speccatalog/teams: spec.classes[0].floor.network.pps: network.pps is 600k, and the best allowed size has "
    "500k; lower it or allow other sizes"
)
SLOWER = NODES.replace("1M", "500k")
LOWER = "{classes: [{name: net, floor: {network: {pps: 400k}}}]}"
A_THEN_B = "{classes: [{name: a, fallback: [b]}]}"
B_THEN_C = "{classes: [{name: b, fallback: [c]}]}"
NO_A, NO_B, NO_C = (f"spec.classes[0].fallback: '{name}' is no class; known are {{}}" for name in "abc")


@pytest.mark.parametrize(
    ("before", "edits", "expected", "floors"),
    [
        pytest.param(
            {},
            {"teams": NET, "nodes": NODES},
            {"teams": ACCEPTED, "nodes": ACCEPTED},
            {"net": 600_000},
            id="classes and, in a younger object, the sizes that they need: accepted together",
        ),
        pytest.param(
            {"nodes": NODES, "teams": NET},
            {"nodes": SLOWER},
            {"nodes": (Reason.BREAKS_CATALOG, (BREAKS_NET,)), "teams": ACCEPTED},
            {"net": 600_000},
            id="an edit that takes away what another catalogue leans on is refused",
        ),
        pytest.param(
            {"nodes": NODES, "teams": NET},
            {"nodes": SLOWER, "teams": LOWER},
            {"nodes": ACCEPTED, "teams": ACCEPTED},
            {"net": 400_000},
            id="the same edit is right together with one that leans on less",
        ),
        pytest.param(
            {"nodes": NODES, "teams": NET, "more": "{classes: [{name: x}]}"},
            {"nodes": SLOWER, "more": "{classes: [{name: y}]}"},
            {"nodes": (Reason.BREAKS_CATALOG, (BREAKS_NET,)), "teams": ACCEPTED, "more": ACCEPTED},
            {"net": 600_000, "y": 0},
            id="a younger edit that has nothing to do with the fault is accepted",
        ),
        pytest.param(
            {"nodes": NODES, "one": "{classes: [{name: b}]}", "two": "{classes: [{name: c}]}"},
            {"one": A_THEN_B, "two": "{classes: [{name: b, fallback: [a]}]}"},
            {
                "nodes": ACCEPTED,
                "one": (
                    Reason.INVALID_CATALOG,
                    ("spec.classes[0].fallback: 'b' is no class; known are a, c",),
                ),
                "two": (
                    Reason.NAME_TAKEN,
                    (
                        "spec.classes[0].name: 'b' is defined at speccatalog/one spec.classes[0] already with other "
                        "figures; rename or remove one",
                    ),
                ),
            },
            {"b": 0, "c": 0},
            id="a ring of fallbacks through two edits is refused, and each is told what it meets alone",
        ),
        pytest.param(
            {"nodes": NODES},
            {"one": A_THEN_B, "two": "{classes: [{name: b}, {name: a2, fallback: [a]}]}"},
            {"nodes": ACCEPTED, "one": ACCEPTED, "two": ACCEPTED},
            {"a": 0, "a2": 0, "b": 0},
            id="two edits that need one another are accepted together",
        ),
        pytest.param(
            {"nodes": NODES},
            {"one": A_THEN_B, "two": B_THEN_C},
            {
                "nodes": ACCEPTED,
                "one": (Reason.INVALID_CATALOG, ("spec.classes[0].fallback: 'b' is no class; known are a",)),
                "two": (Reason.INVALID_CATALOG, ("spec.classes[0].fallback: 'c' is no class; known are b",)),
            },
            {},
            id="an edit that needs a wrong edit is refused with it",
        ),
        pytest.param(
            {"nodes": NODES},
            {"one": NET, "two": NET_AT_900},
            {
                "nodes": ACCEPTED,
                "one": ACCEPTED,
                "two": (
                    Reason.NAME_TAKEN,
                    (
                        "spec.classes[0].name: 'net' is defined at speccatalog/one spec.classes[0] already with other "
                        "figures; rename or remove one",
                    ),
                ),
            },
            {"net": 600_000},
            id="two new objects define one name: the older has it",
        ),
        pytest.param(
            {"nodes": NODES, "one": "{classes: []}", "two": NET},
            {"one": NET_AT_900},
            {
                "nodes": ACCEPTED,
                "one": (
                    Reason.NAME_TAKEN,
                    (
                        "spec.classes[0].name: 'net' is defined at speccatalog/two spec.classes[0] already with other "
                        "figures; rename or remove one",
                    ),
                ),
                "two": ACCEPTED,
            },
            {"net": 600_000},
            id="an older object takes no name that serves from a younger one",
        ),
        pytest.param(
            {"nodes": NODES, "one": NET},
            {"two": NET},
            {"nodes": ACCEPTED, "one": ACCEPTED, "two": ACCEPTED},
            {"net": 600_000},
            id="the same definition in two catalogues is no conflict",
        ),
        pytest.param(
            {"nodes": NODES, "one": NET, "two": NET},
            {"one": "{classes: []}"},
            {"nodes": ACCEPTED, "one": ACCEPTED, "two": ACCEPTED},
            {"net": 600_000},
            id="so a class moves to another catalogue",
        ),
        pytest.param(
            {"nodes": NODES, "one": NET},
            {"one": "{classes: []}", "two": NET_AT_900},
            {"nodes": ACCEPTED, "one": ACCEPTED, "two": ACCEPTED},
            {"net": 900_000},
            id="a name that one edit gives up is free for another at once",
        ),
        pytest.param(
            {"nodes": NODES, "b": "{classes: [{name: c}]}", "x": "{classes: [{name: x, fallback: [c]}]}"},
            {
                "x": "{classes: [{name: x, fallback: [c, y]}]}",
                "y": "{classes: [{name: y, fallback: [x]}]}",
                "b": "{classes: []}",
            },
            {
                "nodes": ACCEPTED,
                "b": (
                    Reason.BREAKS_CATALOG,
                    ("breaks speccatalog/x: spec.classes[0].fallback: 'c' is no class; known are x, y",),
                ),
                "x": (
                    Reason.INVALID_CATALOG,
                    (
                        "spec.classes[0].fallback: comes back to the class itself: x → y → x; remove one of them",
                        "breaks speccatalog/y: spec.classes[0].fallback: comes back to the class itself: y → x → y; "
                        "remove one of them",
                    ),
                ),
                "y": ACCEPTED,
            },
            {"c": 0, "x": 0, "y": 0},
            id="of edits that cannot all be, one that is right without the others is accepted",
        ),
    ],
)
def test_edits_are_judged_together(
    before: dict[str, str], edits: dict[str, str], expected: dict[str, Any], floors: dict[str, int]
) -> None:
    cluster = Cluster(**before)
    cluster.reconcile()
    for name, spec in edits.items():
        cluster.edit(name, spec)

    assert outcome(cluster) == expected
    assert cluster.floors() == floors
    assert cluster.served().problems == ()


def test_a_wrong_edit_does_not_hold_up_two_others_that_need_one_another() -> None:
    """`nodes` takes away what `teams` leans on; that is its own fault, whatever else is edited meanwhile."""
    cluster = Cluster(nodes=NODES, teams=NET, one="{classes: [{name: a}]}")
    cluster.reconcile()
    cluster.edit("one", "{classes: [{name: a, fallback: [b]}, {name: c}]}")
    cluster.edit("two", "{classes: [{name: b, fallback: [c]}]}")
    cluster.edit("nodes", SLOWER)

    found = {name: reason for name, (reason, _) in outcome(cluster).items()}

    assert found == {
        "nodes": Reason.BREAKS_CATALOG,
        "teams": Reason.ACCEPTED,
        "one": Reason.ACCEPTED,
        "two": Reason.ACCEPTED,
    }


def test_a_refusal_reads_the_same_in_the_next_round() -> None:
    """Which of two catalogues with the same class is said to break must not depend on which was edited last."""
    cluster = Cluster(nodes=NODES, one="{classes: []}", two=NET)
    cluster.reconcile()
    cluster.edit("nodes", SLOWER)
    cluster.edit("one", NET)

    first = outcome(cluster)

    assert first["nodes"] == (Reason.BREAKS_CATALOG, (BREAKS_NET.replace("teams", "one"),))
    assert outcome(cluster) == first


def test_what_was_refused_is_accepted_once_what_it_lacked_is_there() -> None:
    cluster = Cluster(teams=NET)
    lacks = "spec.classes[0]: no size is loaded to serve it; name the catalogue that has them too, as the shipped `ecs`"
    assert outcome(cluster) == {"teams": (Reason.INVALID_CATALOG, (lacks,))}
    cluster.edit("nodes", NODES)

    assert outcome(cluster) == {"nodes": ACCEPTED, "teams": ACCEPTED}


def test_a_deleted_catalogue_takes_only_itself_away() -> None:
    """Classes stay, so that their pods are told what is missing; a fallback that is gone is tried no more."""
    teams = "{classes: [{name: net, floor: {network: {pps: 600k}}, fallback: [b]}, {name: any}]}"
    cluster = Cluster(slow="{sizes: [{name: s, vcpu: 2, memory: 4Gi}]}", nodes=NODES, b="{classes: [{name: b}]}")
    cluster.edit("teams", teams)
    cluster.reconcile()
    serving = cluster.catalogs["teams"]["status"]["serving"]
    cluster.delete("nodes")
    cluster.delete("b")

    problems = (
        "spec.classes[0].fallback: 'b' is no class; known are any, net",
        "spec.classes[0].floor.network.pps: none of the 1 allowed sizes publishes network.pps; drop the floor",
    )
    assert outcome(cluster) == {"slow": ACCEPTED, "teams": (Reason.INVALID_CATALOG, problems)}
    status = cluster.catalogs["teams"]["status"]
    assert status["serving"] == status["revision"] == serving
    assert status["conditions"][0]["message"] == "; ".join([*problems, "what still holds of it is served on"])
    served = cluster.served()
    assert {name: sla_class.fallback for name, sla_class in served.catalog.classes.items()} == {"any": (), "net": ()}
    assert served.problems == tuple(f"speccatalog/teams: {problem}" for problem in problems)


def test_a_catalogue_that_is_hurt_by_a_deletion_can_still_be_edited_by_others() -> None:
    cluster = Cluster(nodes=NODES, b="{classes: [{name: b}]}", teams="{classes: [{name: a, fallback: [b]}]}")
    cluster.reconcile()
    cluster.delete("b")
    cluster.reconcile()
    cluster.edit("other", "{classes: [{name: c}]}")

    assert {name: verdict.accepted for name, verdict in cluster.reconcile().items()} == {
        "nodes": True,
        "teams": False,
        "other": True,
    }


def test_a_lost_status_is_found_again_among_what_was_kept() -> None:
    """As after a restore without the status subresource, while the newest edit is bad."""
    cluster = Cluster(nodes=NODES, teams=NET)
    cluster.reconcile()
    cluster.edit("teams", NET_AT_900)
    serving = cluster.reconcile()["teams"].serving
    cluster.edit("teams", TOO_MUCH)
    cluster.reconcile()
    for thing in cluster.catalogs.values():
        thing.pop("status")

    assert cluster.reconcile()["teams"].serving == serving
    assert cluster.floors() == {"net": 900_000}


def test_a_catalogue_that_is_created_again_has_nothing_of_its_predecessor() -> None:
    """Even while the garbage collector has not come by."""
    cluster = Cluster(nodes=NODES, teams=NET)
    cluster.reconcile()
    left = dict(cluster.revisions)
    cluster.delete("teams")
    cluster.revisions = left
    cluster.edit("teams", TOO_MUCH)
    assert cluster.reconcile()["teams"].serving is None
    cluster.edit("teams", NET)

    verdict = cluster.reconcile()["teams"]

    assert verdict.keep == Keep(str(verdict.revision), 1, None)
    assert len(cluster.revisions) == 3


def test_what_a_deleted_owner_left_behind_is_taken_up() -> None:
    """`kubectl delete --cascade=orphan`, and a catalogue of that name whose first edit is bad."""
    cluster = Cluster(nodes=NODES, teams=NET)
    serving = cluster.reconcile()["teams"].serving
    del cluster.catalogs["teams"]
    for thing in cluster.revisions.values():
        if thing["metadata"]["labels"]["podsla.io/catalog"] == "teams":
            thing["metadata"]["ownerReferences"] = []
    cluster.edit("teams", TOO_MUCH)

    assert cluster.reconcile()["teams"].serving == serving


def test_going_back_to_an_earlier_spec_makes_its_revision_the_newest_again() -> None:
    cluster = Cluster(nodes=NODES, teams=NET)
    first = cluster.reconcile()["teams"].serving
    cluster.edit("teams", NET_AT_900)
    second = cluster.reconcile()["teams"].serving
    cluster.edit("teams", NET)

    assert cluster.reconcile()["teams"].serving == first
    own = kept_of(cluster.catalogs["teams"], read_kept(cluster.revisions.values()))
    assert [(kept.revision, kept.number) for kept in own] == [(first, 3), (second, 2)]


def test_a_crash_between_keeping_and_saying_so_is_healed() -> None:
    cluster = Cluster(nodes=NODES, teams=NET)
    cluster.reconcile()
    cluster.edit("teams", NET_AT_900)
    cluster.keep(cluster.judge()["teams"])
    assert cluster.floors() == {"net": 600_000}, "replicas go by the status"
    cluster.memo = Memo()

    assert outcome(cluster) == {"nodes": ACCEPTED, "teams": ACCEPTED}
    assert cluster.floors() == {"net": 900_000}
    assert len(cluster.revisions) == 3


def test_a_crash_between_keeping_and_saying_so_is_healed_when_the_edit_was_taken_back() -> None:
    cluster = Cluster(nodes=NODES, teams=NET)
    cluster.reconcile()
    cluster.edit("teams", NET_AT_900)
    cluster.keep(cluster.judge()["teams"])
    cluster.edit("teams", NET)
    cluster.reconcile()
    for thing in cluster.catalogs.values():
        thing.pop("status")

    assert cluster.floors() == {"net": 600_000}


def test_a_kept_revision_that_is_gone_is_kept_anew() -> None:
    cluster = Cluster(nodes=NODES, teams=NET)
    cluster.reconcile()
    cluster.revisions.clear()

    assert outcome(cluster) == {"nodes": ACCEPTED, "teams": ACCEPTED}
    assert cluster.floors() == {"net": 600_000}


def test_a_revision_that_is_hashed_otherwise_by_now_is_kept_anew() -> None:
    """As after an update of podsla whose model has one field more: the spec is the same, its hash is not."""
    cluster = Cluster(nodes=NODES)
    revision = cluster.reconcile()["nodes"].revision
    (thing,) = cluster.revisions.values()
    thing["metadata"]["annotations"]["podsla.io/revision"] = "sha256:of-old"
    thing["metadata"]["name"] = "nodes-of-old"
    cluster.revisions = {"nodes-of-old": thing}
    cluster.catalogs["nodes"]["status"]["serving"] = "sha256:of-old"

    assert cluster.reconcile()["nodes"].keep == Keep(str(revision), 2, None)


def test_a_kept_spec_that_cannot_be_read_any_more_serves_what_is_sound_of_it() -> None:
    """As after an update of podsla that is stricter; nobody else is held up by it."""
    cluster = Cluster(nodes=NODES)
    cluster.reconcile()
    (thing,) = cluster.revisions.values()
    thing["data"]["spec"] = yaml.safe_load(NODES.replace("vcpu: 8", "vcpus: 8"))
    cluster.catalogs["nodes"]["spec"] = thing["data"]["spec"]
    cluster.catalogs["nodes"]["metadata"]["generation"] += 1
    serving = cluster.catalogs["nodes"]["status"]["serving"]
    cluster.edit("teams", NET)

    verdicts = cluster.reconcile()

    assert (verdicts["nodes"].accepted, verdicts["nodes"].serving, verdicts["nodes"].sizes) == (False, serving, 1)
    assert verdicts["teams"].accepted
    assert [size.name for size in cluster.served().catalog.sizes] == ["m"]
    cluster.edit("teams", TOO_MUCH)
    assert cluster.reconcile()["teams"].problems == (TOO_MUCH_TEXT,)


def test_objects_that_keep_nothing_are_passed_over() -> None:
    """Other ControllerRevisions live in the namespace too: of DaemonSets, and of the target."""
    metadata = {"name": "x", "labels": {"podsla.io/target": "true"}}
    assert read_kept([{"metadata": {"name": "agent-7d9f"}, "data": {}}, {"metadata": metadata}]) == ()


def test_no_catalogue_at_all_is_an_empty_one() -> None:
    assert Cluster().reconcile() == {}
    assert (Cluster().served().catalog.sizes, Cluster().served().catalog.classes) == ((), {})


# Files and objects


def of_text(sizes: str = SIZES, classes: str = CLASSES) -> str:
    return (
        f"apiVersion: podsla.io/v1beta1\nkind: SpecCatalog\nmetadata: {{name: test}}\nspec:\n  sizes:{sizes}  "
        f"classes:{classes}"
    )


def as_object(text: str) -> dict[str, Any]:
    """What the API server gives back for a file: JSON, with numbers where YAML has numbers."""
    found: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(text), default=str))
    return {**found, "metadata": {**found["metadata"], "uid": "u", "generation": 1, "managedFields": [{}]}}


def test_a_file_and_the_object_made_of_it_have_one_revision() -> None:
    text = of_text()
    assert parse(as_object(text)).revision == read_catalog(parse_documents(text, "test.yaml")).revision


def test_the_shipped_catalogue_has_one_revision_as_a_file_and_as_an_object() -> None:
    file = shipped_catalogs()["ecs"]
    assert parse(as_object(file.read_text())).revision == read_catalog(load_documents([file])).revision


@pytest.mark.parametrize("number", ["0.5", "2.0", "0.1", "1e1", "1.5e1", "0.001", "4", "1.005"])
def test_a_number_with_a_point_in_json_means_what_it_means_in_yaml(number: str) -> None:
    """JSON readers make a float of it, and 1.005 is no sum of powers of two."""
    text = of_text(f"\n  - {{name: s, vcpu: {number}, memory: 4Gi}}\n", " []\n")
    thing = as_object(text)
    thing["spec"]["sizes"][0]["vcpu"] = json.loads(number)

    file = read_catalog(parse_documents(text, "test.yaml"))

    assert parse(thing).part.sizes[0].value.figures[VCPU.index] == file.sizes[0].figures[VCPU.index]
    assert parse(thing).revision == file.revision


@given(thousandths=st.integers(1, 10**6))
def test_any_number_of_millicores_comes_through_json(thousandths: int) -> None:
    thing = {"metadata": {"name": "x"}, "spec": {"sizes": [{"name": "s", "vcpu": thousandths / 1000, "memory": "4Gi"}]}}
    assert parse(thing).part.sizes[0].value.figures[VCPU.index] == thousandths


def test_a_faulty_number_is_told_as_it_was_written() -> None:
    cluster = Cluster(nodes="{sizes: [{name: m, vcpu: 4, memory: 8Gi, network: {pps: 0.25}}]}")
    message = "spec.sizes[0].network.pps: '0.25' is no whole number of units; m is a thousandth, M a million: write "
    assert cluster.reconcile()["nodes"].problems == (f"{message}2500, 2M",)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        pytest.param(None, "spec: is empty; give it a value or leave it out", id="no spec"),
        pytest.param({"sizes": "x"}, "spec.sizes: must be a list, and is 'x'", id="sizes are no list"),
        pytest.param({"sizes": [None]}, "spec.sizes[0]: is empty; give it a value or leave it out", id="an empty size"),
    ],
)
def test_a_spec_that_no_crd_would_let_through_is_judged_all_the_same(spec: Any, problem: str) -> None:
    thing = {"metadata": {"name": "x", "uid": "u", "generation": 1}, "spec": spec}
    assert judge([thing], [], Memo())[0].problems == (problem,)


def shuffled(value: Any, order: random.Random, key: str = "") -> Any:
    """Write the same thing in another order; that of fallbacks means something."""
    if isinstance(value, dict):
        items = [(k, shuffled(v, order, k)) for k, v in value.items()]
        return dict(order.sample(items, len(items)))
    if isinstance(value, list):
        items = [shuffled(v, order) for v in value]
        return items if key == "fallback" else order.sample(items, len(items))
    return value


@given(seed=st.integers())
def test_the_order_of_fields_and_lists_changes_no_revision(seed: int) -> None:
    more = (
        "  - {name: z, gpu: {models: [T4, A10]}, fallback: [plain, net], namespaces: {matchExpressions: "
        "[{key: a, operator: In, values: [x, y]}, {key: b, operator: Exists}]}, "
        "tolerations: [{key: a, operator: Exists}, {key: b, operator: Exists}], sizes: {families: [gn, s]}}\n"
    )
    thing = as_object(of_text(classes=CLASSES + more))
    assert parse(shuffled(thing, random.Random(seed))).revision == parse(thing).revision  # noqa: S311 - an order, no secret


def test_the_order_of_fallbacks_is_a_revision() -> None:
    one, two = ({"classes": [{"name": "a", "fallback": order}]} for order in (["b", "c"], ["c", "b"]))
    assert len({parse({"metadata": {"name": "x"}, "spec": spec}).revision for spec in (one, two)}) == 2


# Whatever is edited

POOL = {
    "nodes": [NODES, SLOWER, "{sizes: []}", "{sizes: [{name: m, vcpu: 2, memory: 8Gi}]}", "{sizes: [{name: m}]}"],
    "one": [NET, NET_AT_900, "{classes: []}", A_THEN_B, "{classes: [{name: b}]}", "{clases: []}"],
    "two": [NET, LOWER, B_THEN_C, "{classes: [{name: b, fallback: [a]}]}", "{classes: [{name: b}, {name: c}]}"],
    "three": [NODES, "{sizes: [{name: m, vcpu: 4, memory: 8Gi}], classes: [{name: c, sizes: {names: [m]}}]}"],
}
EDITS = [(name, spec) for name, specs in POOL.items() for spec in specs]


@given(rounds=st.lists(st.lists(st.sampled_from(EDITS), min_size=1, max_size=4), min_size=1, max_size=6))
def test_whatever_is_edited_what_serves_is_right_and_stays(rounds: list[list[tuple[str, str]]]) -> None:
    cluster = Cluster()
    for edits in rounds:
        before = {n: t["status"].get("serving") for n, t in cluster.catalogs.items()}
        for name, spec in edits:
            cluster.edit(name, spec)
        verdicts = cluster.reconcile()

        assert cluster.served().problems == ()  # nothing that serves is wrong
        for name, serving in before.items():
            assert not serving or verdicts[name].serving  # nothing is lost
        for name, verdict in verdicts.items():
            assert verdict.accepted == (not verdict.problems)
            assert verdict.accepted == (verdict.revision is not None and verdict.serving == verdict.revision)
            assert verdict.accepted or verdict.serving == before.get(name)  # a refused edit changes nothing
            assert verdict.accepted or not _would_fit(cluster, name)  # and is refused for a reason
        revisions, statuses = json.dumps(cluster.revisions), json.dumps(cluster.catalogs)
        cluster.memo = Memo()
        cluster.now += timedelta(hours=1)
        assert cluster.reconcile() == {n: _settled(v) for n, v in verdicts.items()}  # another look says the same
        assert (json.dumps(cluster.revisions), json.dumps(cluster.catalogs)) == (revisions, statuses)


def _settled(verdict: Verdict) -> Verdict:
    return Verdict(**{**{f: getattr(verdict, f) for f in Verdict.__slots__}, "keep": None})


def _would_fit(cluster: Cluster, name: str) -> bool:
    """Tell whether what serves and one refused edit would be right together."""
    kept = read_kept(cluster.revisions.values())
    specs = {n: good.spec for n, t in cluster.catalogs.items() if (good := last_good(t, kept))}
    return not merge({**specs, name: cluster.catalogs[name]["spec"]}).problems


def test_nothing_is_read_twice_that_did_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statuses are written by the dozen, and a catalogue of a thousand sizes takes a quarter of a second to read."""
    cluster = Cluster(nodes=NODES, teams=NET)
    cluster.reconcile()
    cluster.edit("teams", TOO_MUCH)
    cluster.reconcile()
    cluster.reconcile()
    read: list[str] = []

    def noted(thing: Mapping[str, Any]) -> Parsed:
        read.append(thing["metadata"]["name"])
        return parse(thing)

    monkeypatch.setattr("catalog.accept.parse", noted)

    cluster.reconcile()
    cluster.catalogs["teams"]["status"]["pods"] = 3
    cluster.reconcile()
    assert read == []
    cluster.edit("teams", NET_AT_900)
    assert cluster.reconcile()["teams"].accepted
    assert read == ["teams"]


# Status


def test_the_status_says_what_serves_and_since_when() -> None:
    cluster = Cluster(nodes=NODES, teams=NET)
    cluster.reconcile()
    first = cluster.catalogs["teams"]["status"]
    cluster.now = NOW + timedelta(minutes=5)
    cluster.edit("teams", TOO_MUCH)
    cluster.reconcile()

    condition = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "0 sizes and 1 class are served",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-23T12:00:00Z",
    }
    serving = first["serving"]
    assert first == {
        "observedGeneration": 1,
        "revision": serving,
        "serving": serving,
        "sizes": 0,
        "classes": 1,
        "conditions": [condition],
    }
    refused = {
        "type": "Accepted",
        "status": "False",
        "reason": "InvalidCatalog",
        "message": f"{TOO_MUCH_TEXT}; {serving[:19]} is served on",
        "observedGeneration": 2,
        "lastTransitionTime": "2026-11-23T12:05:00Z",
    }
    now = cluster.catalogs["teams"]["status"]
    assert now["conditions"] == [refused]
    assert now["serving"] == serving
    assert now["revision"] == parse(cluster.catalogs["teams"]).revision != serving


def test_a_condition_keeps_its_time_until_it_changes_and_others_stay() -> None:
    cluster = Cluster(nodes=NODES)
    verdict = cluster.reconcile()["nodes"]
    other = {"type": "Published", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    thing = cluster.catalogs["nodes"]
    thing["status"]["conditions"].append(other)
    assert status_of(verdict, thing, NOW + timedelta(hours=1)) == {}
    thing["metadata"]["generation"] = 2  # a field that means nothing was edited

    patch = status_of(verdict, thing, NOW + timedelta(hours=1))["status"]

    assert patch.keys() == {"observedGeneration", "conditions"}
    assert [c["lastTransitionTime"] for c in patch["conditions"]] == ["2026-11-23T12:00:00Z", "2026-01-01T00:00:00Z"]


def test_a_status_that_names_a_revision_no_more_takes_it_away() -> None:
    cluster = Cluster(nodes=NODES)
    cluster.reconcile()
    cluster.edit("nodes", "{sizes: [{name: m}]}")
    patch = status_of(cluster.judge()["nodes"], cluster.catalogs["nodes"], NOW)["status"]
    assert patch["revision"] is None
    assert "serving" not in patch


def test_a_long_list_of_problems_is_cut_with_the_number_of_the_rest() -> None:
    cluster = Cluster(nodes=NODES, teams={"classes": [{"name": f"c{i}", "fallback": ["x"]} for i in range(100)]})
    cluster.reconcile()

    message = cluster.catalogs["teams"]["status"]["conditions"][0]["message"]

    assert len(message) <= MAX_MESSAGE_CHARACTERS
    first = (
        "spec.classes[0].fallback: 'x' is no class; known are c0, c1, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19"
    )
    assert message.startswith(f"{first}, …; spec.classes[1].fallback: 'x' is no class; ")
    assert message.endswith("; and 92 more: `podsla catalog lint` of its file tells all; nothing of it is served")


@given(problems=st.lists(st.text(min_size=1, max_size=3000), min_size=1, max_size=30))
def test_a_message_is_never_longer_than_a_status_may_hold(problems: list[str]) -> None:
    verdict = Verdict("x", None, "sha256:" + "0" * 64, Reason.INVALID_CATALOG, tuple(problems), 1, 1, None)
    thing = {"metadata": {"name": "x", "generation": 1}}
    condition = status_of(verdict, thing, NOW)["status"]["conditions"][0]
    assert condition["message"].startswith(problems[0][:500])
    assert condition["message"].endswith("sha256:000000000000 is served on")
    assert len(condition["message"]) <= MAX_MESSAGE_CHARACTERS


# What is kept


def test_ten_revisions_are_kept_and_every_one_that_is_needed() -> None:
    cluster = Cluster(nodes=NODES)
    revisions: list[str] = []
    for cost in range(1, 16):
        cluster.edit("nodes", f"{{sizes: [{{name: m, vcpu: 4, memory: 8Gi, cost: {cost}}}]}}")
        revisions.append(str(cluster.reconcile()["nodes"].serving))
    cluster.catalogs["nodes"]["status"]["serving"] = revisions[1]  # a status that lags behind, or was set back
    kept = read_kept(cluster.revisions.values())

    name_of = {one.revision: one.name for one in kept}
    gone = prune([*cluster.catalogs.values()], kept, {name_of[revisions[3]]})

    left = {one.revision for one in kept if one.name not in gone}
    assert left == {*revisions[-KEPT:], revisions[1], revisions[3]}
    assert (
        prune([*cluster.catalogs.values()], [one for one in kept if one.name not in gone], {name_of[revisions[3]]})
        == ()
    )


def test_what_a_deleted_catalogue_left_is_the_garbage_collectors() -> None:
    cluster = Cluster(nodes=NODES)
    cluster.reconcile()
    assert prune([], read_kept(cluster.revisions.values()), ()) == ()


def test_sizes_are_values_of_one_model() -> None:
    """What is parsed of an object is what a file gives: nothing of JSON is left in it."""
    size = parse(as_object(of_text())).part.sizes[0].value
    assert isinstance(size, SandboxSize)
    assert all(figure is None or type(figure) is int for figure in size.figures)

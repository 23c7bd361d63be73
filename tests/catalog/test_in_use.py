"""A class that pods run in does not go by mistake."""

import pytest

from catalog.verdict import Reason, status_of
from tests.catalog.test_accept import ACCEPTED, NET, NET_AT_900, NODES, NOW, Cluster, outcome

TWO = "{classes: [{name: net, floor: {network: {pps: 600k}}}, {name: disk}]}"
DISK = "{classes: [{name: disk}]}"
NOTHING = "{classes: []}"


def in_use(pods: str, run: str, first: str = "mark it `deprecated` first") -> tuple[Reason, tuple[str, ...]]:
    text = (
        f"spec.classes: class 'net' is gone, and {pods} {run} in it; "
        f"{first}, or annotate the catalogue podsla.io/allow-removal: net"
    )
    return Reason.CLASS_IN_USE, (text,)


@pytest.mark.parametrize(("count", "pods", "run"), [(1, "1 pod", "runs"), (118, "118 pods", "run")])
def test_a_class_that_pods_run_in_is_not_removed(count: int, pods: str, run: str) -> None:
    cluster = Cluster(nodes=NODES, teams=TWO)
    cluster.reconcile()
    cluster.used = {"net": count}
    cluster.edit("teams", DISK)

    assert outcome(cluster) == {"nodes": ACCEPTED, "teams": in_use(pods, run)}
    assert set(cluster.floors()) == {"net", "disk"}


def test_how_many_pods_run_in_it_is_counted_anew() -> None:
    """In the sentence alone: it is no news of the edit, and waits until whoever counts pods writes."""
    cluster = Cluster(nodes=NODES, teams=TWO)
    cluster.reconcile()
    cluster.used = {"net": 118}
    cluster.edit("teams", DISK)
    cluster.reconcile()
    cluster.used = {"net": 2}

    assert outcome(cluster)["teams"] == in_use("2 pods", "run")
    thing = cluster.catalogs["teams"]
    assert "118 pods run in it" in thing["status"]["conditions"][0]["message"]
    assert status_of(cluster.judge()["teams"], thing, NOW) == {}


def test_one_that_is_deprecated_already_waits_for_its_pods() -> None:
    cluster = Cluster(nodes=NODES, teams=TWO.replace("{name: net,", "{name: net, deprecated: {replacedBy: disk},"))
    cluster.reconcile()
    cluster.used = {"net": 2}
    cluster.edit("teams", DISK)

    assert outcome(cluster)["teams"] == in_use("2 pods", "run", "wait until they are gone")


def test_it_goes_once_the_last_pod_is_gone() -> None:
    """Judging again needs no edit."""
    cluster = Cluster(nodes=NODES, teams=TWO)
    cluster.reconcile()
    cluster.used = {"net": 1}
    cluster.edit("teams", DISK)
    cluster.reconcile()
    cluster.used = {}

    assert outcome(cluster) == {"nodes": ACCEPTED, "teams": ACCEPTED}
    assert set(cluster.floors()) == {"disk"}


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [("net", False), ("disk, net", False), ("disk", True), ("", True), ("network", True)],
)
def test_an_annotation_names_what_may_go(allowed: str, refused: bool) -> None:
    cluster = Cluster(nodes=NODES, teams=TWO)
    cluster.reconcile()
    cluster.used = {"net": 3}
    cluster.edit("teams", DISK)
    cluster.reconcile()
    cluster.catalogs["teams"]["metadata"]["annotations"] = {"podsla.io/allow-removal": allowed}

    assert (cluster.reconcile()["teams"].reason is Reason.CLASS_IN_USE) is refused
    assert ("net" in cluster.floors()) is refused


def test_a_class_that_is_used_may_change() -> None:
    cluster = Cluster(nodes=NODES, teams=NET)
    cluster.reconcile()
    cluster.used = {"net": 3}
    cluster.edit("teams", NET_AT_900)
    assert outcome(cluster) == {"nodes": ACCEPTED, "teams": ACCEPTED}
    assert cluster.floors() == {"net": 900_000}


def test_a_class_moves_to_another_catalogue_that_defines_it_identically() -> None:
    """In two edits, or in one round: nobody is without it at any moment."""
    cluster = Cluster(nodes=NODES, teams=TWO)
    cluster.reconcile()
    cluster.used = {"net": 3}
    cluster.edit("edge", NET)
    cluster.edit("teams", DISK)
    assert outcome(cluster) == {"nodes": ACCEPTED, "teams": ACCEPTED, "edge": ACCEPTED}
    assert cluster.floors() == {"net": 600_000, "disk": 0}


def test_a_move_to_a_catalogue_that_is_refused_is_no_move() -> None:
    cluster = Cluster(nodes=NODES, teams=TWO)
    cluster.reconcile()
    cluster.used = {"net": 3}
    cluster.edit("edge", "{classes: [{name: net, floor: {network: {pps: 600k}}}, {name: bad, fallback: [gone]}]}")
    cluster.edit("teams", DISK)
    found = outcome(cluster)
    assert found["teams"] == in_use("3 pods", "run")
    assert found["edge"][0] is Reason.INVALID_CATALOG
    assert set(cluster.floors()) == {"net", "disk"}


def test_other_faults_of_the_edit_are_told_with_it() -> None:
    cluster = Cluster(nodes=NODES, teams=TWO)
    cluster.reconcile()
    cluster.used = {"net": 3}
    cluster.edit("teams", "{classes: [{name: disk, fallback: [net]}]}")
    reason, problems = outcome(cluster)["teams"]
    assert reason is Reason.INVALID_CATALOG
    assert [problem.partition(":")[0] for problem in problems] == ["spec.classes[0].fallback", "spec.classes"]
    assert set(cluster.floors()) == {"net", "disk"}


def test_a_deleted_catalogue_takes_its_classes_with_it() -> None:
    """Nobody is asked about a deletion; what runs, runs on."""
    cluster = Cluster(nodes=NODES, teams=NET)
    cluster.reconcile()
    cluster.used = {"net": 3}
    cluster.delete("teams")
    assert outcome(cluster) == {"nodes": ACCEPTED}
    cluster.edit("teams", NOTHING)
    assert outcome(cluster) == {"nodes": ACCEPTED, "teams": ACCEPTED}

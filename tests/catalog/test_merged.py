"""What a record's revision stands for stays readable as long as a pod names it."""

from typing import Any

import pytest

from catalog.merged import KEPT_MERGED, catalog_of, is_noted, needed, plan_merged, read_merged
from catalog.stored import KEPT, Kept, last_good, prune, read_kept
from tests.catalog.test_accept import NET, NET_AT_900, NODES, Cluster

NAMESPACE = "podsla-system"


class Notes:
    """What the controller does after every edit, on the objects of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.things = cluster, dict[str, dict[str, Any]]()
        self.used: set[str] = set()

    def reconcile(self) -> str:
        """Judge, note what serves, forget what nobody needs; say what serves."""
        cluster = self.cluster
        cluster.reconcile()
        serving = cluster.served().catalog.revision
        plan = plan_merged(serving, self.accepted(), read_merged(self.things.values()), self.used, NAMESPACE)
        if plan.create is not None:
            assert plan.create["metadata"]["name"] not in self.things
            self.things[plan.create["metadata"]["name"]] = plan.create
        if plan.renew is not None:
            self.things[plan.renew[0]]["revision"] = plan.renew[1]
        for name in plan.delete:
            del self.things[name]
        keep = needed(read_merged(self.things.values()), self.used)
        for name in prune([*cluster.catalogs.values()], self.kept(), keep):
            del cluster.revisions[name]
        again = plan_merged(serving, self.accepted(), read_merged(self.things.values()), self.used, NAMESPACE)
        assert (again.create, again.renew) == (None, None)
        return serving

    def kept(self) -> tuple[Kept, ...]:
        return read_kept(self.cluster.revisions.values())

    def accepted(self) -> list[Kept]:
        found = [last_good(thing, self.kept()) for thing in self.cluster.catalogs.values()]
        return [one for one in found if one is not None]

    def floors_at(self, revision: str) -> dict[str, int] | None:
        """Read the PPS floors of the classes that a revision had."""
        kept = {one.name: one for one in self.kept()}
        found = next((one for one in read_merged(self.things.values()) if one.revision == revision), None)
        catalog = catalog_of(found, kept) if found else None
        return {name: c.floor[3] for name, c in catalog.classes.items()} if catalog else None


def nodes(cost: int) -> str:
    return f"{{sizes: [{{name: m, vcpu: 4, memory: 8Gi, network: {{pps: 1M}}, cost: {cost}}}]}}"


@pytest.fixture
def notes() -> Notes:
    return Notes(Cluster(nodes=NODES, teams=NET))


def test_what_served_before_can_be_read_again(notes: Notes) -> None:
    first = notes.reconcile()
    notes.cluster.edit("teams", NET_AT_900)
    second = notes.reconcile()

    assert notes.floors_at(first) == {"net": 600_000}
    assert notes.floors_at(second) == {"net": 900_000}
    assert notes.floors_at("sha256:0") is None


def test_what_serves_again_is_the_newest_again(notes: Notes) -> None:
    first = notes.reconcile()
    notes.cluster.edit("teams", NET_AT_900)
    notes.reconcile()
    notes.cluster.edit("teams", NET)

    assert notes.reconcile() == first
    assert [(one.revision == first, one.number) for one in read_merged(notes.things.values())] == [
        (True, 3),
        (False, 2),
    ]


def test_ten_are_kept_and_every_one_that_a_pod_names_with_all_that_it_is_made_of(notes: Notes) -> None:
    first = notes.reconcile()
    notes.used = {first}
    served = [first]
    for cost in range(2, 3 * KEPT):
        notes.cluster.edit("nodes", nodes(cost))
        served.append(notes.reconcile())

    known = {one.revision for one in read_merged(notes.things.values())}
    assert known == {first, *served[-KEPT_MERGED - 1 :]}  # the newest came after the oldest went
    assert notes.floors_at(first) == {"net": 600_000}

    notes.used = set()
    notes.cluster.edit("nodes", nodes(999))
    notes.reconcile()
    notes.reconcile()
    assert notes.floors_at(first) is None
    assert len(notes.cluster.revisions) == KEPT + 1  # of the nodes, and one of the teams


def test_a_class_that_moves_changes_no_revision_and_is_noted_all_the_same(notes: Notes) -> None:
    """The parts differ, and the old ones may go with their catalogue."""
    first = notes.reconcile()
    notes.cluster.edit("edge", NET)
    assert notes.reconcile() == first
    notes.cluster.edit("teams", "{classes: []}")
    assert notes.reconcile() == first
    notes.cluster.delete("teams")
    assert notes.reconcile() == first
    assert notes.floors_at(first) == {"net": 600_000}


def test_only_what_served_together_is_noted(notes: Notes) -> None:
    notes.reconcile()
    before = notes.accepted()
    assert not is_noted(before, ())
    notes.cluster.edit("teams", NET_AT_900)
    notes.cluster.edit("nodes", nodes(7))
    notes.reconcile()
    after = notes.accepted()

    merged = read_merged(notes.things.values())
    assert is_noted(before, merged)
    assert is_noted(after, merged)
    assert not is_noted([before[0], after[1]], merged), "an old and a new one that never served together"
    assert not is_noted(after[:1], merged)
    assert is_noted([], merged), "nothing at all needs no note"


def test_what_lost_a_part_is_not_guessed(notes: Notes) -> None:
    first = notes.reconcile()
    notes.cluster.delete("teams")
    notes.reconcile()
    assert notes.floors_at(first) is None

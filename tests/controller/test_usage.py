"""What the status says of the pods that run, and of the nodes that hold what they were promised."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from catalog.stored import read_kept, revision_object
from catalog.verdict import Reason, Verdict, status_of
from controller.metrics import Metrics
from controller.usage import Usage, followed, owners, sized, usage_status
from kube.api import ApiError
from nodes.bound import Bound
from nodes.capacity import Held
from nodes.standing import ClassUse
from nodes.unsized import Unsized
from tests.builders import serving

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
EARLIER = "2026-11-01T00:00:00Z"
ACCEPTED = {"type": "Accepted", "status": "True", "reason": "Accepted", "lastTransitionTime": EARLIER}
USES = [ClassUse("disk", 1, 0), ClassUse("net", 117, 3)]
FOLLOWED = {
    "type": "Followed",
    "status": "True",
    "reason": "Followed",
    "message": "every node publishes what its size offers",
    "lastTransitionTime": EARLIER,
}
SIZED = {
    "type": "PodsSized",
    "status": "True",
    "reason": "AllSized",
    "message": "every running pod that names a class has its size",
    "lastTransitionTime": EARLIER,
}


def held(count: int) -> list[Held]:
    return [Held(f"n{number}", "ecs.c7.large", "podsla.io/pps", "950k", "1100k") for number in range(count)]


def test_the_status_counts_pods_by_class_and_leaves_other_conditions_alone() -> None:
    now = "2026-11-24T12:00:00Z"
    body = usage_status({"status": {"conditions": [ACCEPTED]}}, USES, [followed([]), sized([])], NOW)
    assert body == {
        "status": {
            "pods": 118,
            "usage": [{"class": "disk", "pods": 1, "misfits": 0}, {"class": "net", "pods": 117, "misfits": 3}],
            "conditions": [ACCEPTED, {**FOLLOWED, "lastTransitionTime": now}, {**SIZED, "lastTransitionTime": now}],
        }
    }


def test_nothing_is_written_where_the_status_says_so_already() -> None:
    status: dict[str, Any] = usage_status(
        {"status": {"conditions": [ACCEPTED, FOLLOWED, SIZED]}}, USES, [followed([]), sized([])], NOW
    )["status"]
    assert "conditions" not in status
    assert (
        usage_status(
            {"status": {**status, "conditions": [ACCEPTED, FOLLOWED, SIZED]}}, USES, [followed([]), sized([])], NOW
        )
        == {}
    )


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (
            1,
            "1 node publishes more than offered, for pods that are bound there and need it: "
            "n0 has podsla.io/pps 1100k, 950k is offered",
        ),
        (
            7,
            "7 nodes publish more than offered, for pods that are bound there and need it: "
            + "; ".join(f"n{number} has podsla.io/pps 1100k, 950k is offered" for number in range(5))
            + "; and 2 more",
        ),
    ],
)
def test_what_is_held_for_pods_is_said_with_both_figures(count: int, message: str) -> None:
    (condition,) = usage_status({}, [], [followed(held(count))], NOW)["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Followed", "False", "HeldForPods")
    assert condition["message"] == message


def test_the_condition_keeps_its_time_until_its_status_changes() -> None:
    thing = {"status": {"conditions": [FOLLOWED]}}
    (changed,) = usage_status(thing, [], [followed(held(1))], NOW)["status"]["conditions"]
    assert changed["lastTransitionTime"] == "2026-11-24T12:00:00Z"
    later = datetime(2026, 12, 24, tzinfo=UTC)
    (same,) = usage_status({"status": {"conditions": [changed]}}, [], [followed(held(2))], later)["status"][
        "conditions"
    ]
    assert same["lastTransitionTime"] == "2026-11-24T12:00:00Z"


@pytest.mark.parametrize(
    ("count", "message"),
    [(1, "1 pod names a class and runs without a size: a/p0"), (7, "7 pods name a class and run without a size: ")],
)
def test_pods_that_were_created_without_podsla_are_named(count: int, message: str) -> None:
    unsized = [Unsized(f"a/p{number}", "net", f"u{number}") for number in range(count)]
    (condition,) = usage_status({}, [], [sized(unsized)], NOW)["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodsSized", "False", "PodsNotSized")
    assert condition["message"].startswith(message)
    assert ("and 2 more" in condition["message"]) == (count == 7)
    assert condition["message"].endswith("delete them to have them created anew")


def kept(catalog: str, number: int, created: str, *sizes: str) -> dict[str, Any]:
    """A ControllerRevision, as the API server has it."""
    thing = {"metadata": {"name": catalog, "uid": catalog}, "spec": {"sizes": [{"name": name} for name in sizes]}}
    made = revision_object(thing, f"sha256:{number}", number, "podsla-system")
    return {**made, "metadata": {**made["metadata"], "creationTimestamp": created}}


OLD: Final = kept("old", 7, "2026-11-01T00:00:00Z", "a.large", "a.xlarge")
MOVED: Final = kept("new", 1, "2026-11-02T00:00:00Z", "a.large")


@pytest.mark.parametrize(
    ("serving", "owner"),
    [
        pytest.param([], "new", id="moved, then withdrawn: the catalogue it moved to"),
        pytest.param([MOVED], "new", id="moved"),
        pytest.param([OLD], "old", id="moved back by a rollback, which is an older revision"),
        pytest.param([OLD, MOVED], "old", id="in both: the older catalogue keeps the name"),
    ],
)
def test_a_size_is_of_the_catalogue_that_has_it_or_had_it_last(serving: list[dict[str, Any]], owner: str) -> None:
    assert owners([MOVED, OLD], read_kept(serving)) == {"a.large": owner, "a.xlarge": "old"}


class Site:
    """A catalogue whose class more and more pods get, and what is written of that."""

    def __init__(self, *names: str) -> None:
        self.now_s, self.pods, self.written, self.refused = 0.0, 0, list[int](), ""
        named = names or ("platform",)
        self.things: dict[str, Any] = {name: {"metadata": {"name": name, "resourceVersion": "1"}} for name in named}
        self.judged = cast(Any, SimpleNamespace(serving=None, verdicts={}))
        catalogs = SimpleNamespace(items=lambda: [*self.things.values()])
        revisions = SimpleNamespace(items=list)
        world: Any = SimpleNamespace(api=self, catalogs=catalogs, revisions=revisions, bound=self.bound)
        index = serving().index
        self.judged.serving = SimpleNamespace(
            current=lambda: SimpleNamespace(catalog=index.catalog, target=index.target), accepted=None
        )
        nothing: Any = SimpleNamespace(held=(), found=())
        self.usage = Usage(world, Metrics(lambda: True), self.judged, nothing, nothing, lambda: self.now_s)

    def bound(self) -> list[Bound]:
        return [Bound(f"a/p{n}", "n1", {}, {}, None, "net", "net", "medium", "", {}) for n in range(self.pods)]

    def patch(self, _resource: object, name: str, body: dict[str, Any], **_: object) -> dict[str, Any]:
        if name == self.refused:
            raise ApiError(f"PATCH {name}", 422, "Invalid", "refused")
        self.written.append(self.pods)
        self.things[name]["status"] = {**self.things[name].get("status", {}), **body["status"]}
        return {"metadata": {"resourceVersion": "2"}}


def test_the_status_is_written_every_ten_seconds_at_most_however_pods_come() -> None:
    site = Site()
    for _ in range(25):
        site.pods += 1
        site.usage.reconcile()
        site.now_s += 1.0
    assert site.written == [1, 11, 21]


def test_a_status_that_cannot_be_written_holds_up_no_other_and_is_tried_again() -> None:
    site = Site("first", "other")
    site.refused, site.pods = "first", 3
    with pytest.raises(ApiError, match="PATCH first: refused"):
        site.usage.reconcile()
    assert site.written == [3]


def in_use(pods: int, reason: Reason = Reason.CLASS_IN_USE) -> Verdict:
    return Verdict("platform", "sha256:new", "sha256:old", reason, (f"{pods} pods run in it",), 0, 1, None)


def test_the_word_on_an_edit_counts_its_pods_anew_whenever_the_status_is_written() -> None:
    """By the same write: what is judged anew all the time is told every ten seconds at most."""
    site, told = Site(), list[str]()
    thing = site.things["platform"]
    thing["metadata"]["generation"] = 2
    thing.update(status_of(in_use(100), thing, NOW))
    for _ in range(25):
        site.pods += 1
        site.judged.verdicts = {"platform": in_use(100 - site.pods)}
        assert status_of(site.judged.verdicts["platform"], thing, NOW) == {}
        site.usage.reconcile()
        told.append(thing["status"]["conditions"][0]["message"].partition(";")[0])
        site.now_s += 1.0

    assert site.written == [1, 11, 21]
    assert list(dict.fromkeys(told)) == [f"{pods} pods run in it" for pods in (99, 89, 79)]


def test_another_word_on_an_edit_is_left_to_who_judges() -> None:
    """What is accepted has to be kept before its status says so, and an edit that nobody judged yet has no word."""
    site = Site()
    thing = site.things["platform"]
    thing["metadata"]["generation"] = 2
    thing.update(status_of(in_use(100), thing, NOW))
    before = thing["status"]["conditions"][0]
    site.judged.verdicts = {"platform": in_use(0, Reason.ACCEPTED)}
    site.usage.reconcile()
    assert thing["status"]["conditions"][0] == before

    site.judged.verdicts, site.now_s = {"platform": in_use(50)}, 10.0
    site.pods, thing["metadata"]["generation"] = 1, 3
    site.usage.reconcile()
    assert thing["status"]["conditions"][0] == before
    assert site.written == [0, 1]

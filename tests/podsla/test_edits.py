"""What an edit would make of what serves, and what a rollback goes back to."""

from typing import Any

import pytest

from catalog.accept import Memo, judge
from catalog.diff import render_diff
from catalog.stored import Kept, read_kept, revision_object
from catalog.verdict import Reason
from catalog.yamltext import parse_documents
from podsla.commands.diff import alike
from podsla.edits import RollbackError, choose, compare, history, try_edit
from tests.builders import CATALOG, catalog_text, container, pod
from webhook.impact import NamedPod

NOW = "2026-11-23T12:00:00Z"
NEWER = catalog_text(classes="- {name: fast, description: x, floor: {cpu: {baseMHz: 2700}}}")
BAD = CATALOG.replace("600k", "9M")
WITHOUT_NET = CATALOG.partition("  - name: net\n")[0]


def spec(text: str) -> Any:
    return parse_documents(text, "catalog.yaml")[0].data["spec"]


def edit(text: str, name: str = "platform") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec(text)}


def lived(*texts: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A catalogue after edits, one after the other, and the ControllerRevisions that the controller kept."""
    metadata = {"name": "platform", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    thing: dict[str, Any] = {"metadata": metadata, "status": {}}
    revisions: list[dict[str, Any]] = []
    for generation, text in enumerate(texts, 1):
        thing = {**thing, "metadata": {**metadata, "generation": generation}, "spec": spec(text)}
        (verdict,) = judge([thing], read_kept(revisions), Memo())
        thing["status"] = {"serving": verdict.serving}
        if verdict.keep and verdict.keep.stored is None:
            made = revision_object(thing, verdict.keep.revision, verdict.keep.number, "podsla-system")
            made["metadata"]["creationTimestamp"] = f"2026-01-0{generation}T00:00:00Z"
            revisions.append(made)
        elif verdict.keep and verdict.keep.stored:
            next(r for r in revisions if r["metadata"]["name"] == verdict.keep.stored.name)["revision"] = (
                verdict.keep.number
            )
    return thing, revisions


@pytest.mark.parametrize(
    ("texts", "number", "chosen"),
    [
        pytest.param((CATALOG, NEWER), None, CATALOG, id="an accepted edit goes back to what served before"),
        pytest.param((CATALOG, BAD), None, CATALOG, id="a refused one to what still serves"),
        pytest.param((CATALOG, NEWER, BAD), None, NEWER, id="a refused one to the newest that was accepted"),
        pytest.param((CATALOG, NEWER, BAD), 1, CATALOG, id="a number of the user's choice"),
        pytest.param((CATALOG, NEWER, CATALOG), None, NEWER, id="a rollback is undone by another"),
    ],
)
def test_rollback_chooses(texts: tuple[str, ...], number: int | None, chosen: str) -> None:
    thing, revisions = lived(*texts)

    assert choose(thing, read_kept(revisions), number).spec == spec(chosen)


@pytest.mark.parametrize(
    ("texts", "number", "message"),
    [
        pytest.param(
            (CATALOG,), None,
            "catalogue platform has no other accepted revision; kept are 1: podsla catalog history platform",
            id="there was never another",
        ),
        pytest.param(
            (CATALOG, NEWER), 9, "catalogue platform has no revision 9; kept are 2, 1: podsla catalog history platform",
            id="no such number",
        ),
    ],
)  # fmt: skip
def test_rollback_says_what_there_is(texts: tuple[str, ...], number: int | None, message: str) -> None:
    thing, revisions = lived(*texts)

    with pytest.raises(RollbackError) as refused:
        choose(thing, read_kept(revisions), number)
    assert str(refused.value) == message


def test_history_is_newest_first_and_says_what_serves_and_what_is_written() -> None:
    thing, revisions = lived(CATALOG, NEWER, BAD)
    found = history(thing, revisions, read_kept(revisions))

    assert [(r.number, r.sizes, r.classes, r.serving, r.written, r.created[:10]) for r in found] == [
        (2, 3, 4, True, False, "2026-01-02"),
        (1, 3, 3, False, False, "2026-01-01"),
    ]


def test_what_a_rollback_changes_is_told_even_of_a_spec_that_is_wrong() -> None:
    thing, _ = lived(CATALOG, BAD)

    assert render_diff(compare(thing, spec(CATALOG)))[1:] == ["~ class net: floor.network.pps 9M → 600k"]


def tried(text: str, name: str = "platform", used: dict[str, int] | None = None, **annotations: str) -> Any:
    thing, revisions = lived(CATALOG)
    changed = {**edit(text, name)}
    changed["metadata"] = {"name": name, "annotations": annotations}
    kept: tuple[Kept, ...] = read_kept(revisions)
    return try_edit([thing], kept, {name: changed}, used or {}, NOW)


@pytest.mark.parametrize(
    ("found", "reason", "classes"),
    [
        pytest.param(tried(NEWER), Reason.ACCEPTED, ["fast", "general", "net", "steady"], id="a good edit"),
        pytest.param(tried(BAD), Reason.INVALID_CATALOG, ["general", "net", "steady"], id="a bad one changes nothing"),
        pytest.param(
            tried("spec: {classes: [{name: mine, description: x}]}", "team"), Reason.ACCEPTED,
            ["general", "mine", "net", "steady"], id="a further catalogue",
        ),
        pytest.param(
            tried("spec: {classes: [{name: net, description: x}]}", "team"), Reason.NAME_TAKEN,
            ["general", "net", "steady"], id="a further one that wants a name of the first",
        ),
        pytest.param(
            tried(WITHOUT_NET, used={"net": 3}), Reason.CLASS_IN_USE, ["general", "net", "steady"],
            id="a class that pods run in",
        ),
        pytest.param(
            tried(WITHOUT_NET, used={"net": 3}, **{"podsla.io/allow-removal": "net"}), Reason.ACCEPTED,
            ["general", "steady"], id="and its removal is allowed",
        ),
    ],
)  # fmt: skip
def test_try_edit(found: Any, reason: Reason, classes: list[str]) -> None:
    (verdict,) = found.verdicts

    assert verdict.reason is reason
    assert list(found.after.classes) == classes
    assert list(found.before.classes) == ["general", "net", "steady"]


RECORD = '{"class": "net"}'


def named(owner: str = "rs1", record: str = RECORD, cpu: str = "1", labels: Any = (), **spec: Any) -> NamedPod:
    owners = [{"uid": owner, "controller": True}] if owner else []
    metadata = {"ownerReferences": owners}
    annotations = {"podsla.io/record": record}
    made = pod("net", metadata=metadata, annotations=annotations, containers=[container(requests={"cpu": cpu})], **spec)
    return NamedPod("a/b", made, dict(labels))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param(named(volumes=[{"name": "token-x"}]), True, id="made of one template"),
        pytest.param(named("rs2"), False, id="by another owner"),
        pytest.param(named(""), False, id="by nobody"),
        pytest.param(named(record="{}"), False, id="another record"),
        pytest.param(named(cpu="2"), False, id="resized since"),
        pytest.param(named(labels={"podsla.io/default-class": "net"}), False, id="in a namespace of another kind"),
        pytest.param(named(nodeName="n1"), False, id="bound already"),
    ],
)
def test_pods_are_judged_once_where_no_decision_could_tell_them_apart(other: NamedPod, same: bool) -> None:
    assert (alike(named()) == alike(other)) is same

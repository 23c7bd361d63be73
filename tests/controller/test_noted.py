"""A replica serves only what is noted: a record that it writes can be read as long as a pod names it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from catalog.accept import Memo, judge
from catalog.merged import plan_merged, read_merged
from catalog.served import build, find_accepted
from catalog.stored import read_kept, revision_object
from catalog.verdict import status_of
from kube.api import Api
from kube.kinds import CONTROLLER_REVISIONS, SPEC_CATALOGS
from tests.controller.test_crashes import NAMESPACE, publish, sizes
from tests.waiting import eventually
from webhook.live import Live

pytestmark = pytest.mark.cluster

NAME: Final = "noted"


@pytest.fixture
def replica(bare: Api) -> Iterator[Live]:
    """A replica, beside no controller; its catalogue is the only one."""
    forget(bare)
    publish(bare, NAME, sizes("1M"))
    accept(bare)
    note(bare)
    live = Live(bare, NAMESPACE).start(30.0)
    yield live
    live.stop()
    forget(bare)


def forget(api: Api) -> None:
    """Delete every catalogue, and all that was kept of them."""
    for resource, namespace in ((SPEC_CATALOGS, ""), (CONTROLLER_REVISIONS, NAMESPACE)):
        for thing in api.list(resource, namespace):
            api.delete(resource, thing["metadata"]["name"], namespace)


def accept(api: Api) -> str:
    """Write what a controller writes of an edit up to its status, by hand; the revision that serves by it."""
    catalogs = list(api.list(SPEC_CATALOGS))
    kept = read_kept(api.list(CONTROLLER_REVISIONS, NAMESPACE))
    verdict = next(one for one in judge(catalogs, kept, Memo()) if one.catalog == NAME)
    thing = next(one for one in catalogs if one["metadata"]["name"] == NAME)
    if verdict.keep is not None:
        body = revision_object(thing, verdict.keep.revision, verdict.keep.number, NAMESPACE)
        api.create(CONTROLLER_REVISIONS, body, NAMESPACE)
    body = status_of(verdict, thing, datetime.now(UTC))
    return str(api.patch(SPEC_CATALOGS, NAME, body, subresource="status")["status"]["serving"])


def note(api: Api) -> str:
    """Write the note of what serves now; its revision."""
    revisions = list(api.list(CONTROLLER_REVISIONS, NAMESPACE))
    found = find_accepted(api.list(SPEC_CATALOGS), revisions, [])
    assert found is not None
    revision = build(found, Live(api, NAMESPACE).default, Memo()).catalog.revision
    plan = plan_merged(revision, found.kept, read_merged(revisions), (), NAMESPACE)
    assert plan.create is not None
    api.create(CONTROLLER_REVISIONS, plan.create, NAMESPACE)
    return revision


def pps(live: Live) -> Any:
    """What it serves."""
    serving = live.serving()
    return serving.index.catalog.sizes[0].figures[3] if serving else None


def sees(live: Live, serving: str) -> bool:
    """Whether an edit has come to a replica: its status, and what it names."""
    thing = live.catalogs.get(NAME) or {}
    kept = {one.revision for one in read_kept(live.revisions.items())}
    return bool(thing["status"]["serving"] == serving and serving in kept)


def test_a_replica_serves_what_it_served_before_until_the_new_is_noted(bare: Api, replica: Live) -> None:
    eventually(lambda: pps(replica) == 1_000_000, "the first one serves")
    publish(bare, NAME, sizes("2M"))
    serving = accept(bare)
    eventually(lambda: sees(replica, serving), "the replica sees the edit")
    replica.rebuild()
    assert pps(replica) == 1_000_000, "nobody could read a record of it later"

    revision = note(bare)
    eventually(lambda: pps(replica) == 2_000_000, "it serves, once it is noted")

    publish(bare, NAME, sizes("3M"))
    accept(bare)
    note(bare)
    eventually(lambda: pps(replica) == 3_000_000, "the next one serves")
    before = replica.serving()
    assert before is not None
    assert before.at(revision) is not None, "records of the one before are believed"


def test_a_replica_that_starts_before_the_note_is_not_ready_until_it_comes(bare: Api, replica: Live) -> None:
    publish(bare, NAME, sizes("2M"))
    serving = accept(bare)
    second = Live(bare, NAMESPACE).start(0.0)
    try:
        eventually(lambda: sees(second, serving), "the new replica sees the edit")
        second.rebuild()
        assert second.serving() is None
        note(bare)
        eventually(lambda: pps(second) == pps(replica) == 2_000_000, "both serve the same")
    finally:
        second.stop()

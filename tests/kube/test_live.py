"""The edge against a real API server: what is read, written and watched is what is there."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from pytest_kind import KindCluster

from kube.api import Api, ApiError, PatchKind
from kube.kinds import CONFIG_MAPS, LEASES, NAMESPACES
from kube.lease import Election
from kube.watch import Watched
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
HOME = "kube-edge"


@pytest.fixture(scope="module")
def api(kind_cluster: KindCluster) -> Iterator[Api]:
    api = Api.connect(Path(kind_cluster.kubeconfig_path))
    api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})
    yield api
    api.delete(NAMESPACES, HOME)


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_an_object_is_created_read_patched_replaced_and_deleted(api: Api) -> None:
    api.create(CONFIG_MAPS, config_map("whole", a="1"), HOME)
    api.patch(CONFIG_MAPS, "whole", {"data": {"b": "2"}}, namespace=HOME)
    operations = [{"op": "add", "path": "/data/c", "value": "3"}]
    api.patch(CONFIG_MAPS, "whole", operations, namespace=HOME, kind=PatchKind.JSON)
    api.patch(CONFIG_MAPS, "whole", config_map("whole", d="4"), namespace=HOME, kind=PatchKind.APPLY)
    read = api.get(CONFIG_MAPS, "whole", HOME)
    assert read is not None
    assert read["data"] == {"a": "1", "b": "2", "c": "3", "d": "4"}

    replaced = api.replace(CONFIG_MAPS, {**read, "data": {}}, HOME)
    with pytest.raises(ApiError) as stale:
        api.replace(CONFIG_MAPS, {**read, "data": {"late": "5"}}, HOME)
    assert (stale.value.status, stale.value.reason) == (409, "Conflict")
    assert "data" not in replaced

    api.delete(CONFIG_MAPS, "whole", HOME)
    api.delete(CONFIG_MAPS, "whole", HOME)
    assert api.get(CONFIG_MAPS, "whole", HOME) is None


def test_a_name_that_is_taken_says_so(api: Api) -> None:
    api.create(CONFIG_MAPS, config_map("twice"), HOME)

    with pytest.raises(ApiError, match='configmaps "twice" already exists') as taken:
        api.create(CONFIG_MAPS, config_map("twice"), HOME)

    assert (taken.value.status, taken.value.reason) == (409, "AlreadyExists")


def test_a_write_that_is_not_allowed_is_never_sent(api: Api) -> None:
    with pytest.raises(ApiError, match="not the leader any more"):
        api.guarded(lambda: False).create(CONFIG_MAPS, config_map("ghost"), HOME)

    assert api.get(CONFIG_MAPS, "ghost", HOME) is None


def test_an_api_server_that_is_not_there_is_an_error_with_a_sentence(api: Api, tmp_path: Path) -> None:
    config = tmp_path / "nowhere"
    config.write_text(
        "{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}],"
        " clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}], users: [{name: u, user: {token: t}}]}"
    )

    with pytest.raises(ApiError, match="the API server did not answer") as gone:
        Api.connect(config).get(NAMESPACES, HOME)

    assert (gone.value.status, gone.value.reason) == (0, "Unreachable")


def test_a_long_collection_is_read_to_its_end(api: Api) -> None:
    """A page holds 500 objects; both the list and the watch read on."""
    names = {f"many-{number}" for number in range(520)}
    for name in names:
        api.create(CONFIG_MAPS, config_map(name), HOME)

    listed = {thing["metadata"]["name"] for thing in api.list(CONFIG_MAPS, HOME)}
    watched = Watched(api, CONFIG_MAPS, namespace=HOME).start()
    try:
        assert watched.wait(10)
        assert names <= listed
        assert names <= {thing["metadata"]["name"] for thing in watched.items()}
    finally:
        watched.stop()


def test_of_metadata_alone_nothing_else_is_sent_and_none_at_all_is_no_error(api: Api) -> None:
    assert [*api.list_metadata(CONFIG_MAPS, HOME, labelSelector="nobody=has-it")] == []
    labelled = config_map("labelled", a="1")
    api.create(CONFIG_MAPS, {**labelled, "metadata": {"name": "labelled", "labels": {"x": "y"}}}, HOME)

    (found,) = api.list_metadata(CONFIG_MAPS, HOME, labelSelector="x=y")
    assert found["metadata"]["name"] == "labelled"
    assert "data" not in found


def test_a_watch_follows_every_change_and_keeps_what_it_is_told_to(api: Api) -> None:
    changed = Event()
    watched = Watched(api, CONFIG_MAPS, namespace=HOME, on_change=changed.set).start()
    try:
        assert watched.wait(10)
        api.create(CONFIG_MAPS, config_map("seen", a="1"), HOME)
        eventually(lambda: (watched.get("seen", HOME) or {}).get("data") == {"a": "1"})
        assert changed.is_set()
        assert "managedFields" not in (watched.get("seen", HOME) or {})["metadata"]
        api.patch(CONFIG_MAPS, "seen", {"data": {"a": "2"}}, namespace=HOME)
        eventually(lambda: (watched.get("seen", HOME) or {}).get("data") == {"a": "2"})
        api.delete(CONFIG_MAPS, "seen", HOME)
        eventually(lambda: watched.get("seen", HOME) is None)
    finally:
        watched.stop()


def test_one_of_two_leads_and_the_other_follows_when_it_ends(api: Api) -> None:
    first, second = (Election(api, HOME, "who", identity) for identity in ("first", "second"))
    first.start()
    eventually(lambda: first.leading)
    second.start()
    second.try_once()
    assert not second.leading

    first.stop()
    assert not first.leading
    eventually(lambda: second.leading)

    second.stop()
    lease = api.get(LEASES, "who", HOME)
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == ""

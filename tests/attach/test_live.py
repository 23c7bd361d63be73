"""What an agent keeps of the attachments that the API server lists."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

import attach.live
from attach.api import Attachment, parse_attachment
from attach.clock import SystemClock
from attach.cluster import ClusterView
from attach.live import ClusterSource
from attach.model import Target
from attach.podresources import KubeletReservations
from kube.api import Api
from kube.watch import Watched
from tests.attach.fakes import FakeNode


class Listed:
    """A collection that is read, and changes when a test says so."""

    def __init__(self, *things: dict[str, Any]) -> None:
        self.things = {thing["metadata"]["uid"]: thing for thing in things}

    def items(self) -> tuple[dict[str, Any], ...]:
        return tuple(self.things.values())


def thing(uid: str, version: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "podsla.io/v1beta1",
        "kind": "GPUAttachment",
        "metadata": {"name": uid, "namespace": "team-a", "uid": uid, "resourceVersion": version},
        "spec": {"podName": "web", **spec},
        "status": {"node": "node-1", "podUID": "p-1", "container": "main"},
    }


def test_an_attachment_is_read_once_for_each_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster may have thousands, each takes 2 ms, and a pass reads them all."""
    read = list[str]()

    def counted(raw: Mapping[str, Any]) -> Attachment:
        read.append(f"{raw['metadata']['uid']} {raw['metadata']['resourceVersion']}")
        return parse_attachment(raw)

    monkeypatch.setattr(attach.live, "parse_attachment", counted)
    kubelet = KubeletReservations(tmp_path / "kubelet.sock")
    source = ClusterSource(cast("Api", None), "node-1", kubelet, FakeNode(), SystemClock())
    listed = Listed(thing("a", "1"), thing("b", "2"))
    source._attachments = cast("Watched", listed)

    for _ in range(2):
        found, problems = source._read_attachments()
        assert ([each.uid for each in found], problems) == (["a", "b"], ())
    listed.things["a"] = thing("a", "3", release=True)
    del listed.things["b"]
    (only,), _ = source._read_attachments()

    assert (only.uid, only.spec.release) == ("a", True)
    assert read == ["a 1", "b 2", "a 3"]


def placeholder(container_id: str) -> dict[str, Any]:
    """A placeholder that runs, by the API server."""
    return {
        "metadata": {"name": "holder", "namespace": "team-a", "uid": "h-1", "labels": {"podsla.io/placeholder": "a"}},
        "spec": {"restartPolicy": "Never"},
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {"name": "main", "containerID": f"containerd://{container_id}", "state": {"running": {}}}
            ],
        },
    }


def test_the_end_of_a_placeholders_process_is_known_before_the_api_server_tells() -> None:
    """It is followed once, wakes the agent, and stays ended; what does not run by the node is no word on its end."""
    node, container_id = FakeNode(), "c" * 64
    source = ClusterSource(cast("Api", None), "node-1", cast("Any", None), node, SystemClock())
    (reserving,) = [thing("a", "1") | {"status": {"placeholder": {"name": "holder", "uid": "h-1"}}}]
    view = ClusterView(
        SystemClock().now(), (parse_attachment(reserving),), {("team-a", "holder"): placeholder(container_id)}
    )
    assert source._ended(view) == frozenset()

    container = node.start(Target("team-a", "holder", "h-1", container_id))
    for _ in range(2):
        assert source._ended(view) == frozenset()
    assert len(node.ends) == 1
    source._woken.clear()
    node.end(container)

    assert source._woken.is_set()
    assert source._ended(view) == {"h-1"}
    assert source._ended(replace(view, attachments=())) == frozenset()

"""What the controller reads anew for attachments, and what it keeps; no cluster."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

import controller.attachments
from attach.api import Attachment, parse_attachment
from controller.attachments import Attachments
from controller.metrics import Metrics
from controller.serving import Serving
from controller.world import World
from kube.api import Api, Object


def thing(uid: str, version: str, **spec: Any) -> Object:
    meta = {"name": uid, "namespace": "team-a", "uid": uid, "resourceVersion": version}
    head = {"apiVersion": "podsla.io/v1beta1", "kind": "GPUAttachment", "metadata": meta}
    return {**head, "spec": {"podName": "web", **spec}}


def test_an_attachment_is_read_once_for_each_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended stands for a day: a round that read all of it anew would hold up who asks."""
    read, listed = list[str](), {"a": thing("a", "1"), "b": thing("b", "2"), "c": thing("c", "3", count="many")}

    def counted(raw: Mapping[str, Any]) -> Attachment:
        read.append(f"{raw['metadata']['uid']} {raw['metadata']['resourceVersion']}")
        return parse_attachment(raw)

    monkeypatch.setattr(controller.attachments, "parse_attachment", counted)
    world = SimpleNamespace(attachments=SimpleNamespace(items=lambda: tuple(listed.values())))
    attachments = Attachments(cast("World", world), cast("Metrics", None), cast("Serving", None))

    for _ in range(2):
        attachments._read = dict(attachments._readable())
        assert sorted(attachments._read) == ["a", "b"]
    listed["a"] = thing("a", "4", release=True)
    del listed["b"], listed["c"]
    attachments._read = dict(attachments._readable())

    assert [one.spec.release for one in attachments.all()] == [True]
    assert read == ["a 1", "b 2", "c 3", "c 3", "a 4"]


class Own:
    """Knows one pod, the controller's own, and counts who asks."""

    def __init__(self) -> None:
        self.asked, self.pod = 0, dict[str, Any]()

    def get(self, *_: object) -> Object | None:
        self.asked += 1
        return self.pod or None


def test_its_own_image_is_asked_for_until_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call for every placeholder would hold up who asks, and a process keeps its image."""
    own = Own()
    world = SimpleNamespace(api=cast("Api", own), namespace="podsla-system")
    attachments = Attachments(cast("World", world), cast("Metrics", None), cast("Serving", None))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert (attachments.image(), own.asked) == (controller.attachments.DEFAULT_IMAGE, 0)

    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert (attachments.image(), own.asked) == (controller.attachments.DEFAULT_IMAGE, 1)
    own.pod = {"spec": {"containers": [{"image": "registry/podsla:1"}]}}
    assert [attachments.image() for _ in range(3)] == ["registry/podsla:1"] * 3
    assert own.asked == 2

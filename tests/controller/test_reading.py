"""What the controller reads of attachments, round by round; no cluster."""

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
from kube.api import Object


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

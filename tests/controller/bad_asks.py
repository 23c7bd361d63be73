"""EDGE: asks for a GPU that can never be had, what each is told, and a namespace in which they are."""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from attach.api import KIND, Type, parse_attachment
from kube.api import Api
from kube.kinds import GPU_ATTACHMENTS, PODS
from tests.waiting import eventually

ENDED, PENDING, TAKEN = "ended", "pending", "taken"
HEAD: Final = {"apiVersion": "podsla.io/v1beta1", "kind": KIND}


@dataclass(frozen=True, slots=True)
class BadAsk:
    """
    A manifest that somebody applies.

    Attributes:
        name: Of the attachment.
        reason: In what kubectl says, or of the condition Failed where the API server takes it.
        said: A part of the sentence.
        taken: The API server takes it.
    """

    name: str
    spec: Mapping[str, Any]
    reason: str
    said: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    taken: bool = False

    def manifest(self, suffix: str = "") -> dict[str, Any]:
        """Write it; with a *suffix* to its name it is another one, but where the name is what is wrong."""
        name = self.name + ("" if self.name == TAKEN else suffix)
        return {**HEAD, "metadata": {"name": name, "annotations": dict(self.annotations)}, "spec": dict(self.spec)}


BAD_ASKS: Final = {
    "an unknown pod": BadAsk(
        "unknown", {"podName": "nobody"}, "TargetNotFound", "there is no pod nobody in namespace", taken=True
    ),
    "a pod that has ended": BadAsk(
        "late", {"podName": ENDED}, "TargetFinished", "pod ended has ended: its phase is Succeeded", taken=True
    ),
    "a device, which may be another node's": BadAsk(
        "stolen", {"podName": PENDING, "devices": ["GPU-1"]}, "BadRequest", 'unknown field "spec.devices"'
    ),
    "a negative lease": BadAsk(
        "negative", {"podName": PENDING, "leaseSeconds": -5}, "is invalid",
        "spec.leaseSeconds in body should be greater than or equal to 10",
    ),
    "a second one of an active one's name": BadAsk(
        TAKEN, {"podName": ENDED}, "is invalid", "cannot change; delete the attachment and create another"
    ),
    "an annotation with a typo": BadAsk(
        "typo", {"podName": PENDING}, "denied request",
        "podsla.io/force-relase is no annotation of an attachment; did you mean podsla.io/force-release?",
        {"podsla.io/force-relase": "true"},
    ),
}  # fmt: skip


def make_room(api: Api, where: str, node: str) -> None:
    """Make a pod that has ended on a simulated node, one that no node takes, and an attachment that waits for that."""
    container = {"name": "worker", "image": "x"}
    for name, spec in ((ENDED, {"nodeName": node}), (PENDING, {"nodeSelector": {"nowhere": "true"}})):
        api.create(PODS, {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}, where)
    eventually(lambda: (api.get(PODS, ENDED, where) or {})["status"]["phase"] == "Running", "it runs")
    api.patch(PODS, ENDED, {"status": {"phase": "Succeeded"}}, namespace=where, subresource="status")
    api.create(GPU_ATTACHMENTS, {**HEAD, "metadata": {"name": TAKEN}, "spec": {"podName": PENDING}}, where)


def answer(
    ask: BadAsk, suffix: str, api: Api, where: str, kubectl: Callable[..., subprocess.CompletedProcess[str]]
) -> str:
    """
    Apply it, and wait for what is said: by kubectl, or by the condition Failed, its reason first.

    Raises:
        AssertionError: Nobody says anything.
    """
    manifest = ask.manifest(suffix)
    done = kubectl("apply", "-n", where, "-f", "-", text=json.dumps(manifest))
    if done.returncode:
        return done.stderr.strip()

    def failed() -> str:
        found = api.get(GPU_ATTACHMENTS, manifest["metadata"]["name"], where)
        assert found is not None
        condition = parse_attachment(found).status.condition(Type.FAILED)
        return f"{condition['reason']}: {condition['message']}" if condition["status"] == "True" else ""

    return eventually(failed, f"{manifest['metadata']['name']} is told", every_s=0.01)

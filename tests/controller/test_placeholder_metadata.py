"""Pods that reserve carry what the target says, and the API server's policies let them in so."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from attach.api import Type
from catalog.keys import TARGET
from controller.metrics import Metrics
from controller.targets import Targets
from controller.world import World
from kube.kinds import CONFIG_MAPS, CONTROLLER_REVISIONS, PODS
from tests.controller.borrowing import GPUS, ONE, SYSTEM, TWO, Agent, Lending, controlling, ended
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

QUEUE: Final = ("kueue.x-k8s.io/queue-name", "gpus")
TEXT: Final = """
apiVersion: podsla.io/v1beta1
kind: Target
metadata: {name: queued}
spec:
  consumers: [{by: reservation}]
  gpu:
    resource: nvidia.com/gpu
    modelLabel: nvidia.com/gpu.product
    placeholderMetadata:
      labels: {kueue.x-k8s.io/queue-name: gpus}
      annotations: {example.com/team: edge}
"""


@pytest.fixture
def queued(lending: Lending) -> Iterator[None]:
    """The target, accepted; there is none afterwards."""
    body: dict[str, Any] = {"metadata": {"name": "podsla-target"}, "data": {"target.yaml": TEXT}}
    lending.api.create(CONFIG_MAPS, body, SYSTEM)
    world = World(lending.controller, SYSTEM, lambda: None).start()
    try:
        eventually(lambda: world.synced, "everything is listed")
        Targets(world, Metrics(lambda: True)).reconcile()
    finally:
        world.stop()
    yield
    lending.api.delete(CONFIG_MAPS, "podsla-target", SYSTEM)
    for thing in lending.api.list(CONTROLLER_REVISIONS, SYSTEM, labelSelector=TARGET):
        lending.api.delete(CONTROLLER_REVISIONS, thing["metadata"]["name"], SYSTEM)


@pytest.mark.usefixtures("queued")
def test_what_reserves_and_what_is_kept_ready_carry_what_the_target_says(lending: Lending) -> None:
    lending.pod("a", ONE)
    lending.borrower("b", TWO)
    with controlling(lending), Agent(lending, GPUS).working():
        lending.ask("a", "a")
        made = lending.placeholder(lending.until("a", Type.ATTACHED))
        lending.keep_ready("1")
        (name,) = eventually(lending.warm, "one is ready", 60)
        kept = lending.api.get(PODS, name, lending.namespace)
        lending.until_cold()
        lending.release("a")
        ended(lending, "a", Type.RELEASED, "Released")

    for pod in (made, kept):
        assert pod is not None
        assert QUEUE in pod["metadata"]["labels"].items()
        assert pod["metadata"]["annotations"]["example.com/team"] == "edge"

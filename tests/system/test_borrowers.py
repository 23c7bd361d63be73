"""Pods that borrow a GPU, before they do: a seat beside one each, on the nodes that have the model, and on no other."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import pytest

from catalog.keys import FAMILY, GPU_SEATS, SIZE
from catalog.load import DEFAULT_TARGET, SHIPPED_CATALOG, load_catalog, load_target
from kube.api import ApiError, Object
from kube.kinds import NODES, PODS, SPEC_CATALOGS
from tests.builders import container, pod
from tests.cluster.nodes import SIZES, nodes
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

CLASS: Final = "v100-on-demand"
FOUR: Final = "ecs.gn6v-c8g1.8xlarge"  # four V100
FIRST, SECOND = "ecs-gn6v-c8g1-8xlarge-0", "spare-gpus"
SEATS: Final = 5  # of each: 140 for 100 GPUs
SMALL: Final = container(requests={"cpu": "100m", "memory": "64Mi"})


@pytest.fixture
def second_node(user: User) -> Iterator[str]:
    """A second node of four V100; the cluster has one, beside one of a T4 and one of an A10."""
    made = nodes(len(SIZES), load_catalog([SHIPPED_CATALOG]), load_target(DEFAULT_TARGET))[SIZES.index(FOUR)]
    labels = {key: text for key, text in made["metadata"]["labels"].items() if key != "type"}  # no DaemonSet of kwok
    labels["kubernetes.io/hostname"] = SECOND
    user.api.create(NODES, {**made, "metadata": {**made["metadata"], "name": SECOND, "labels": labels}})
    yield SECOND
    bound = {"fieldSelector": f"spec.nodeName={SECOND}"}
    eventually(lambda: not list(user.api.list(PODS, **bound)), "its pods are gone", 60)
    user.api.delete(NODES, SECOND)


@pytest.fixture
def lending(user: User, scratch_catalog: Callable[[str], None]) -> str:
    """A class that lends V100 and names no families."""
    sla_class = {"name": CLASS, "reserve": "ask", "gpu": {"models": ["V100"], "count": 1, "mode": "on-demand"}}
    head = {"apiVersion": "podsla.io/v1beta1", "kind": "SpecCatalog", "metadata": {"name": "lending"}}
    scratch_catalog("lending")
    user.api.create(SPEC_CATALOGS, {**head, "spec": {"classes": [sla_class]}})

    def served() -> bool:
        try:
            user.api.call("POST", PODS.path("default"), {"dryRun": "All"}, borrower("probe", "default"))
        except ApiError as error:
            raise AssertionError from error
        return True

    eventually(served, f"class {CLASS} is served")
    return CLASS


def borrower(name: str, namespace: str) -> Object:
    """A pod that borrows, as a person writes it: one annotation, and no word of GPUs."""
    return pod(CLASS, metadata={"name": name, "namespace": namespace}, containers=[SMALL])


def where(pods: Iterable[Object]) -> Counter[str]:
    """Count the pods that run, by node."""
    return Counter(one["spec"]["nodeName"] for one in pods if one["status"].get("phase") == "Running")


def unscheduled(one: Object) -> str:
    """What the scheduler says of a pod that it finds no node for; "" where it has said nothing."""
    conditions = one["status"].get("conditions") or ()
    return next((c["message"] for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"), "")


def seats(user: User, node: str) -> str | None:
    """How many a node offers."""
    found: str | None = (user.api.get(NODES, node) or {})["status"]["allocatable"].get(GPU_SEATS)
    return found


def waits_for_a_seat(user: User, namespace: str, name: str) -> bool:
    """Check what the scheduler says of a pod, and what `podsla why` makes of it."""
    others = len(list(user.api.list(NODES))) - 2
    reasons = [f"2 Insufficient {GPU_SEATS}", f"{others} node(s) didn't match Pod's node affinity/selector"]
    said = unscheduled(user.api.get(PODS, name, namespace) or {})
    assert said.partition(". ")[0] == f"0/{others + 2} nodes are available: {', '.join(sorted(reasons))}"

    lines = user.podsla("why", name, "-n", namespace).stdout.splitlines()
    assert lines[0] == f"Pod/{name} in {namespace}: fits none of {others + 2} nodes"
    return [FOUR, "2", GPU_SEATS, "1", "0", str(SEATS)] in map(str.split, lines)


def test_borrowers_sit_beside_their_gpu_alone_and_the_one_after_the_last_seat_waits_for_one(
    user: User, second_node: str, lending: str, namespace: Callable[..., str]
) -> None:
    """
    All by the scheduler: the webhook writes what they ask for, and the controller what the nodes offer.

    Seen to fail where `webhook.effects._extended` writes no seat (all of them run), where `requirements` names no
    model (some run beside a T4 and an A10), and where `nodes.offer.node_offer` offers no seats (none runs).
    """
    for node in (FIRST, second_node):
        eventually(lambda node=node: seats(user, node) == str(SEATS), f"{node} offers its seats")  # type: ignore[misc]
    there = namespace()
    for number in range(2 * SEATS + 1):
        user.api.create(PODS, borrower(f"borrower-{number}", there), there)

    def settled() -> dict[str, Object]:
        found = {one["metadata"]["name"]: one for one in user.api.list(PODS, there)}
        assert where(found.values()) == {FIRST: SEATS, second_node: SEATS}
        return found

    found = eventually(settled, "both nodes are full, and no other has any")
    for one in found.values():
        assert FAMILY not in str(one["spec"]["affinity"]), "models and seats alone place it"
        assert one["spec"]["containers"][0]["resources"]["limits"] == {GPU_SEATS: "1"}, "a seat, and no GPU"
        assert one["metadata"]["labels"][SIZE] == "ecs.gn6v-c8g1.2xlarge"
    (last,) = (name for name, one in found.items() if not one["spec"].get("nodeName"))
    eventually(lambda: waits_for_a_seat(user, there, last), f"{last} waits, and is told for what")

    goes = min(name for name in found if name != last)
    user.api.delete(PODS, goes, there)

    freed = {found[goes]["spec"]["nodeName"]: 1}
    eventually(lambda: where([user.api.get(PODS, last, there) or {}]) == freed, f"{last} has the seat of {goes}")

"""What was published in 2021 is served, pods run on it, and then what is published now: none of them loses a thing."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from catalog.keys import FAMILY, INSTANCE_TYPE
from catalog.load import DEFAULT_TARGET, SHIPPED_CATALOG, load_catalog, load_target
from kube.api import Object
from kube.kinds import NODES, PODS, SPEC_CATALOGS
from tests.builders import container, pod
from tests.cluster.nodes import nodes
from tests.drift import drifted_sizes
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

PPS: Final = "podsla.io/pps"
SMALL: Final = container(requests={"cpu": "100m", "memory": "64Mi"})
# Each node with its type: a size of the drift, under a name that keeps apart from the shipped catalogue's.
RAISED, LOWERED, WITHDRAWN = "drift-raised", "drift-lowered", "drift-withdrawn"
TYPES: Final = {
    RAISED: "drift.g7.large",  # 900k → 1100k
    LOWERED: "drift.gn6i-c24g1.24xlarge",  # 4800k → 4500k
    WITHDRAWN: "drift.g7ne.16xlarge",  # 16M → it is no longer published
}
FAMILIES: Final = {RAISED: "drift.g7", LOWERED: "drift.gn6i", WITHDRAWN: "drift.g7ne"}
ASKED: Final = {RAISED: "800000", LOWERED: "4500000", WITHDRAWN: "10000000"}


def edited(sizes: Object) -> dict[str, Any]:
    """A catalogue of such sizes, with a class for each of the nodes."""
    renamed = json.loads(json.dumps(sizes).replace('"ecs.', '"drift.'))
    classes = [
        {
            "name": node,
            "floor": {"network": {"pps": "100k"}},
            "tunable": {"network.pps": {}},
            "reserve": "ask",
            "sizes": {"families": [family]},
        }
        for node, family in FAMILIES.items()
    ]
    return {**renamed, "metadata": {"name": "drift"}, "spec": {"sizes": renamed["spec"]["sizes"], "classes": classes}}


@pytest.fixture
def files(tmp_path: Path, shared_data: Path, scratch_catalog: Callable[[str], None]) -> tuple[Path, Path]:
    """Both editions as files."""
    scratch_catalog("drift")
    made = []
    for year, sizes in zip(("2021", "2025"), drifted_sizes(shared_data), strict=True):
        made.append(tmp_path / f"{year}.json")
        made[-1].write_text(json.dumps(edited(sizes)))
    return made[0], made[1]


@pytest.fixture
def machines(user: User) -> Iterator[None]:
    """A node of each type, which is left to no other test."""
    (one,) = nodes(1, load_catalog([SHIPPED_CATALOG]), load_target(DEFAULT_TARGET))
    for name, instance_type in TYPES.items():
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", INSTANCE_TYPE: instance_type}
        user.api.create(NODES, {**one, "metadata": {**one["metadata"], "name": name, "labels": labels}})
    yield
    for name in TYPES:
        user.api.delete(NODES, name)


def asking(name: str, node: str, namespace: str) -> dict[str, Any]:
    """A pod of a node's class that asks for most of what the node had in 2021."""
    annotations = {"podsla.io/min-pps": ASKED[node]}
    metadata = {"name": name, "namespace": namespace}
    return pod(node, containers=[SMALL], metadata=metadata, annotations=annotations)


def published(user: User) -> dict[str, str | None]:
    """The packets/s of each node, which capacity and allocatable must agree on."""
    found: dict[str, str | None] = {}
    for name in TYPES:
        status = user.api.call("GET", NODES.path(name=name))["status"]
        figures = [status[group].get(PPS) for group in ("capacity", "allocatable")]
        assert figures[0] == figures[1]
        found[name] = figures[0]
    return found


def running(user: User, there: str) -> dict[str, tuple[str, str]]:
    """The pods that run, by name: their node and UID."""
    return {
        one["metadata"]["name"]: (one["spec"].get("nodeName", ""), one["metadata"]["uid"])
        for one in user.api.list(PODS, there)
        if one["status"]["phase"] == "Running" and "deletionTimestamp" not in one["metadata"]
    }


def followed(user: User) -> dict[str, Any]:
    """What the status says of nodes."""
    thing = user.api.get(SPEC_CATALOGS, "drift") or {}
    return dict({one["type"]: one for one in thing["status"]["conditions"]}["Followed"])


@pytest.mark.usefixtures("machines")
def test_five_years_of_published_figures_take_nothing_from_pods_that_run(
    user: User, namespace: Callable[..., str], files: tuple[Path, Path]
) -> None:
    there, (old, new) = namespace(), files
    assert user.podsla("catalog", "apply", str(old)).returncode == 0
    eventually(
        lambda: published(user) == {RAISED: "855k", LOWERED: "4560k", WITHDRAWN: "15200k"}, "nodes say what was so"
    )
    for name in ASKED:
        body = asking(name, name, there)
        eventually(lambda body=body: user.apply(body).returncode == 0, f"class {name} is served")  # type: ignore[misc]
    eventually(lambda: {n: node for n, (node, _) in running(user, there).items()} == {n: n for n in TYPES}, "they run")
    before = running(user, there)

    told = user.podsla("catalog", "diff", "--cluster", str(new), "-o", "json")
    assert told.returncode == 1, "it breaks pods"
    outcomes = {one["name"]: one["outcome"] for one in json.loads(told.stdout)["pods"]}
    assert {name: outcomes[f"{there}/{name}"] for name in TYPES} == {
        RAISED: "Unchanged",
        LOWERED: "Breaks",
        WITHDRAWN: "Breaks",
    }
    applied = user.podsla("catalog", "apply", str(new))
    assert applied.returncode == 0, applied.stderr

    eventually(
        lambda: published(user) == {RAISED: "1045k", LOWERED: "4500k", WITHDRAWN: "10M"},
        "what was raised is followed, and what was not is held to what was promised",
    )
    said = eventually(lambda: followed(user)["status"] == "False" and followed(user), "the status says so")
    assert f"{LOWERED} has {PPS} 4500k, 4275k is offered" in said["message"]
    assert f"{WITHDRAWN} has {PPS} 10M, none is offered" in said["message"]
    assert running(user, there) == before
    late = asking("late", LOWERED, there)
    eventually(lambda: "NoSizeFits" in user.apply(late, "--dry-run=server").stderr, "a new one like it is refused")

    for name in TYPES:
        user.api.delete(PODS, name, there)
    eventually(
        lambda: published(user) == {RAISED: "1045k", LOWERED: "4275k", WITHDRAWN: None}, "nothing is held any more"
    )
    assert FAMILY not in user.api.call("GET", NODES.path(name=WITHDRAWN))["metadata"]["labels"]
    eventually(lambda: followed(user)["status"] == "True", "the status says so")

"""What is written on nodes: what their size offers, nothing of anybody else's, and nothing twice."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.model import Catalog
from catalog.quantity import parse_integer
from catalog.target import Target
from nodes.bound import RESOURCES, Bound
from nodes.capacity import LABELS, NodePatch, Plan, give_back, plan
from nodes.offer import node_offer
from tests.nodes.test_offer import CATALOG, TARGET

TYPE = "node.kubernetes.io/instance-type"
C7_FIGURES = {
    "podsla.io/disk-bytes-per-second": "178125k",
    "podsla.io/disk-iops": "28500",
    "podsla.io/network-bits-per-second": "1425M",
    "podsla.io/pps": "950k",
}
C7_LABELS = {
    "podsla.io/base-mhz": "2700",
    "podsla.io/family": "ecs.c7",
    "podsla.io/generation": "7",
    "podsla.io/nic-queues": "4",
}
CPU = {"cpu": "4", "memory": "8Gi"}
NONE: dict[str, str] = {}


def node(
    labels: Mapping[str, str], capacity: Mapping[str, str] = NONE, allocatable: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A node that has come up: it publishes CPU and memory by itself."""
    status = {
        "capacity": {**CPU, **capacity},
        "allocatable": {**CPU, **(capacity if allocatable is None else allocatable)},
    }
    return {"metadata": {"name": "n1", "labels": dict(labels)}, "status": status}


def gone(*names: str) -> dict[str, None]:
    return dict.fromkeys(names)


@pytest.mark.parametrize(
    ("given_node", "expected"),
    [
        pytest.param(
            node({TYPE: "ecs.c7.xlarge"}),
            NodePatch("n1", C7_LABELS, C7_FIGURES, C7_FIGURES),
            id="a new node gets everything, in capacity and in allocatable",
        ),
        pytest.param(
            node({TYPE: "ecs.c7.xlarge", **C7_LABELS}, C7_FIGURES),
            None,
            id="a node that publishes what it offers is left alone",
        ),
        pytest.param(
            node({TYPE: "ecs.c7.xlarge", **C7_LABELS}, {**C7_FIGURES, "podsla.io/pps": "950000"}),
            None,
            id="the same figure in other words is the same",
        ),
        pytest.param(
            node({TYPE: "ecs.c7.xlarge", **C7_LABELS}, C7_FIGURES, {}),
            NodePatch("n1", {}, {}, C7_FIGURES),
            id="allocatable alone is missing: no kubelet copies it",
        ),
        pytest.param(
            node({TYPE: "ecs.c7.xlarge", **C7_LABELS}, dict.fromkeys(C7_FIGURES, "0")),
            NodePatch("n1", {}, C7_FIGURES, C7_FIGURES),
            id="a kubelet that lost its state set them to 0: they are set again",
        ),
        pytest.param(
            node(
                {TYPE: "ecs.c7.xlarge", **C7_LABELS, "podsla.io/base-mhz": "2600"},
                {**C7_FIGURES, "podsla.io/pps": "1", "podsla.io/gpu-seats": "3"},
            ),
            NodePatch(
                "n1",
                {"podsla.io/base-mhz": "2700"},
                {"podsla.io/pps": "950k", **gone("podsla.io/gpu-seats")},
                {"podsla.io/pps": "950k", **gone("podsla.io/gpu-seats")},
            ),
            id="stale figures are corrected, and withdrawn where nothing is published any more",
        ),
        pytest.param(
            node({TYPE: "ecs.c7.xlarge", "podsla.io/node-size": "old.large"}),
            NodePatch("n1", {"podsla.io/family": "old"}, {}, {}),
            id="the size label goes before the instance type, and stays as it is",
        ),
        pytest.param(
            node({TYPE: "x9.huge", "podsla.io/family": "ecs.c7"}, {"podsla.io/pps": "5k"}),
            NodePatch("n1", gone("podsla.io/family"), gone("podsla.io/pps"), gone("podsla.io/pps")),
            id="of an unknown type, what was published is withdrawn",
        ),
        pytest.param(node({TYPE: "x9.huge"}), None, id="of an unknown type with nothing of ours: left alone"),
        pytest.param(
            node({"podsla.io/base-mhz": "2700"}),
            NodePatch("n1", gone("podsla.io/base-mhz"), {}, {}),
            id="a node that names no size any more offers nothing",
        ),
        pytest.param(
            node(
                {TYPE: "x9.huge", "podsla.io/team": "edge", "podsla.io/node-size": "ecs.c8", "example.com/pps": "1"},
                {"nvidia.com/gpu": "4", "example.com/pps": "7", "podsla.io/other": "1"},
            ),
            None,
            id="what is not ours is never touched, not even under our own domain",
        ),
        pytest.param(
            {"metadata": {"name": "n1", "labels": {TYPE: "ecs.c7.xlarge"}}, "status": {}},
            NodePatch("n1", C7_LABELS, {}, {}),
            id="a node that has not come up yet gets labels alone: it publishes its CPU first",
        ),
        pytest.param(
            node({TYPE: "ecs.c7.xlarge", **C7_LABELS}, {**C7_FIGURES, "podsla.io/pps": "many"}),
            NodePatch("n1", {}, {"podsla.io/pps": "950k"}, {"podsla.io/pps": "950k"}),
            id="a figure that is no quantity is replaced",
        ),
        pytest.param({"metadata": {"name": "n1"}}, None, id="a bare node is left alone"),
    ],
)
def test_plan_of_one_node(given_node: dict[str, Any], expected: NodePatch | None) -> None:
    assert plan([given_node], CATALOG, TARGET).patches == ((expected,) if expected else ())


def test_unknown_types_are_named_once_and_their_nodes_are_counted() -> None:
    """A type that a catalogue has and the target does not list is known: nobody wants it here."""
    names = ["x9.huge", "a1.tiny", "x9.huge", "old.large", "ecs.c7.xlarge"]
    nodes = [node({TYPE: name}) for name in names] + [node({})]

    found = plan(nodes, CATALOG, Target("t", node_types=("ecs.c7",)))

    assert (found.unknown, found.unknown_nodes) == (("a1.tiny", "x9.huge"), 3)
    assert [patch.labels["podsla.io/family"] for patch in found.patches] == ["ecs.c7"]


def test_an_empty_catalogue_withdraws_everything() -> None:
    published = node({TYPE: "ecs.c7.xlarge", **C7_LABELS}, C7_FIGURES)

    (patch,) = plan([published], Catalog((), {}, "sha256:0"), TARGET).patches

    assert applied(published, patch) == node({TYPE: "ecs.c7.xlarge"})


@pytest.mark.parametrize(
    ("given_node", "takes"),
    [
        pytest.param(node({TYPE: "ecs.c7.xlarge"}), False, id="nothing was there"),
        pytest.param(node({TYPE: "ecs.c7.xlarge"}, {"podsla.io/pps": "900k"}), False, id="a figure is raised"),
        pytest.param(node({TYPE: "ecs.c7.xlarge"}, {"podsla.io/pps": "1M"}), True, id="a figure is lowered"),
        pytest.param(node({TYPE: "ecs.c7.xlarge"}, {}, {"podsla.io/pps": "1M"}), True, id="where pods see it alone"),
        pytest.param(node({TYPE: "nobody.knows"}, {"podsla.io/pps": "1"}), True, id="a figure is withdrawn"),
        pytest.param(node({TYPE: "ecs.c7.xlarge", "podsla.io/family": "old"}), True, id="a label becomes another"),
        pytest.param(node({TYPE: "nobody.knows", "podsla.io/family": "old"}), True, id="a label is withdrawn"),
        pytest.param(node({TYPE: "nobody.knows"}, {"podsla.io/pps": "no figure"}), False, id="it was no figure"),
    ],
)
def test_what_takes_something_away_is_told_from_what_gives(given_node: dict[str, Any], takes: bool) -> None:
    (patch,) = plan([given_node], CATALOG, TARGET).patches
    assert patch.takes is takes


def bound(pps: int, **selector: str) -> dict[str, list[Bound]]:
    """A pod on the node that was promised packets/s, and selects labels."""
    return {"n1": [Bound("a/p", "n1", {"podsla.io/pps": pps}, selector, None, "", "", "", "", {})]}


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        pytest.param({}, None, id="nobody came"),
        pytest.param(bound(900_000), None, id="one came that what is left holds"),
        pytest.param(bound(1_100_000), ({}, {"podsla.io/pps": "1100k"}), id="one came that needs some of it"),
        pytest.param(
            bound(0, **{"podsla.io/family": "old"}), ({"podsla.io/family": "old"}, {}), id="one came for a label"
        ),
        pytest.param(
            bound(1_200_000, **{"podsla.io/family": "old"}),
            ({"podsla.io/family": "old"}, {"podsla.io/pps": "1200k"}),
            id="one came that needs all",
        ),
    ],
)
def test_what_was_taken_from_a_pod_that_came_meanwhile_is_given_back(pods: Any, expected: Any) -> None:
    before = node(
        {TYPE: "ecs.c7.xlarge", **C7_LABELS, "podsla.io/family": "old"}, {**C7_FIGURES, "podsla.io/pps": "1200k"}
    )
    (written,) = plan([before], CATALOG, TARGET).patches
    needed = plan([before], CATALOG, TARGET, pods).patches
    back = give_back(before, written, needed[0] if needed else None)
    assert (back and (back.labels, back.capacity)) == expected
    assert back is None or back.allocatable == back.capacity


def test_a_patch_is_one_merge_patch_of_what_changes() -> None:
    patch = NodePatch("n1", gone("podsla.io/family"), {"podsla.io/pps": "1k"}, gone("podsla.io/pps"))
    assert patch.body == {
        "metadata": {"labels": {"podsla.io/family": None}},
        "status": {"capacity": {"podsla.io/pps": "1k"}, "allocatable": {"podsla.io/pps": None}},
    }
    assert NodePatch("n1", {}, {}, {}).body == {}


def merged(value: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for key, inner in patch.items():
        result[key] = None if inner is None else merged(result.get(key), inner)
    return {key: inner for key, inner in result.items() if key not in patch or patch[key] is not None}


def applied(thing: dict[str, Any], patch: NodePatch) -> dict[str, Any]:
    """What the API server makes of a patch."""
    result: dict[str, Any] = merged(thing, patch.body)
    return result


FOREIGN = ["example.com/pps", "nvidia.com/gpu", "podsla.io/other", "podsla.io/node-size", "kubernetes.io/arch"]
label_values = st.sampled_from(["", "7", "2700", "ecs.c7", "ecs.c7.xlarge", "x9.huge", "old.large"])
labels = st.dictionaries(st.sampled_from([*sorted(LABELS), *FOREIGN, TYPE]), label_values)
quantities = st.sampled_from(["0", "1", "950k", "950000", "28500", "1425M", "many"])
figures = st.dictionaries(st.sampled_from([*sorted(RESOURCES), *FOREIGN[:3]]), quantities)


@given(
    nodes=st.lists(st.builds(node, labels, figures, st.none() | figures), max_size=4),
    node_types=st.sampled_from([(), ("ecs.c7",), ("old", "ecs.gn6i")]),
)
def test_from_any_state_one_pass_reaches_the_offer_and_touches_nothing_else(
    nodes: list[dict[str, Any]], node_types: tuple[str, ...]
) -> None:
    target = Target("t", node_types=node_types, gpu=TARGET.gpu)
    for number, thing in enumerate(nodes):
        thing["metadata"]["name"] = f"n{number}"
    found = plan(nodes, CATALOG, target)
    patches = {patch.node: patch for patch in found.patches}

    after = [
        applied(thing, patches[name]) if (name := thing["metadata"]["name"]) in patches else thing for thing in nodes
    ]

    assert plan(after, CATALOG, target) == Plan((), found.unknown, found.unknown_nodes)
    for old, new in zip(nodes, after, strict=True):
        assert foreign(new) == foreign(old)
        label = old["metadata"]["labels"]
        name = label.get("podsla.io/node-size") or label.get(TYPE)
        size = next((size for size in CATALOG.sizes if size.name == name and target.has(size)), None)
        expected = node_offer(size, target).capacity if size else {}
        for group in ("capacity", "allocatable"):
            ours = {key: parse_integer(value) for key, value in new["status"][group].items() if key in RESOURCES}
            assert ours == expected


def foreign(thing: Mapping[str, Any]) -> list[dict[str, str]]:
    groups = (thing["metadata"]["labels"], thing["status"]["capacity"], thing["status"]["allocatable"])
    return [{key: value for key, value in group.items() if key not in LABELS | RESOURCES} for group in groups]

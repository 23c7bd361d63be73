"""Why a pod fits no node: each case is a cluster that is wrong in one way, with what is missing and what would help."""

from collections.abc import Mapping
from typing import Any, Final

import pytest

from catalog.load import DEFAULT_TARGET, load_target
from catalog.reader import read_catalog
from catalog.yamltext import parse_documents
from nodes.capacity import LABELS
from nodes.placement import Lack, judge, not_judged, read_needs, read_places
from nodes.proposals import Change, Context, by_type, holders, propose
from nodes.usage import usage
from tests.builders import CATALOG, container, pod

CATALOGUE: Final = read_catalog(parse_documents(CATALOG, "catalog.yaml"))
TARGET: Final = load_target(DEFAULT_TARGET)
PPS: Final = "podsla.io/pps"
BUSY: Final = {"key": "busy", "value": "yes", "effect": "NoSchedule"}


def node(name: str = "n1", *, labels: Mapping[str, str] | None = None, taints: Any = (), **allocatable: str) -> Any:
    """A node of size `medium` that takes 1M packets/s, unless told otherwise; "_" in a resource stands for pps."""
    own = {"node.kubernetes.io/instance-type": "medium", "podsla.io/base-mhz": "2700", **(labels or {})}
    amounts = {"cpu": "4", "memory": "8Gi", "pods": "110", PPS: "1M", **_spelt(allocatable)}
    spec = {"taints": list(taints)} if taints else {}
    return {"metadata": {"name": name, "labels": own}, "spec": spec, "status": {"allocatable": amounts}}


def _spelt(amounts: Mapping[str, str]) -> dict[str, str]:
    return {PPS if key == "pps" else key: text for key, text in amounts.items()}


def asks(name: str = "p", on: str | None = None, *, owner: str = "", **spec: Any) -> dict[str, Any]:
    """A pod; amounts as keywords that are no field of a spec."""
    amounts: dict[str, str] = {key: spec.pop(key) for key in ("cpu", "memory", "pps") if key in spec}
    spec = {**spec, **({"nodeName": on} if on else {})}
    metadata: dict[str, Any] = {"name": name}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner, "name": "x", "controller": True}]
    return pod(None, metadata=metadata, containers=[container(requests=_spelt(amounts))], **spec)


def needs_label(key: str, operator: str, *values: str) -> dict[str, Any]:
    """Required node affinity of one term."""
    expression = {"key": key, "operator": operator, "values": list(values)}
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def told(subject: Any, nodes: list[Any], pods: list[Any], **context: Any) -> tuple[list[Any], dict[Change, str]]:
    """What each node type lacks, as (count of nodes, lack, what, free or found); and each change with its message."""
    verdicts = judge(read_needs(subject), read_places(nodes, usage(nodes, [*pods, subject])))
    rows = [
        (r.count, r.best.lack, r.best.what, r.best.free if r.best.asked else r.best.found) for r in by_type(verdicts)
    ]
    known = Context(CATALOGUE, TARGET, ours=LABELS | {"node.kubernetes.io/instance-type"})
    found = propose(read_needs(subject), verdicts, Context(**{**_fields(known), **context}))
    return rows, {proposal.change: proposal.message for proposal in found}


def _fields(context: Context) -> dict[str, Any]:
    return {name: getattr(context, name) for name in Context.__slots__}


ADD_MEDIUM: Final = "a further node of medium would take the pod"
TOLERATE: Final = "tolerate busy=yes:NoSchedule: node n1 would take the pod, if it is meant for pods like it"
ADD_LARGE: Final = "a further node of large would take the pod"


@pytest.mark.parametrize(
    ("subject", "nodes", "pods", "lacks", "changes"),
    [
        pytest.param(
            asks(pps="600k"), [node()], [asks("other", "n1", pps="700k")],
            [(1, Lack.HELD, PPS, 300_000)],
            {
                Change.ASK_LESS: f"ask 300k {PPS} less (300k instead of 600k): node n1 has that free",
                Change.MAKE_ROOM: "if team-a/other left node n1, it would take the pod",
                Change.ADD_NODE: ADD_MEDIUM,
            },
            id="packets are held by another pod",
        ),
        pytest.param(
            asks(pps="1500k"), [node()], [],
            [(1, Lack.TOO_LARGE, PPS, 1_000_000)],
            {
                Change.ASK_LESS: f"ask 500k {PPS} less (1M instead of 1500k): node n1 has that free",
                Change.ADD_NODE: ADD_LARGE,
            },
            id="no node is large enough even empty: only a larger one, or a smaller ask",
        ),
        pytest.param(
            asks(pps="9M"), [node()], [asks("other", "n1", pps="1M")],
            [(1, Lack.TOO_LARGE, PPS, 0)], {}, id="no size of the catalogue has it: nothing is proposed",
        ),
        pytest.param(
            asks(cpu="3"), [node()], [asks("a", "n1", cpu="2"), asks("b", "n1", cpu="1500m")],
            [(1, Lack.HELD, "cpu", 500)],
            {
                Change.ASK_LESS: "ask 2500m cpu less (500m instead of 3): node n1 has that free",
                Change.MAKE_ROOM: "if team-a/a, team-a/b left node n1, it would take the pod",
                Change.ADD_NODE: ADD_MEDIUM,
            },
            id="CPU is held by two pods, and neither holds enough alone",
        ),
        pytest.param(
            asks(memory="6Gi"), [node()], [asks("log", "n1", owner="DaemonSet", memory="4Gi")],
            [(1, Lack.HELD, "memory", 4 << 30)],
            {
                Change.ASK_LESS: "ask 2Gi memory less (4Gi instead of 6Gi): node n1 has that free",
                Change.ADD_NODE: ADD_MEDIUM,
            },
            id="memory is held by a DaemonSet's pod, which would come back: it is never told to leave",
        ),
        pytest.param(
            asks(affinity=needs_label("podsla.io/base-mhz", "Gt", "2999")), [node()], [],
            [(1, Lack.LABEL, "podsla.io/base-mhz", "2700")], {},
            id="a floor that no node and no size holds: the label is never to be changed by hand",
        ),
        pytest.param(
            asks(affinity=needs_label("podsla.io/base-mhz", "Gt", "2699")),
            [node(labels={"podsla.io/base-mhz": "2500"})], [],
            [(1, Lack.LABEL, "podsla.io/base-mhz", "2500")], {Change.ADD_NODE: ADD_MEDIUM},
            id="a floor that another size holds",
        ),
        pytest.param(
            asks(nodeSelector={"zone": "b"}), [node(labels={"zone": "a"})], [],
            [(1, Lack.LABEL, "zone", "a")],
            {
                Change.RELABEL: "node n1 has room; the pod requires zone In b, and it has a: "
                "require less, or label a node so",
                Change.ADD_NODE: "a further node of small with zone In b would take the pod",
            },
            id="a node selector of the user's own",
        ),
        pytest.param(
            asks(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]},
                                          {"key": "disk", "operator": "Exists"}]},
                    {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]},
                ]}}}),
            [node(labels={"zone": "a"})], [],
            [(1, Lack.LABEL, "zone", "a")],
            {
                Change.RELABEL: "node n1 has room; the pod requires zone NotIn a, and it has a: "
                "require less, or label a node so",
                Change.ADD_NODE: "a further node of small would take the pod",
            },
            id="of two alternatives, the one that lacks less is told",
        ),
        pytest.param(
            asks(), [node(taints=[BUSY])], [],
            [(1, Lack.TAINT, "busy=yes:NoSchedule", "")],
            {
                Change.TOLERATE: TOLERATE,
                Change.ADD_NODE: "a further node of small would take the pod",
            },
            id="a taint",
        ),
        pytest.param(
            asks(), [node(taints=[{"key": "soft", "effect": "PreferNoSchedule"}])], [], [], {},
            id="a taint that only prefers keeps nobody off",
        ),
        pytest.param(
            asks(tolerations=[{"key": "busy", "operator": "Exists"}]), [node(taints=[BUSY])], [], [], {},
            id="a toleration of the key covers every value and effect",
        ),
        pytest.param(
            asks(tolerations=[{"key": "busy", "value": "no"}]), [node(taints=[BUSY])], [],
            [(1, Lack.TAINT, "busy=yes:NoSchedule", "")],
            {
                Change.TOLERATE: TOLERATE,
                Change.ADD_NODE: "a further node of small would take the pod",
            },
            id="a toleration of another value does not",
        ),
        pytest.param(
            asks(), [{**node(), "spec": {"unschedulable": True, "taints": [
                {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}}], [],
            [(1, Lack.CORDONED, "takes no new pods", "")],
            {
                Change.UNCORDON: "kubectl uncordon n1: it would take the pod",
                Change.ADD_NODE: "a further node of small would take the pod",
            },
            id="a cordoned node is told once, though it has a taint too",
        ),
        pytest.param(
            asks(), [node(pods="1")], [asks("other", "n1")],
            [(1, Lack.HELD, "pods", 0)],
            {
                Change.MAKE_ROOM: "if team-a/other left node n1, it would take the pod",
                Change.ADD_NODE: "a further node of small would take the pod",
            },
            id="the node holds as many pods as it may: no smaller ask helps",
        ),
        pytest.param(
            asks(pps="600k"), [node(pps="0")], [],
            [(1, Lack.NOT_PUBLISHED, PPS, 0)],
            {
                Change.PUBLISH: f"node n1 (medium) publishes no {PPS}: `podsla doctor` says why",
                Change.ADD_NODE: ADD_MEDIUM,
            },
            id="a node that should publish packets and does not",
        ),
        pytest.param(
            asks(pps="600k"), [node(labels={"node.kubernetes.io/instance-type": "t9.tiny"}, pps="0")], [],
            [(1, Lack.NOT_PUBLISHED, PPS, 0)], {Change.ADD_NODE: ADD_MEDIUM},
            id="a node of a type that no catalogue has publishes nothing, and should not",
        ),
        pytest.param(
            asks(pps="600k"), [node("n1"), node("n2"), node("n3")],
            [asks("a", "n1", pps="900k"), asks("b", "n2", pps="500k"), asks("c", "n3", pps="1M")],
            [(3, Lack.HELD, PPS, 500_000)],
            {
                Change.ASK_LESS: f"ask 100k {PPS} less (500k instead of 600k): node n2 has that free",
                Change.MAKE_ROOM: "if team-a/b left node n2, it would take the pod",
                Change.ADD_NODE: ADD_MEDIUM,
            },
            id="of three nodes, the one that comes nearest is told",
        ),
        pytest.param(
            asks(pps="600k"), [node()], [{**asks("done", "n1", pps="1M"), "status": {"phase": "Succeeded"}}], [], {},
            id="a pod that is over holds nothing",
        ),
        pytest.param(
            asks(pps="300k"), [node()], [asks("other", "n1", pps="700k")], [], {}, id="what is left is just enough",
        ),
        pytest.param(
            asks(pps="600k"), [], [], [], {Change.ADD_NODE: ADD_MEDIUM}, id="there is no node at all",
        ),
    ],
)  # fmt: skip
def test_why(subject: Any, nodes: list[Any], pods: list[Any], lacks: list[Any], changes: Mapping[Change, str]) -> None:
    rows, found = told(subject, nodes, pods)

    assert rows == lacks
    if lacks or not nodes:
        assert found == dict(changes)


def test_a_class_that_keeps_more_than_is_free_is_never_told_to_ask_less() -> None:
    _, found = told(asks(pps="600k"), [node()], [asks("other", "n1", pps="700k")], least={PPS: 600_000})

    assert Change.ASK_LESS not in found
    assert Change.MAKE_ROOM in found


def test_without_a_catalogue_no_node_is_proposed() -> None:
    _, found = told(asks(pps="600k"), [node()], [asks("other", "n1", pps="700k")], catalog=None)

    assert found.keys() == {Change.ASK_LESS, Change.MAKE_ROOM}


def test_the_type_that_lacks_least_comes_first() -> None:
    far = node("far", labels={"node.kubernetes.io/instance-type": "a"}, taints=[BUSY])
    rows, _ = told(asks(pps="600k"), [far, node("near")], [asks("other", "near", pps="700k")])

    assert [row[1] for row in rows] == [Lack.HELD, Lack.TAINT]


def test_who_holds_most_of_what_is_missing_comes_first() -> None:
    pods = [asks("small", "n1", pps="100k"), asks("none", "n1"), asks("large", "n1", pps="800k")]
    verdicts = judge(read_needs(asks(pps="600k")), read_places([node()], usage([node()], pods)))

    assert [(holder.held.name, holder.amount) for holder in holders(verdicts)] == [
        ("large", 800_000),
        ("small", 100_000),
    ]


PORTS: Final = {"name": "c", "ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81}]}


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        pytest.param({}, (), id="nothing"),
        pytest.param({"volumes": [{"name": "d", "persistentVolumeClaim": {}}]}, ("volumes",), id="a claim"),
        pytest.param({"volumes": [{"name": "d", "emptyDir": {}}]}, (), id="a volume of the node's own"),
        pytest.param({"affinity": {"podAntiAffinity": {"x": 1}}}, ("pod affinity",), id="other pods"),
        pytest.param(
            {"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule"}]}, ("topology spread",), id="spread"
        ),
        pytest.param({"topologySpreadConstraints": [{"whenUnsatisfiable": "ScheduleAnyway"}]}, (), id="a soft one"),
        pytest.param({"resourceClaims": [{"name": "gpu"}]}, ("resource claims",), id="DRA"),
        pytest.param({"containers": [PORTS]}, ("host ports",), id="a port of the node"),
        pytest.param(
            {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}, (), id="a port of the pod's own"
        ),
    ],
)
def test_what_is_not_judged_is_named(spec: dict[str, Any], names: tuple[str, ...]) -> None:
    assert not_judged(pod(None, **spec)) == names

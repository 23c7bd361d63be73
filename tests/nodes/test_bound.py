"""What a lowered figure leaves to pods that run already: a restarted kubelet must not fail them."""

import json
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.model import Catalog
from catalog.quantity import parse_integer
from nodes.affinity import matches, required_terms
from nodes.bound import RESOURCES, Bound, by_node, keep_promises, promised, read_bound, used_classes
from nodes.capacity import LABELS, Held, plan
from tests.nodes.test_capacity import C7_FIGURES, C7_LABELS, TYPE, applied, node
from tests.nodes.test_offer import CATALOG, TARGET

EMPTY = Catalog((), {}, "sha256:0")


def required(*expressions: Mapping[str, Any]) -> dict[str, Any]:
    """A required node affinity of one term."""
    terms = [{"matchExpressions": list(expressions)}] if expressions else []
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    return {"affinity": {"nodeAffinity": {key: {"nodeSelectorTerms": terms}}}}


def greater(key: str, than: int) -> dict[str, Any]:
    return {"key": key, "operator": "Gt", "values": [str(than)]}


def pod(pps: str = "600k", name: str = "web", phase: str = "Running", **spec: Any) -> dict[str, Any]:
    """A pod that is bound to n1."""
    record = {"class": "net", "revision": "sha256:1", "dimensions": {"network.pps": {"kept": pps, "ask": "1"}}}
    metadata = {
        "namespace": "edge",
        "name": name,
        "uid": "u",
        "labels": {"podsla.io/size": "ecs.c7.xlarge"},
        "annotations": {"podsla.io/record": json.dumps(record)},
    }
    containers = [{"name": "app", "resources": {"requests": {"cpu": "1", "podsla.io/pps": pps}}}]
    return {
        "metadata": metadata,
        "spec": {"nodeName": "n1", "containers": containers} | spec,
        "status": {"phase": phase},
    }


def bound(*pods: Mapping[str, Any]) -> dict[str, list[Bound]]:
    return {name: list(some) for name, some in by_node(read_bound(map(keep_promises, pods))).items()}


def published(labels: Mapping[str, str] = C7_LABELS, size: str = "ecs.c7.xlarge", **figures: str) -> dict[str, Any]:
    """A node of a size that publishes what this size offers, but for *figures*."""
    return node({TYPE: size, **labels}, {**C7_FIGURES, **{f"podsla.io/{key}": value for key, value in figures.items()}})


# --- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catalog", "given_node", "pods", "pps", "held"),
    [
        pytest.param(CATALOG, published(pps="1200k"), [], "950k", None, id="lowered, nobody there: followed at once"),
        pytest.param(
            CATALOG, published(pps="1200k"), [pod()], "950k", None, id="lowered to more than was promised: followed"
        ),
        pytest.param(
            CATALOG,
            published(pps="1200k"),
            [pod(), pod("500k", "other")],
            "1100k",
            Held("n1", "ecs.c7.xlarge", "podsla.io/pps", "950k", "1100k"),
            id="lowered to less than was promised to two pods: down to that",
        ),
        pytest.param(
            CATALOG,
            published(pps="1200k"),
            [pod("1200k", phase="Succeeded"), pod("1200k", phase="Failed")],
            "950k",
            None,
            id="pods that are over need nothing",
        ),
        pytest.param(CATALOG, published(pps="500k"), [pod()], "950k", None, id="raised: followed at once"),
        pytest.param(
            CATALOG,
            published(pps="950k"),
            [pod("2M")],
            "950k",
            None,
            id="a pod that nobody scheduled raises nothing above what was published",
        ),
        pytest.param(
            EMPTY,
            published(),
            [pod()],
            "600k",
            Held("n1", "ecs.c7.xlarge", "podsla.io/pps", None, "600k"),
            id="withdrawn: down to what was promised",
        ),
        pytest.param(EMPTY, published(), [], None, None, id="withdrawn, nobody there: gone"),
    ],
)
def test_a_figure_is_lowered_to_what_bound_pods_were_promised(
    catalog: Catalog, given_node: dict[str, Any], pods: list[Any], pps: str | None, held: Held | None
) -> None:
    found = plan([given_node], catalog, TARGET, bound(*pods))
    after = applied(given_node, found.patches[0]) if found.patches else given_node
    assert [after["status"][group].get("podsla.io/pps") for group in ("capacity", "allocatable")] == [pps, pps]
    assert [one for one in found.held if one.key in RESOURCES] == ([held] if held else [])
    assert plan([after], catalog, TARGET, bound(*pods)).patches == ()


# --- labels -----------------------------------------------------------------------------------------------------------

MHZ = "podsla.io/base-mhz"


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        pytest.param(required(greater(MHZ, 2999)), "3200", id="a floor that only the old label holds keeps it"),
        pytest.param(required(greater(MHZ, 2499)), "2700", id="a floor that the new label holds too does not"),
        pytest.param({"nodeSelector": {MHZ: "3200"}}, "3200", id="a node selector keeps it as well"),
        pytest.param({}, "2700", id="a pod that requires nothing does not"),
        pytest.param(required(greater("podsla.io/generation", 6)), "2700", id="nor does one that requires another"),
        pytest.param(
            required(greater(MHZ, 3999)), "2700", id="nor one that never was right here: it changes nothing for it"
        ),
    ],
)
def test_a_label_stays_while_a_bound_pod_requires_it(spec: dict[str, Any], label: str) -> None:
    before = published({**C7_LABELS, MHZ: "3200"})
    found = plan([before], CATALOG, TARGET, bound(pod(**spec)))
    after = applied(before, found.patches[0]) if found.patches else before
    assert after["metadata"]["labels"] == {TYPE: "ecs.c7.xlarge", **C7_LABELS, MHZ: label}
    assert found.held == ((Held("n1", "ecs.c7.xlarge", MHZ, "2700", "3200"),) if label == "3200" else ())


def test_with_the_catalogue_gone_only_what_bound_pods_require_stays() -> None:
    before = published()
    found = plan([before], EMPTY, TARGET, bound(pod(**required(greater(MHZ, 2499)))))
    after = applied(before, found.patches[0])
    assert after["metadata"]["labels"] == {TYPE: "ecs.c7.xlarge", MHZ: "2700"}
    assert {held.key for held in found.held} == {MHZ, "podsla.io/pps"}


figures = st.dictionaries(st.sampled_from(sorted(RESOURCES)), st.sampled_from(["0", "1", "950k", "2M", "many"]))
labels = st.dictionaries(st.sampled_from([*sorted(LABELS), TYPE]), st.sampled_from(["7", "2700", "3200", "ecs.c7"]))
floors = st.lists(st.builds(greater, st.sampled_from(sorted(LABELS)), st.sampled_from([6, 2499, 2999])), max_size=2)
pods = st.lists(st.builds(lambda pps, e: pod(pps, **(required(*e) if e else {})), st.sampled_from(["1", "2M"]), floors))


@given(thing=st.builds(node, labels, figures), size=st.sampled_from(["ecs.c7.xlarge", "x9.huge"]), some=pods)
def test_no_pod_that_a_restarted_kubelet_would_take_is_one_that_it_fails_afterwards(
    thing: dict[str, Any], size: str, some: list[Any]
) -> None:
    thing["metadata"]["labels"][TYPE] = size
    there = bound(*some)
    found = plan([thing], CATALOG, TARGET, there)
    after = applied(thing, found.patches[0]) if found.patches else thing
    assert plan([after], CATALOG, TARGET, there).patches == ()
    for one in there.get("n1", []):
        if matches(one.selector, one.terms, thing["metadata"]["labels"], "n1"):
            assert matches(one.selector, one.terms, after["metadata"]["labels"], "n1")
    for resource, figure in promised(there.get("n1", [])).items():
        before, now = (amount(each["status"]["allocatable"].get(resource, "0")) for each in (thing, after))
        assert now >= min(before, figure)


def amount(text: str) -> int:
    return 0 if text == "many" else parse_integer(text)


# --- what is read of pods ---------------------------------------------------------------------------------------------


def test_what_is_kept_of_a_pod_is_json_and_says_what_it_was_promised() -> None:
    spec = {"nodeSelector": {"disk": "ssd"}, **required(greater(MHZ, 2499))}
    kept = keep_promises(pod(**spec))
    (one,) = read_bound([json.loads(json.dumps(kept))])
    assert one == Bound(
        pod="edge/web",
        node="n1",
        figures={"podsla.io/pps": 600_000},
        selector={"disk": "ssd"},
        terms=required_terms(spec),
        asked_class="net",
        sla_class="net",
        size="ecs.c7.xlarge",
        revision="sha256:1",
        kept={"network.pps": "600k"},
    )


def test_init_containers_count_as_the_scheduler_counts_them() -> None:
    """The larger of what runs and what starts; a sidecar counts with both."""

    def asking(pps: str, **more: str) -> dict[str, Any]:
        return {"name": "x", "resources": {"requests": {"podsla.io/pps": pps}}, **more}

    thing = pod("100k", initContainers=[asking("50k", restartPolicy="Always"), asking("400k")])
    (one,) = read_bound([keep_promises(thing)])
    assert one.figures == {"podsla.io/pps": 450_000}


def test_a_figure_that_no_integer_of_the_wire_holds_is_kept_and_what_is_not_ours_is_not() -> None:
    """Three containers may ask what together is beyond 64 bits; nobody checks resources of other names at all."""
    most = str(2**63 - 1)
    asking = [{"name": n, "resources": {"requests": {"podsla.io/foo": most, "podsla.io/pps": most}}} for n in "abc"]
    (one,) = read_bound([orjson.loads(orjson.dumps(keep_promises(pod(containers=asking))))])
    assert one.figures == {"podsla.io/pps": 3 * (2**63 - 1)}


@pytest.mark.parametrize(
    "record", ["{", "[]", "1", '{"class": 1}', '{"dimensions": []}', '{"dimensions": {"network.pps": {"kept": 1}}}', ""]
)
def test_a_record_that_cannot_be_read_promises_nothing_by_itself(record: str) -> None:
    thing = pod()
    thing["metadata"]["annotations"]["podsla.io/record"] = record
    (one,) = read_bound([keep_promises(thing)])
    assert (one.sla_class, one.revision, one.kept) == ("", "", {})
    assert one.figures == {"podsla.io/pps": 600_000}


def test_a_pod_uses_the_class_that_it_asks_for_and_the_one_that_it_got() -> None:
    """A pod without a record uses none, and neither does one that waits for a node."""
    fallen, bare = pod(), pod()
    fallen["metadata"]["annotations"]["podsla.io/record"] = json.dumps({"class": "general", "fallbackFrom": "net"})
    del bare["metadata"]["annotations"]
    waiting = pod(nodeName="")
    some = read_bound(map(keep_promises, [pod(), fallen, bare, pod(phase="Succeeded"), waiting]))
    assert used_classes(some) == {"net": 2, "general": 1}


# --- node affinity ----------------------------------------------------------------------------------------------------

LABELLED = {"a": "1", "b": "x"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"key": "a", "operator": "In", "values": ["1", "2"]}, True),
        ({"key": "c", "operator": "In", "values": ["1"]}, False),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, False),
        ({"key": "c", "operator": "NotIn", "values": ["1"]}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "c", "operator": "Exists"}, False),
        ({"key": "c", "operator": "DoesNotExist"}, True),
        ({"key": "a", "operator": "DoesNotExist"}, False),
        ({"key": "a", "operator": "Gt", "values": ["0"]}, True),
        ({"key": "a", "operator": "Gt", "values": ["1"]}, False),
        ({"key": "a", "operator": "Lt", "values": ["2"]}, True),
        ({"key": "b", "operator": "Gt", "values": ["0"]}, False),
        ({"key": "c", "operator": "Lt", "values": ["9"]}, False),
    ],
)
def test_an_expression_means_what_the_scheduler_reads(expression: dict[str, Any], expected: bool) -> None:
    assert matches({}, [{"matchExpressions": [expression]}], LABELLED, "n1") is expected


@pytest.mark.parametrize(
    ("selector", "terms", "expected"),
    [
        pytest.param({}, None, True, id="nothing required"),
        pytest.param({}, [], False, id="no term matches no node"),
        pytest.param({}, [{}], False, id="an empty term matches no node"),
        pytest.param({}, [{}, {"matchExpressions": [{"key": "a", "operator": "Exists"}]}], True, id="one of the terms"),
        pytest.param({"b": "x"}, None, True, id="selector"),
        pytest.param({"b": "y"}, None, False, id="selector of another value"),
        pytest.param(
            {},
            [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}],
            True,
            id="the node's own name",
        ),
        pytest.param(
            {},
            [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}],
            False,
            id="another's name",
        ),
    ],
)
def test_terms_and_selector_mean_what_the_scheduler_reads(selector: Any, terms: Any, expected: bool) -> None:
    assert matches(selector, terms, LABELLED, "n1") is expected

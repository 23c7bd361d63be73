"""What an edit does to pods that run: which keep what they have, and which no longer can."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.fit import compile_index
from catalog.load import load_target
from catalog.model import Catalog
from catalog.reader import read_catalog
from catalog.target import Target
from catalog.yamltext import parse_documents
from tests.drift import drifted
from webhook.admit import Serving, Sized, admit
from webhook.impact import Impact, NamedPod, Outcome, count, impact

TODAY = date(2026, 11, 1)
TARGET = load_target("kubernetes")

OLD = """
apiVersion: podsla.io/v1beta1
kind: SpecCatalog
metadata: {name: platform}
spec:
  sizes:
  - {name: c7.large, vcpu: 2, memory: 4Gi, generation: 7, network: {pps: 900000, queues: 2}}
  - {name: c7.xlarge, vcpu: 4, memory: 8Gi, generation: 7, network: {pps: 1000000, queues: 4}}
  - {name: c7.2xlarge, vcpu: 8, memory: 16Gi, generation: 7, network: {pps: 2000000, queues: 8}}
  classes:
  - {name: net, floor: {network: {pps: 800000}}, tunable: {network.pps: {}}}
  - {name: whole, floor: {network: {pps: 800000}}, reserve: size}
  - {name: old, deprecated: {refuseFrom: 2026-10-01, replacedBy: net}}
"""


def catalog(*edits: tuple[str, str], text: str = OLD) -> Catalog:
    """Read OLD with some of its text replaced."""
    for before, after in edits:
        assert text.count(before) == 1, f"{before!r} must stand in the catalogue once"
        text = text.replace(before, after)
    return read_catalog(parse_documents(text, "catalog.yaml"))


def serving(served: Catalog, target: Target = TARGET, *earlier: Catalog) -> Serving:
    """Serve a catalogue."""
    return Serving(compile_index(served, target), {c.revision: compile_index(c, target) for c in earlier})


def pod(cpu: str = "1", memory: str = "1Gi", **annotations: str) -> dict[str, Any]:
    """Make a pod; min_pps="1M" is podsla.io/min-pps."""
    keys = {f"podsla.io/{key.replace('_', '-')}": text for key, text in annotations.items()}
    amounts = {"cpu": cpu, "memory": memory}
    containers = [{"name": "app", "image": "app", "resources": {"requests": amounts}}]
    return {"metadata": {"name": "p", "annotations": keys}, "spec": {"containers": containers}}


def running(sent: Mapping[str, Any], old: Serving, today: date = TODAY, **labels: str) -> NamedPod:
    """Admit a pod and let it run on a node."""
    answer = admit(sent, labels, old, today)
    assert isinstance(answer, Sized), answer
    admitted = dict(answer.pod)
    return NamedPod("p", {**admitted, "spec": {**admitted["spec"], "nodeName": "node-1"}}, labels)


def judge(sent: Mapping[str, Any], new: Catalog, target: Target = TARGET) -> Impact:
    """Judge one pod, both as it runs and as it was sent: the answers must agree."""
    old = serving(catalog())
    as_it_runs, as_sent = impact([running(sent, old), NamedPod("p", sent, {})], old, serving(new, target), TODAY)
    assert as_it_runs == as_sent
    return as_it_runs


NET = pod(**{"class": "net"})
HELD = "still holds what the running pod was promised"
BEST = "ask for less, or ask the owner of catalogue 'platform' for more"


@pytest.mark.parametrize(
    ("sent", "edits", "expected"),
    [
        pytest.param(NET, [], Impact("p", Outcome.UNCHANGED, "c7.large", "c7.large", ""), id="no edit: no impact"),
        pytest.param(
            NET,
            [("pps: 800000}}, tunable", "pps: 850000}}, tunable")],
            Impact(
                "p",
                Outcome.UNCHANGED,
                "c7.large",
                "c7.large",
                "a new pod like it gets c7.large too (asks network.pps 800k → 850k)",
            ),
            id="a floor is raised within the size: the same size, and the message says what more is asked",
        ),
        pytest.param(
            NET,
            [("pps: 800000}}, tunable", "pps: 900000}}, tunable")],
            Impact(
                "p",
                Outcome.CHANGES,
                "c7.large",
                "c7.xlarge",
                f"a new pod like it gets c7.xlarge instead of c7.large (asks network.pps 800k → 900k); c7.large {HELD}",
            ),
            id="a floor is raised beyond the size: new pods get another, running ones keep theirs",
        ),
        pytest.param(
            pod(**{"class": "net", "min_pps": "900k"}),
            [("pps: 900000,", "pps: 1100000,")],
            Impact(
                "p",
                Outcome.CHANGES,
                "c7.xlarge",
                "c7.large",
                f"a new pod like it gets c7.large instead of c7.xlarge; c7.xlarge {HELD}",
            ),
            id="a figure is raised: a cheaper size does",
        ),
        pytest.param(
            NET,
            [("pps: 900000,", "pps: 800000,")],
            Impact(
                "p",
                Outcome.BREAKS,
                "c7.large",
                "c7.xlarge",
                "network.pps: the pod was promised 800k, and c7.large now offers 760k",
            ),
            id="a figure is lowered below the promise",
        ),
        pytest.param(
            NET,
            [("pps: 900000,", "pps: 850000,")],
            Impact("p", Outcome.UNCHANGED, "c7.large", "c7.large", ""),
            id="a figure is lowered, and the promise still holds",
        ),
        pytest.param(
            NET,
            [("pps: 900000, ", "")],
            Impact(
                "p",
                Outcome.BREAKS,
                "c7.large",
                "c7.xlarge",
                "network.pps: the pod was promised 800k, and c7.large now publishes no figure",
            ),
            id="a figure is withdrawn",
        ),
        pytest.param(
            pod(**{"class": "whole"}),
            [("memory: 4Gi", "memory: 3Gi")],
            Impact(
                "p",
                Outcome.BREAKS,
                "c7.large",
                "c7.large",
                "memory: the pod was promised 3Gi, and c7.large now offers 2Gi",
            ),
            id="a pod that has all of its size breaks with each figure of it",
        ),
        pytest.param(
            NET,
            [("memory: 4Gi", "memory: 3Gi")],
            Impact("p", Outcome.UNCHANGED, "c7.large", "c7.large", ""),
            id="a pod that has only what it asked does not",
        ),
        pytest.param(
            NET,
            [("  - {name: c7.large, vcpu: 2, memory: 4Gi, generation: 7, network: {pps: 900000, queues: 2}}\n", "")],
            Impact("p", Outcome.BREAKS, "c7.large", "c7.xlarge", "size c7.large is gone from the catalogue"),
            id="the size is gone",
        ),
        pytest.param(
            NET,
            [
                ("  - {name: net, floor: {network: {pps: 800000}}, tunable: {network.pps: {}}}\n", ""),
                (", replacedBy: net", ""),
            ],
            Impact(
                "p",
                Outcome.BREAKS,
                "c7.large",
                None,
                "a new pod like it is refused: UnknownClass: class 'net' is in no catalogue; known are old, whole",
            ),
            id="the class is gone",
        ),
        pytest.param(
            pod(**{"class": "net", "min_pps": "1900k"}),
            [("pps: 2000000", "pps: 1500000")],
            Impact(
                "p",
                Outcome.BREAKS,
                "c7.2xlarge",
                None,
                "network.pps: the pod was promised 1900k, and c7.2xlarge now offers 1425k; a new pod like it is "
                "refused: NoSizeFits: no size of class 'net' on target 'kubernetes' holds the pod: network.pps asks "
                "1900k, best is 1425k (c7.2xlarge); what fits: vcpu 1, memory "
                f"1Gi; {BEST}",
            ),
            id="the size is short, and no other holds the pod either",
        ),
    ],
)
def test_impact(sent: Mapping[str, Any], edits: list[tuple[str, str]], expected: Impact) -> None:
    """A running pod and the manifest it came from are judged alike."""
    assert judge(sent, catalog(*edits)) == expected


def test_a_node_type_that_the_cluster_gives_up_breaks_its_pods() -> None:
    """An edit of the target is an edit too."""
    found = judge(NET, catalog(), replace(TARGET, node_types=("c7.xlarge",)))

    assert found.outcome is Outcome.BREAKS
    assert found.message == "target 'kubernetes' has no c7.large any more"


@pytest.mark.parametrize(
    ("sent", "edits", "expected"),
    [
        pytest.param(
            pod(**{"class": "nett"}),
            [("name: net,", "name: nett,"), ("replacedBy: net", "replacedBy: nett")],
            Impact("p", Outcome.NEWLY_SERVED, None, "c7.large", "UnknownClass before; a new pod like it gets c7.large"),
            id="a class comes that the pod names",
        ),
        pytest.param(
            pod(**{"class": "nett"}),
            [],
            Impact(
                "p",
                Outcome.NOT_SERVED,
                None,
                None,
                "UnknownClass: class 'nett' is in no catalogue; did you mean net?",
            ),
            id="refused before and after",
        ),
        pytest.param(pod(), [], Impact("p", Outcome.NOT_OURS, None, None, ""), id="no class: none of our business"),
        pytest.param(
            {"spec": {"containers": []}},
            [],
            Impact(
                "p",
                Outcome.NOT_SERVED,
                None,
                None,
                "spec.containers must name at least one container; the API server would refuse it too",
            ),
            id="not a pod",
        ),
    ],
)
def test_pods_that_had_no_size_are_told_apart(
    sent: Mapping[str, Any], edits: list[tuple[str, str]], expected: Impact
) -> None:
    """Nothing of theirs can break."""
    assert impact([NamedPod("p", sent, {})], serving(catalog()), serving(catalog(*edits)), TODAY) == (expected,)


def test_a_pod_of_a_retired_class_is_judged_by_what_it_was_given() -> None:
    """Its class takes no new pods, before the edit as after: the edit itself breaks nothing."""
    old = serving(catalog())
    retired = running(pod(**{"class": "old"}), old, date(2026, 9, 1))

    (same,) = impact([retired], old, old, TODAY)
    (gone,) = impact([retired], old, serving(catalog(("name: c7.large", "name: c7.small"))), TODAY)

    refused = "a new pod like it is refused: ClassRetired: class 'old' takes no new pods since 2026-10-01; use 'net'."
    assert same == Impact("p", Outcome.UNCHANGED, "c7.large", None, refused)
    assert gone == Impact("p", Outcome.BREAKS, "c7.large", None, f"size c7.large is gone from the catalogue; {refused}")


def test_a_record_of_an_earlier_revision_says_what_was_promised_then() -> None:
    """The serving revision would give another size today; the pod has the one that its record names."""
    first = catalog(("pps: 900000,", "pps: 700000,"))
    old = serving(catalog(), TARGET, first)
    admitted = running(NET, serving(first))

    (same,) = impact([admitted], old, old, TODAY)
    (gone,) = impact([admitted], old, serving(catalog(("name: c7.xlarge", "name: c7.4xlarge"))), TODAY)

    assert same == Impact("p", Outcome.UNCHANGED, "c7.xlarge", "c7.large", "")
    assert gone == Impact("p", Outcome.BREAKS, "c7.xlarge", "c7.large", "size c7.xlarge is gone from the catalogue")


def test_a_default_class_still_counts_for_a_pod_that_is_bound_by_now() -> None:
    """A running pod has a node; the new pod like it has none yet, so the namespace's default reaches it."""
    old = serving(catalog())
    labels = {"podsla.io/default-class": "net"}
    admitted = NamedPod("p", running(pod(), old, TODAY, **labels).pod, labels)
    (found,) = impact([admitted], old, serving(catalog(("pps: 900000,", "pps: 800000,"))), TODAY)

    assert (found.outcome, found.size, found.new_size) == (Outcome.BREAKS, "c7.large", "c7.xlarge")


def gpu_pod(cpu: str, memory: str, **annotations: str) -> dict[str, Any]:
    """Make a pod of class net-gpu."""
    return pod(cpu, memory, **{"class": "net-gpu"}, **annotations)


@pytest.mark.parametrize(
    ("sent", "outcome", "size", "new_size", "message"),
    [
        pytest.param(
            pod(**{"class": "net-intensive", "min_pps": "1M"}),
            Outcome.CHANGES,
            "ecs.g7ne.2xlarge",
            "ecs.g7.large",
            f"a new pod like it gets ecs.g7.large instead of ecs.g7ne.2xlarge; ecs.g7ne.2xlarge {HELD}",
            id="g7.large went from 900k to 1.1M packets/s: a quarter of the size does now",
        ),
        pytest.param(
            pod(**{"class": "net-intensive", "min_nic_queues": "24"}),
            Outcome.BREAKS,
            "ecs.g7ne.16xlarge",
            "ecs.g7ne.8xlarge",
            "size ecs.g7ne.16xlarge is gone from the catalogue",
            id="g7ne.16xlarge is sold no more, and g7ne.8xlarge has its 32 queues now",
        ),
        pytest.param(
            pod(**{"class": "net-intensive", "min_pps": "15M"}),
            Outcome.BREAKS,
            "ecs.g7ne.16xlarge",
            "ecs.g7ne.24xlarge",
            "size ecs.g7ne.16xlarge is gone from the catalogue",
            id="and where it is packets that count, only the next larger size is left",
        ),
        pytest.param(
            gpu_pod("1", "1Gi", min_pps="4400k"),
            Outcome.BREAKS,
            "ecs.gn6i-c24g1.24xlarge",
            None,
            "network.pps: the pod was promised 4400k, and ecs.gn6i-c24g1.24xlarge now offers 4275k; a new pod like it "
            "is refused: NoSizeFits: no size of class 'net-gpu' on target 'kubernetes' holds the pod: network.pps asks "
            "4400k, best is 4275k (ecs.gn6i-c24g1.12xlarge); what fits: vcpu 1, memory 1Gi, gpu.count 1; "
            f"{BEST}",
            id="gn6i-c24g1.24xlarge went from 4.8M to 4.5M packets/s: the promise is broken",
        ),
        pytest.param(
            gpu_pod("1", "1Gi", min_pps="2M"),
            Outcome.CHANGES,
            "ecs.gn6i-c24g1.12xlarge",
            "ecs.gn6i-c4g1.xlarge",
            "a new pod like it gets ecs.gn6i-c4g1.xlarge instead of ecs.gn6i-c24g1.12xlarge; "
            f"ecs.gn6i-c24g1.12xlarge {HELD}",
            id="gn6i-c4g1 went from 0.5M to 2.5M packets/s: one GPU instead of two",
        ),
        pytest.param(
            pod("90", "757Gi", **{"class": "training"}),
            Outcome.BREAKS,
            "ecs.gn7-c13g1.26xlarge",
            None,
            "memory: the pod was promised 757Gi, and ecs.gn7-c13g1.26xlarge now offers 755Gi; a new pod like it is "
            "refused: NoSizeFits: no size of class 'training' on target 'kubernetes' holds the pod: memory asks 757Gi, "
            "best is 755Gi (ecs.gn7-c13g1.26xlarge); what fits: vcpu 90, gpu.count 8; "
            f"{BEST}",
            id="gn7-c13g1.26xlarge went from 760 to 756 GiB: a pod that had them does not come back",
        ),
        pytest.param(
            pod(**{"class": "net-intensive"}),
            Outcome.UNCHANGED,
            "ecs.g7.large",
            "ecs.g7.large",
            "",
            id="most pods do not notice",
        ),
    ],
)
def test_what_five_years_of_published_figures_do_to_pods(
    sent: Mapping[str, Any], outcome: Outcome, size: str, new_size: str | None, message: str, shared_data: Path
) -> None:
    """The real drift between 2021-07 and 2025-26, for pods that were admitted in 2021."""
    before, after = map(serving, drifted(shared_data))

    assert impact([running(sent, before)], before, after, TODAY) == (Impact("p", outcome, size, new_size, message),)


def test_outcomes_are_counted_all() -> None:
    """Also those that no pod has."""
    old = serving(catalog())
    pods = [NamedPod("a", NET, {}), NamedPod("b", pod(), {}), NamedPod("c", NET, {})]

    assert count(impact(pods, old, old, TODAY)) == {
        Outcome.UNCHANGED: 2,
        Outcome.CHANGES: 0,
        Outcome.BREAKS: 0,
        Outcome.NEWLY_SERVED: 0,
        Outcome.NOT_SERVED: 0,
        Outcome.NOT_OURS: 1,
    }


sent_pods = st.builds(
    lambda cpu, memory, keys: pod(cpu, memory, **keys),
    st.sampled_from(["500m", "3", "9"]),
    st.sampled_from(["1Gi", "12Gi"]),
    st.fixed_dictionaries(
        {}, optional={"class": st.sampled_from(["net", "whole", "old", "none", "x"]), "min_pps": st.just("1M")}
    ),
)
floors = st.sampled_from(["800000", "700000", "900000", "1900000"])


@given(sent=sent_pods, admitted_floor=floors, served_floor=floors)
def test_no_edit_has_no_impact(sent: dict[str, Any], admitted_floor: str, served_floor: str) -> None:
    """Whatever a pod is and whenever it was admitted: what was served and is served on changes and breaks nothing."""
    first, second = (
        catalog(("pps: 800000}}, tunable", f"pps: {f}}}}}, tunable")) for f in (admitted_floor, served_floor)
    )
    now = serving(second, TARGET, first)
    answer = admit(sent, {}, serving(first), TODAY)
    stored = answer.pod if isinstance(answer, Sized) else sent

    (found,) = impact([NamedPod("p", stored, {})], now, now, TODAY)

    assert found.outcome not in (Outcome.CHANGES, Outcome.BREAKS, Outcome.NEWLY_SERVED)
    assert (found.size is not None) == (found.outcome is Outcome.UNCHANGED)

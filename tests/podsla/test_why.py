"""Where a pod stands, and what its owner was told where it was never created."""

from typing import Any

import pytest

from catalog.served import Served
from podsla.diagnosis import State, diagnose, dump
from podsla.refusals import Refused, read_refusals
from tests.builders import pod, serving
from tests.podsla.snapshots import node, well
from webhook.admit import Sized, admit

NODES = list(well().nodes)
GATED: dict[str, Any] = {"schedulingGates": [{"name": "kueue"}]}
SERVED = Served(serving().index.catalog, serving().index.target, ())


def sized(pps: str = "700k", **spec: Any) -> dict[str, Any]:
    """A pod of class `net` as the webhook leaves it."""
    answer = admit(pod(annotations={"podsla.io/min-pps": pps}), {}, serving(), well().now.date())
    assert isinstance(answer, Sized)
    found = dict(answer.pod)
    return {**found, "spec": {**found["spec"], **spec}, "status": {"phase": "Pending"}}


@pytest.mark.parametrize(
    ("subject", "nodes", "state"),
    [
        pytest.param(sized(nodeName="n1"), NODES, State.PLACED, id="it has a node"),
        pytest.param({**sized(), "status": {"phase": "Failed"}}, NODES, State.OVER, id="it is over"),
        pytest.param(sized(**GATED), NODES, State.GATED, id="somebody holds it back"),
        pytest.param(sized(), NODES, State.FITS, id="a node would take it"),
        pytest.param(sized("1500k"), NODES[:1], State.NOWHERE, id="no node would"),
        pytest.param(sized(), [], State.NOWHERE, id="there is no node"),
        pytest.param(sized(), None, State.UNKNOWN, id="nodes may not be seen"),
    ],
)
def test_state(subject: Any, nodes: Any, state: State) -> None:
    assert diagnose(subject, nodes, [], SERVED).state is state


def test_who_may_not_see_other_pods_is_told_that_they_are_not_judged() -> None:
    found = diagnose(sized(), NODES, None, SERVED)
    assert (found.state, found.not_judged) == (
        State.FITS,
        ("what other pods hold (you may not list those of all namespaces)",),
    )
    assert diagnose(sized(), NODES, [], SERVED).not_judged == ()


def test_a_waiting_pod_is_told_all_that_helps() -> None:
    other = {**sized("900k", nodeName="n1"), "metadata": {"name": "other", "namespace": "team-b"}}
    found = dump(diagnose(sized(), [node("n1")], [other], SERVED))

    assert (found["class"], found["size"], found["fitting"]) == ("net", "medium", [])
    assert found["missing"] == [
        {
            "nodeType": "medium", "nodes": 1, "lacking": 1, "reason": "Insufficient", "what": "podsla.io/pps",
            "asked": 700_000, "free": 50_000, "allocatable": 950_000,
        }
    ]  # fmt: skip
    assert [(one["pod"], one["holds"]) for one in found["holders"]] == [("team-b/other", 900_000)]
    assert [one["change"] for one in found["changes"]] == ["MakeRoom", "AddNode"], "50k are less than its class keeps"


def test_a_placed_pod_is_told_what_its_node_has() -> None:
    here = sized(nodeName="n1")
    found = diagnose(here, NODES, [here], None)

    assert ("podsla.io/pps", "700k", "700k promised of 950k") in found.kept
    assert found.proposals == ()


def test_of_a_pod_that_is_over_the_last_word_is_told() -> None:
    status = {"phase": "Failed", "reason": "OutOfpodsla.io/pps", "message": "Pod was rejected"}
    found = diagnose({**sized(nodeName="n1"), "status": status}, NODES, [], None)

    assert found.said == "OutOfpodsla.io/pps: Pod was rejected"


def event(message: str, *, at: str = "2026-11-23T10:00:00Z", **fields: Any) -> dict[str, Any]:
    about = {"kind": "ReplicaSet", "name": "web-1", "uid": "u1"}
    return {"reason": "FailedCreate", "message": message, "involvedObject": about, "lastTimestamp": at, **fields}


QUOTA = (
    'Error creating: pods "web-1-x" is forbidden: exceeded quota: packets, requested: requests.podsla.io/pps=600k,'
    "requests.cpu=500m, used: requests.podsla.io/pps=900k,requests.cpu=1, limited: requests.podsla.io/pps=1M,"
    "requests.cpu=4"
)
DOWN = 'Error creating: Internal error occurred: failed calling webhook "pods.podsla.io": no endpoints available'


@pytest.mark.parametrize(
    ("message", "refused", "said", "advice"),
    [
        pytest.param(
            'Error creating: admission webhook "pods.podsla.io" denied the request: no size holds the pod',
            Refused.BY_PODSLA, "no size holds the pod", "", id="podsla refused it, and says what to do",
        ),
        pytest.param(
            'Error creating: admission webhook "policy.example.com" denied the request: no',
            Refused.BY_WEBHOOK, "no", "ask whoever runs the webhook policy.example.com", id="another webhook",
        ),
        pytest.param(
            QUOTA, Refused.QUOTA, QUOTA.partition("forbidden: ")[2],
            "in quota packets, raise requests.podsla.io/pps from 1M to 1500k; or ask less", id="a quota",
        ),
        pytest.param(
            DOWN, Refused.NO_ANSWER, DOWN.removeprefix("Error creating: "), "`podsla doctor` says why",
            id="podsla does not answer",
        ),
        pytest.param(
            'Error creating: pods "web-1-x" is forbidden: violates PodSecurity "restricted:latest"', Refused.OTHER,
            'pods "web-1-x" is forbidden: violates PodSecurity "restricted:latest"', "", id="anything else",
        ),
    ],
)  # fmt: skip
def test_refusal(message: str, refused: Refused, said: str, advice: str) -> None:
    (found,) = read_refusals([event(message, count=7)], {"u1": "ReplicaSet/web-1"})

    assert (found.owner, found.count, found.refused, found.message, found.advice) == (
        "ReplicaSet/web-1",
        7,
        refused,
        said,
        advice,
    )


def test_the_newest_word_to_each_owner_counts_and_that_to_others_does_not() -> None:
    events = [
        event("Error creating: new", at="2026-11-23T11:00:00Z"),
        event("Error creating: old"),
        event("Error creating: other", involvedObject={"uid": "u2"}),
        event("created", reason="SuccessfulCreate", at="2026-11-23T12:00:00Z"),
    ]

    assert [one.message for one in read_refusals(events, {"u1": "ReplicaSet/web-1"})] == ["new"]

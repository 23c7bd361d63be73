"""What the controller does next for an attachment, row by row; and no end while anything may be held."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attach.api import Attachment, Condition, Type, merge_conditions, parse_attachment, placeholder_name
from attach.budget import Budget
from attach.placeholder import Pod, mutation, placeholder, read_pod, warm_placeholder
from attach.reasons import Reason
from attach.reserve import (
    Action,
    Claim,
    HandOver,
    Idle,
    Node,
    Remove,
    Report,
    Reserve,
    Seen,
    TakeBack,
    Unclaim,
    Withdraw,
    decide,
)
from catalog.target import Metadata
from tests.attach.test_api import NOW, attachment
from tests.sample import answer
from webhook.decision import Ignore, Skip

NODE = Node("n1", 1, "NVIDIA-A10", ("NVIDIA-A10",))
NOW_S = NOW.timestamp() + 60.0


def pod(**fields: Any) -> Pod:
    """The target, as it runs."""
    target = Pod("eval-x7k2p", "p1", "5", "n1", "Running", False, "", "", "", "", (("worker", {}), ("proxy", {})), ())
    return replace(target, **fields)


def holding(**fields: Any) -> Pod:
    """The placeholder, before it has a node."""
    body = placeholder(asked(), pod(), "podsla")
    made = read_pod({**body, "metadata": {**body["metadata"], "uid": "h1", "resourceVersion": "9"}, "status": {}})
    return replace(made, **fields)


def warm(**fields: Any) -> Pod:
    """A warm placeholder, on the target's node."""
    body = warm_placeholder("podsla-warm-a", "team-a", "nvidia.com/gpu", pod(), "podsla")
    metadata = {**body["metadata"], "uid": "w1", "resourceVersion": "11"}
    made = read_pod({**body, "metadata": metadata, "status": {"phase": "Running"}})
    return replace(made, node="n1", **fields)


def asked(*conditions: Condition, spec: dict[str, Any] | None = None, **status: Any) -> Attachment:
    """An attachment that is ours to see to."""
    metadata = {"finalizers": ["podsla.io/gpu-attachment"], **status.pop("metadata", {})}
    merged = merge_conditions((), conditions, 2, NOW)
    return parse_attachment(attachment(spec, metadata=metadata, status={**status, "conditions": merged}))


def seen(**fields: Any) -> Seen:
    """All is well, and it is its turn."""
    everything: dict[str, Any] = {
        "target": pod(), "node": NODE, "placeholder": None, "next": True, "position": 1, "now_s": NOW_S,
    }  # fmt: skip
    return Seen(**{**everything, **fields})


SETTLED: dict[str, Any] = {"podUID": "p1", "container": "worker", "node": "n1"}
NAMED: dict[str, Any] = {**SETTLED, "placeholder": {"name": placeholder_name("u1")}}
KNOWN: dict[str, Any] = {**SETTLED, "placeholder": {"name": placeholder_name("u1"), "uid": "h1"}}
CHOSEN: dict[str, Any] = {**SETTLED, "placeholder": {"name": "podsla-warm-a"}}
HANDED: dict[str, Any] = {**SETTLED, "placeholder": {"name": "podsla-warm-a", "uid": "w1"}}
OWN: dict[str, Any] = {"attachment": "u1", "owner": "u1"}
RELEASED = Condition(Type.RELEASED, True, "Released", "")
ATTACHED = Condition(Type.ATTACHED, True, "Attached", "")
LEFT, SPENT = Budget(10, 599, NOW_S), Budget(10, 660, NOW_S)
SAID_SPENT = (
    "11 of its 10 GPU-minutes of today are used; there are more from 2026-01-02T03:05:05Z on, "
    "or ask the owner of the catalogue"
)


@pytest.mark.parametrize(
    ("thing", "world", "expected"),
    [
        pytest.param(parse_attachment(attachment()), seen(), Claim(pod()), id="first of all the finalizer"),
        pytest.param(
            parse_attachment(attachment(metadata={"deletionTimestamp": "2026-01-02T03:04:05Z"})),
            seen(),
            Idle(),
            id="deleted before it was ours: it goes by itself",
        ),
        pytest.param(
            asked(),
            seen(next=False),
            Report({"podUID": "p1", "container": "worker", "node": "n1"}),
            id="whom it is for, once",
        ),
        pytest.param(asked(), seen(), Report(NAMED), id="and what reserves for it, in the same write"),
        pytest.param(asked(), seen(warm=warm()), Report(CHOSEN), id="what is ready, in the same write"),
        pytest.param(
            asked(), seen(warm=warm(), budget=SPENT), Report(SETTLED), id="nothing is chosen where nothing may be held"
        ),
        pytest.param(
            asked(),
            seen(target=pod(node="", default_container="proxy"), node=None),
            Report({"podUID": "p1", "container": "proxy"}),
            id="a pod that has no node yet is still the one",
        ),
        pytest.param(
            asked(**SETTLED),
            seen(),
            Report({"placeholder": {"name": placeholder_name("u1")}}),
            id="intent before the effect",
        ),
        pytest.param(asked(**NAMED), seen(), Reserve(), id="the effect"),
        pytest.param(
            asked(**NAMED),
            seen(placeholder=holding()),
            Report({"placeholder": {"name": placeholder_name("u1"), "uid": "h1"}}),
            id="an own placeholder that is found is taken over",
        ),
        pytest.param(
            asked(RELEASED, **KNOWN), seen(placeholder=holding()), Withdraw(holding()), id="put away at the end"
        ),
        pytest.param(asked(RELEASED, **KNOWN), seen(), Unclaim(), id="and the finalizer last"),
        pytest.param(asked(ATTACHED, **KNOWN), seen(target=None), Idle(), id="attached: the agent has the word"),
        pytest.param(
            asked(**KNOWN, spec={"release": True}),
            seen(placeholder=holding(node="n1")),
            Idle(2.0),
            id="released, and bound to its node: the agent has the word",
        ),
        pytest.param(
            asked(**KNOWN, spec={"release": True}),
            seen(placeholder=holding()),
            Withdraw(holding()),
            id="released unbound",
        ),
        pytest.param(
            asked(**KNOWN, spec={"release": True}), seen(), Idle(2.0), id="gone unseen: the agent may have had it"
        ),
        pytest.param(asked(**NAMED), seen(budget=LEFT), Reserve(), id="a second is left of the budget"),
        pytest.param(
            asked(**SETTLED),
            seen(warm=warm(), next=False, position=3),
            Report({"placeholder": {"name": "podsla-warm-a"}}),
            id="kept ready for it: whose turn it is does not matter; intent before the effect",
        ),
        pytest.param(asked(**CHOSEN), seen(placeholder=warm()), HandOver(warm()), id="the effect: it is handed over"),
        pytest.param(
            asked(**CHOSEN),
            seen(placeholder=warm(**OWN)),
            Report({"placeholder": {"name": "podsla-warm-a", "uid": "w1"}}),
            id="its own now: the agent may count on it",
        ),
        pytest.param(
            asked(**CHOSEN),
            seen(placeholder=warm(attachment="u2", owner="u2")),
            Report({"placeholder": None}),
            id="another has it: it waits as before",
        ),
        pytest.param(
            asked(**CHOSEN),
            seen(placeholder=warm(deleting=True)),
            Report({"placeholder": None}),
            id="it is being given back: it waits as before",
        ),
        pytest.param(
            asked(**CHOSEN),
            seen(placeholder=warm(phase="Failed")),
            Report({"placeholder": None}),
            id="its node refused it: it waits as before",
        ),
        pytest.param(asked(**CHOSEN), seen(), Report({"placeholder": None}), id="it is gone: it waits as before"),
        pytest.param(
            asked(**CHOSEN),
            seen(placeholder=warm(), budget=SPENT),
            Report({"placeholder": None}),
            id="spent before it was handed over",
        ),
        pytest.param(
            asked(**CHOSEN, spec={"release": True}),
            seen(placeholder=warm()),
            Report(
                {"queuePosition": 0},
                (Condition(Type.RELEASED, True, "Released", "it was given back before a GPU was reserved for it"),),
            ),
            id="released before it was handed over: what is kept ready stays",
        ),
        pytest.param(
            asked(**HANDED, spec={"release": True}),
            seen(placeholder=warm(**OWN)),
            Idle(2.0),
            id="released once it was handed over: the agent has the word",
        ),
        pytest.param(
            asked(RELEASED, **CHOSEN), seen(placeholder=warm()), Unclaim(), id="over: what it never had stays"
        ),
        pytest.param(asked(**NAMED), seen(budget=SPENT), Report({"placeholder": None}), id="spent before it was made"),
        pytest.param(
            asked(**KNOWN), seen(budget=SPENT, placeholder=holding()), Withdraw(holding()), id="spent while it waits"
        ),
        pytest.param(
            asked(**KNOWN), seen(budget=SPENT, withdrawn=True), Report({"placeholder": None}), id="withdrawn, and waits"
        ),
        pytest.param(
            asked(**SETTLED),
            seen(budget=SPENT, placeholder=holding(attachment="other")),
            Report(
                {"queuePosition": 0},
                (Condition(Type.RESERVED, False, "BudgetSpent", f"in namespace team-a {SAID_SPENT}"),),
            ),
            id="another's pod is left alone",
        ),
        pytest.param(
            asked(ATTACHED, **KNOWN),
            seen(budget=SPENT),
            TakeBack(f"it is taken back: {SAID_SPENT}"),
            id="held, and spent",
        ),
        pytest.param(
            asked(ATTACHED, **KNOWN, spec={"release": True}), seen(budget=SPENT), Idle(), id="taken back once"
        ),
        pytest.param(asked(RELEASED, **KNOWN), seen(noted=False), Idle(2.0), id="first the ledger, then the finalizer"),
    ],
)
def test_the_next_write(thing: Attachment, world: Seen, expected: Action) -> None:
    assert decide(thing, world) == expected


@pytest.mark.parametrize(
    ("thing", "world", "kind", "reason", "message"),
    [
        pytest.param(
            asked(**NAMED),
            seen(refused="exceeded quota: gpus, requested: 1, used: 2, limited: 2", over_quota=True),
            None,
            "QuotaExceeded",
            "exceeded quota: gpus, requested: 1, used: 2, limited: 2; it is asked for again",
            id="no quota: it waits",
        ),
        pytest.param(
            asked(**NAMED),
            seen(refused="violates PodSecurity"),
            Type.FAILED,
            "PlaceholderRefused",
            "the API server refuses its placeholder: violates PodSecurity",
            id="refused for good",
        ),
        pytest.param(
            asked(**NAMED),
            seen(placeholder=holding(demands=(("hold", {"nvidia.com/gpu": "2"}),))),
            Type.FAILED,
            "PlaceholderMutated",
            f"pod {placeholder_name('u1')}: it came back with a request of 2 nvidia.com/gpu, and was sent with 1; "
            "another webhook changed it, which must leave it alone",
            id="another webhook changed it",
        ),
        pytest.param(
            asked(**KNOWN),
            seen(placeholder=holding(node="n1", phase="Failed", why="UnexpectedAdmissionError")),
            Type.FAILED,
            "PlaceholderFailed",
            f"pod {placeholder_name('u1')} ended as Failed before a GPU was attached: UnexpectedAdmissionError",
            id="its node refused it",
        ),
        pytest.param(
            asked(**KNOWN),
            seen(missing_s=20.0),
            Type.FAILED,
            "PlaceholderLost",
            f"pod {placeholder_name('u1')} is gone before its node had it: deleted, evicted or preempted; ask again",
            id="deleted by hand",
        ),
        pytest.param(
            asked(**KNOWN, spec={"release": True}),
            seen(withdrawn=True),
            Type.RELEASED,
            "Released",
            "it was given back before a GPU was reserved for it",
            id="given back in time",
        ),
        pytest.param(
            asked(spec={"renewTime": "2026-01-02T03:04:05Z", "leaseSeconds": 10}),
            seen(),
            Type.FAILED,
            "LeaseExpired",
            "its lease of 10 s was renewed 60 s ago, before a GPU was reserved for it",
            id="its client is gone",
        ),
        pytest.param(
            asked(spec={"models": ["T4"]}),
            seen(node=replace(NODE, spellings=("Tesla-T4",))),
            Type.FAILED,
            "NoSuchModel",
            "node n1 has NVIDIA-A10; asked is T4; give the pod a class of these models",
            id="another model",
        ),
    ],
)
def test_what_is_said(thing: Attachment, world: Seen, kind: Type | None, reason: Reason, message: str) -> None:
    action = decide(thing, world)
    assert isinstance(action, Report)
    (condition,) = action.conditions
    assert condition == Condition(kind or Type.RESERVED, kind is not None, reason, message)


def test_it_is_removed_once_its_time_is_over() -> None:
    ended = parse_attachment(
        attachment({"ttlSecondsAfterFinished": 60}, status={"conditions": merge_conditions((), [RELEASED], 1, NOW)})
    )
    assert decide(ended, seen(now_s=NOW_S - 1.0)) == Idle(1.0)
    assert decide(ended, seen(now_s=NOW_S)) == Remove()


def test_a_placeholder_stands_where_its_target_does_belongs_to_its_attachment_and_drives_nobody_away() -> None:
    """It tolerates what its target does and nothing else: no taint of podsla's either."""
    tolerations: tuple[dict[str, Any], ...] = ({"key": "edge", "operator": "Exists", "effect": "NoSchedule"},)
    for target, tolerated in ((pod(tolerations=tolerations), list(tolerations)), (pod(), [])):
        body = placeholder(asked(), target, "podsla")

        assert body["metadata"]["ownerReferences"] == [
            {
                "apiVersion": "podsla.io/v1beta1",
                "kind": "GPUAttachment",
                "name": "eval",
                "uid": "u1",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
        assert body["spec"]["tolerations"] == tolerated
        assert body["spec"]["priorityClassName"] == "podsla-placeholder"
        assert body["spec"]["affinity"] == {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
                    ]
                }
            }
        }
        assert "nodeName" not in body["spec"]


def test_a_placeholder_carries_what_the_target_says_and_what_is_ours_stays_ours() -> None:
    """Both kinds: the one that is made for an attachment, and the one that is kept ready."""
    labels = (("kueue.x-k8s.io/queue-name", "gpus"), ("podsla.io/placeholder", "forged"))
    more = Metadata(labels, (("example.com/team", "edge"), ("podsla.io/class", "net")))
    made = placeholder(asked(), pod(), "podsla", more)["metadata"]
    kept = warm_placeholder("podsla-warm-a", "team-a", "nvidia.com/gpu", pod(), "podsla", more)["metadata"]

    for metadata, uid in ((made, "u1"), (kept, "warm")):
        assert metadata["labels"] == {
            "kueue.x-k8s.io/queue-name": "gpus",
            "podsla.io/placeholder": uid,
            "sidecar.istio.io/inject": "false",
        }
        assert metadata["annotations"] == {
            "example.com/team": "edge",
            "podsla.io/class": "none",
            "sidecar.istio.io/inject": "false",
            "linkerd.io/inject": "disabled",
        }


def test_a_placeholder_comes_back_as_it_was_sent() -> None:
    body = placeholder(asked(), pod(), "podsla")
    body["metadata"]["uid"] = "h1"
    assert mutation(read_pod(body), "nvidia.com/gpu", 1) == ""
    body["spec"]["initContainers"] = [{"name": "istio-init"}, {"name": "istio-proxy", "restartPolicy": "Always"}]
    assert mutation(read_pod(body), "nvidia.com/gpu", 1) == (
        "it came back with init containers istio-init, istio-proxy, and was sent with none"
    )
    body["spec"]["containers"].append({"name": "istio-proxy"})
    assert mutation(read_pod(body), "nvidia.com/gpu", 1) == (
        "it came back with containers hold, istio-proxy, and was sent with hold"
    )


@pytest.mark.parametrize("labels", [{}, {"podsla.io/default-class": "net"}], ids=["plain", "a default class"])
def test_the_webhook_leaves_a_placeholder_alone(labels: dict[str, str]) -> None:
    assert answer(placeholder(asked(), pod(), "podsla"), labels=labels) == Ignore(Skip.OPTED_OUT)


WORLDS = st.builds(
    seen,
    target=st.sampled_from([None, pod(), pod(uid="p2"), pod(deleting=True), pod(phase="Succeeded"), pod(node="")]),
    node=st.sampled_from([None, NODE]),
    placeholder=st.sampled_from(
        [
            *(None, holding(), holding(node="n1"), holding(node="n1", phase="Failed"), holding(uid="h2")),
            *(warm(), warm(deleting=True), warm(**OWN), warm(attachment="u2", owner="u2")),
        ]
    ),
    warm=st.sampled_from([None, warm()]),
    next=st.booleans(),
    refused=st.sampled_from(["", "no"]),
    over_quota=st.booleans(),
    missing_s=st.sampled_from([0.0, 20.0]),
    withdrawn=st.booleans(),
    budget=st.sampled_from([None, LEFT, SPENT]),
    noted=st.booleans(),
)
SAID = st.lists(st.builds(Condition, st.sampled_from(Type), st.booleans(), st.just("R"), st.just("")), max_size=3)


@given(
    world=WORLDS,
    said=SAID,
    status=st.sampled_from([{}, SETTLED, NAMED, KNOWN, CHOSEN, HANDED]),
    release=st.booleans(),
    finalized=st.booleans(),
)
def test_nothing_ends_while_a_node_may_hold_it(
    world: Seen, said: list[Condition], status: dict[str, Any], release: bool, finalized: bool
) -> None:
    """Where the agent spoke, or a placeholder that it may count on is bound, its word ends it and nobody else's."""
    metadata: dict[str, Any] = {} if finalized else {"finalizers": []}
    thing = asked(*said, spec={"release": release}, metadata=metadata, **status)
    action = decide(thing, world)
    ends = isinstance(action, Report) and any(
        c.true and c.kind in (Type.FAILED, Type.RELEASED) for c in action.conditions
    )
    held = world.placeholder
    counted_on = {id(KNOWN): "h1", id(HANDED): "w1"}.get(id(status))
    bound = held is not None and held.uid == counted_on and bool(held.node) and not held.ended
    bound = bound and held is not None and held.attachment == "u1"
    spoke = any(thing.status.has(kind) for kind in Type)
    if not thing.is_finished and world.node is not None and (bound or spoke):
        assert not ends
        assert not isinstance(action, Withdraw | Unclaim | Remove)
    if not thing.finalized:
        assert not isinstance(action, Reserve | Report)
    if isinstance(action, Reserve):
        assert thing.status.placeholder is not None
    if isinstance(action, HandOver):
        assert action.pod.is_free
        assert thing.status.placeholder is not None
        assert thing.status.placeholder.name == action.pod.name
    if isinstance(action, Withdraw):
        assert action.pod.attachment == thing.uid, "what is kept ready is not its own to take away"
    if isinstance(action, Unclaim):
        assert thing.is_finished
        assert world.noted
        assert held is None or held.attachment != thing.uid


def test_an_init_container_may_borrow_and_a_typo_of_its_name_is_told() -> None:
    """It runs before the others, as a phase of their work."""
    thing = {"metadata": {"name": "eval-x7k2p"}, "spec": {"initContainers": [{"name": "infer"}], "containers": []}}
    target = pod(init_containers=read_pod(thing).init_containers)

    known = decide(asked(spec={"container": "infer"}), seen(target=target))
    typo = decide(asked(spec={"container": "infre"}), seen(target=target))

    assert isinstance(known, Report)
    assert dict(known.fields)["container"] == "infer"
    assert isinstance(typo, Report)
    assert [(c.reason, "did you mean infer?" in c.message) for c in typo.conditions] == [("NoSuchContainer", True)]

"""Who may borrow for which pod, speak of it, and touch what reserves: as a real API server judges tokens."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.manifests.kubectl import MANIFESTS, run
from tests.manifests.test_gpu_crd_live import document
from tests.system.user import User

pytestmark = pytest.mark.cluster

WHERE = "policies-gpu"
CONTROLLER = "system:serviceaccount:podsla-system:podsla-controller"
AGENT = "system:serviceaccount:podsla-agents:podsla-agent"
TENANT = f"system:serviceaccount:{WHERE}:default"
POD_KEYS = ("authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid")
NODE_KEY = "authentication.kubernetes.io/node-name"
ADMIN_ROLE = "podsla-gpu-admin"


@pytest.fixture(scope="module")
def policies(admin: User, crd: None) -> Iterator[None]:
    """The policies, a tenant whose account may borrow, a person who may do all, and the agent's rights."""
    for file in ("namespace.yaml", "priority.yaml", "rbac", "policies/gpu-attachments.yaml"):
        run(admin, "apply", "-f", str(MANIFESTS / "base" / file))
    run(admin, "create", "namespace", WHERE)
    run(admin, "wait", "--for=create", "serviceaccount/default", "-n", WHERE, "--timeout=60s")
    for name, role, who in (
        ("borrower", "podsla-gpu-borrower", f"--serviceaccount={WHERE}:default"),
        ("editor", "edit", f"--serviceaccount={WHERE}:default"),
        ("lender", "podsla-gpu-admin", "--user=ada"),
        ("lenders-pods", "edit", "--user=ada"),
        ("agent", "admin", f"--user={AGENT}"),
        ("agent-status", "podsla-gpu-status-test", f"--user={AGENT}"),
    ):
        run(admin, "-n", WHERE, "create", "rolebinding", name, f"--clusterrole={role}", who)
    rule = ("--verb=get,patch,update", "--resource=gpuattachments.podsla.io/status")
    run(admin, "create", "clusterrole", "podsla-gpu-status-test", *rule)
    for _ in count():  # the API server takes a policy over within a second
        if borrow(admin, "probe", {"podName": "other"}, pod="mine"):
            break
        run(admin, "-n", WHERE, "delete", "gpua", "probe", "--ignore-not-found")
    yield
    run(admin, "delete", "-f", str(MANIFESTS / "base/policies/gpu-attachments.yaml"))
    run(admin, "delete", "namespace", WHERE, "--wait=false")
    run(admin, "delete", "clusterrole", "podsla-gpu-status-test")


def token(pod: str, uid: str = "u1") -> tuple[str, ...]:
    """Speak with the token of a pod."""
    extra = zip(POD_KEYS, (pod, uid), strict=True)
    return ("--as", TENANT, *(f"--as-user-extra={key}={value}" for key, value in extra if pod))


def borrow(admin: User, name: str, spec: dict[str, Any], pod: str) -> str:
    """Create an attachment with a pod's token, and read why it was refused."""
    return answer(admin, *token(pod), "create", "-f", "-", text=document(name, spec))


def answer(admin: User, *arguments: str, text: str | None = None) -> str:
    done = admin.kubectl("-n", WHERE, *arguments, text=text)
    return done.stderr.strip() if done.returncode else ""


def placeholder(name: str, *, labelled: bool = True, label: str = "u") -> str:
    """Write a pod that says that it reserves."""
    labels = {"podsla.io/placeholder": label} if labelled else {}
    spec = {"containers": [{"name": "c", "image": "x"}]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})


@pytest.mark.usefixtures("policies")
@pytest.mark.parametrize(
    ("spec", "pod", "said"),
    [
        pytest.param({"podName": "mine"}, "mine", "", id="its own pod"),
        pytest.param({"podName": "mine", "podUID": "u1"}, "mine", "", id="its own pod by UID"),
        pytest.param({"podName": "mine", "podUID": "u2"}, "mine", "this token is of pod mine", id="a later pod"),
        pytest.param(
            {"podName": "other"},
            "mine",
            "this token is of pod mine, and the attachment is for pod other; "
            "a pod attaches to itself only, others need the verb attach-any on gpuattachments",
            id="another pod",
        ),
        pytest.param({"podName": "mine"}, "", "this token is bound to no pod", id="a token of no pod"),
    ],
)
def test_a_pod_attaches_to_itself_only(admin: User, spec: dict[str, Any], pod: str, said: str) -> None:
    refused = borrow(admin, "a", spec, pod)
    assert said in refused
    assert bool(refused) == bool(said)
    run(admin, "-n", WHERE, "delete", "gpua", "a", "--ignore-not-found")


@pytest.mark.usefixtures("policies")
def test_a_person_with_the_verb_attaches_to_any_pod_and_a_token_of_another_namespace_to_none(admin: User) -> None:
    assert answer(admin, "--as", "ada", "create", "-f", "-", text=document("ada", {"podName": "mine"})) == ""
    pod, uid = (f"--as-user-extra={key}={value}" for key, value in zip(POD_KEYS, ("mine", "u1"), strict=True))
    run(
        admin,
        "create",
        "rolebinding",
        "x",
        "-n",
        WHERE,
        "--clusterrole=podsla-gpu-borrower",
        "--user=system:serviceaccount:default:default",
    )
    other = ("--as", "system:serviceaccount:default:default", pod, uid)
    assert "attach-any" in answer(admin, *other, "create", "-f", "-", text=document("x", {"podName": "mine"}))
    run(admin, "-n", WHERE, "delete", "gpua", "ada")


@pytest.mark.usefixtures("policies")
def test_a_pod_neither_releases_nor_deletes_what_another_borrowed(admin: User) -> None:
    assert borrow(admin, "b", {"podName": "mine"}, "mine") == ""
    release = ("patch", "gpua", "b", "--type=merge", "-p", '{"spec": {"release": true}}')
    assert "this token is of pod other" in answer(admin, *token("other"), *release)
    assert "this token is of pod other" in answer(admin, *token("other"), "delete", "gpua", "b")
    assert answer(admin, *token("mine"), *release) == ""
    assert answer(admin, *token("mine"), "delete", "gpua", "b") == ""


@pytest.mark.usefixtures("policies")
def test_a_quarantine_is_ended_by_an_administrator_of_gpus_alone_and_a_typo_is_told(admin: User) -> None:
    assert borrow(admin, "c", {"podName": "mine"}, "mine") == ""
    force = ("annotate", "gpua", "c", "podsla.io/force-release=true")
    assert "needs the verb force-release" in answer(admin, *token("mine"), *force)
    assert "is no annotation of an attachment" in answer(
        admin, *token("mine"), "annotate", "gpua", "c", "podsla.io/froce=1"
    )
    assert answer(admin, "--as", "ada", *force) == ""
    assert answer(admin, *token("mine"), "delete", "gpua", "c") == ""
    misspelt = json.loads(document("typo", {"podName": "mine"}))
    misspelt["metadata"]["annotations"] = {"podsla.io/force-relase": "true", "example.com/note": "mine"}
    said = answer(admin, *token("mine"), "create", "-f", "-", text=json.dumps(misspelt))
    assert "podsla.io/force-relase is no annotation of an attachment; did you mean podsla.io/force-release?" in said


@pytest.mark.usefixtures("policies")
def test_an_agent_speaks_of_its_own_node_and_only_of_what_is_its_own(admin: User) -> None:
    assert borrow(admin, "d", {"podName": "mine"}, "mine") == ""
    how = ("patch", "gpua", "d", "--subresource=status", "--type=merge", "-p")
    agent = ("--as", AGENT, f"--as-user-extra={NODE_KEY}=n1")
    attached = '{"status": {"heldSeconds": 1}}'
    assert "the attachment is on node none yet" in answer(admin, *agent, *how, attached)
    run(admin, "-n", WHERE, *how, '{"status": {"node": "n2"}}')
    assert "this token is of node n1, and the attachment is on node n2" in answer(admin, *agent, *how, attached)
    run(admin, "-n", WHERE, *how, '{"status": {"node": "n1"}}')
    assert answer(admin, *agent, *how, attached) == ""
    assert "are the controller's to write" in answer(admin, *agent, *how, '{"status": {"node": "n3"}}')
    stolen = '{"status": {"placeholder": {"name": "x"}}}'
    assert "are the controller's to write" in answer(admin, *agent, *how, stolen)
    assert "this token is of node none" in answer(admin, "--as", AGENT, *how, attached)
    assert "forbidden" in answer(admin, *token("mine"), *how, attached)
    assert answer(admin, *token("mine"), "delete", "gpua", "d") == ""


@pytest.mark.usefixtures("policies")
def test_placeholders_are_the_controllers_and_it_makes_nothing_else(admin: User) -> None:
    forged = answer(admin, *token("mine"), "create", "-f", "-", text=placeholder("forged"))
    assert "are made by podsla's controller" in forged
    assert answer(admin, "--as", CONTROLLER, "create", "-f", "-", text=placeholder("real")) == ""
    other = answer(admin, "--as", CONTROLLER, "create", "-f", "-", text=placeholder("other", labelled=False))
    assert "which makes no others" in other
    for edit in ("podsla.io/placeholder-", "podsla.io/placeholder=v"):
        assert "cannot change" in answer(admin, *token("mine"), "label", "--overwrite", "pod", "real", edit)
    assert "this pod reserves a GPU that may be in use" in answer(admin, *token("mine"), "delete", "pod", "real")
    assert answer(admin, *token("mine"), "create", "-f", "-", text=placeholder("plain", labelled=False)) == ""
    assert "cannot change" in answer(admin, *token("mine"), "label", "pod", "plain", "podsla.io/placeholder=u")
    assert "and no others" in answer(admin, "--as", CONTROLLER, "delete", "pod", "plain")
    assert answer(admin, *token("mine"), "delete", "pod", "plain") == ""
    assert answer(admin, "--as", CONTROLLER, "delete", "pod", "real") == ""


@pytest.mark.usefixtures("policies")
def test_a_warm_placeholder_is_handed_over_by_the_controller_once_and_nothing_else_of_a_pod_changes(
    admin: User,
) -> None:
    controller, edit = ("--as", CONTROLLER), ("label", "--overwrite", "pod")
    for name, label in (("warm", "warm"), ("held", "u1")):
        assert answer(admin, *controller, "create", "-f", "-", text=placeholder(name, label=label)) == ""
    assert answer(admin, *token("mine"), "create", "-f", "-", text=placeholder("plain", labelled=False)) == ""

    assert "cannot change" in answer(admin, *token("mine"), *edit, "warm", "podsla.io/placeholder=u1")
    refused = "hands over pods with the label podsla.io/placeholder=warm, and changes no others"
    for pod in ("held", "plain"):
        assert refused in answer(admin, *controller, *edit, pod, "podsla.io/placeholder=u2")
    assert refused in answer(admin, *controller, *edit, "warm", "podsla.io/placeholder-")
    image = '{"metadata":{"labels":{"podsla.io/placeholder":"u1"}},"spec":{"containers":[{"name":"c","image":"y"}]}}'
    assert refused in answer(admin, *controller, "patch", "pod", "warm", "-p", image)

    assert answer(admin, *controller, *edit, "warm", "podsla.io/placeholder=u1") == ""
    assert refused in answer(admin, *controller, *edit, "warm", "podsla.io/placeholder=u2")
    for pod in ("warm", "held"):
        assert answer(admin, *controller, "delete", "pod", pod) == ""
    assert answer(admin, *token("mine"), "delete", "pod", "plain") == ""


@pytest.mark.usefixtures("policies")
@pytest.mark.parametrize(
    ("text", "said"), [("2", ""), ("auto", ""), ("many", "is many"), ("100", "is 100"), ("-1", "")]
)
def test_how_many_gpus_are_kept_ready_is_a_number_or_auto(admin: User, text: str, said: str) -> None:
    told = answer(admin, "label", "--overwrite", "namespace", WHERE, f"podsla.io/warm-gpus={text}")
    if text == "-1":
        assert "invalid" in told.lower(), "no label can say that"
    elif said:
        assert f"podsla.io/warm-gpus {said}; it is the number of GPUs to keep ready, from 0 to 99, or auto" in told
    else:
        assert told == ""

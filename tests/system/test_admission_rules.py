"""
What Kubernetes asks of admission webhooks, seen with ours: it hangs, it fails open, its configurations are edited.

Behaviours are those of Kubernetes' own conformance tests ("AdmissionWebhook") that concern a webhook for pods:

| behaviour | test |
|---|---|
| deny a pod | `…a_pod_that_was_not_sized_is_refused…`; every sentence: `test_messages.py` |
| a hanging webhook denies after its timeout; an exempt namespace passes | `…only_pods_that_asked_for_it…` |
| honour timeout and failure policy | the same, `…a_workload_is_applied…`, `…a_pod_is_created_without_a_size…` |
| fail closed without a CA bundle that is right | `…a_ca_bundle_that_was_lost…`, `…a_wrong_ca_bundle…` |
| patch and update a configuration | `…an_edit_that_narrows…`, and both about bundles |
| list configurations, and delete them as a collection | `…can_be_deleted_while_it_hangs…` |
| neither mutate a configuration nor prevent its deletion | the same |
| match conditions; mutate all but what opts out | `tests/manifests/test_webhooks_live.py` |
| mutate in order, the second sees what the first wrote | `test_other_webhooks.py` |
| mutate a pod, with defaults applied after it | `test_sized_pods.py`: `…is_filled_in_and_counted` |
| attach to a pod | `test_sized_pods.py`: `…is_looked_into` |

The others are of custom resources, ConfigMaps and CRDs, which are never sent to us, or of the API server alone.
"""

import json
import os
import signal
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import pytest

from catalog.keys import SIZE
from controller.world import WEBHOOKS
from kube.api import Object, PatchKind, Resource
from kube.kinds import MUTATING_WEBHOOKS, PODS, SPEC_CATALOGS
from tests.builders import container, pod, review, template, workload
from tests.cluster.install import OVERLAYS, start_process
from tests.cluster.pki import Authority
from tests.cluster.processes import is_alive
from tests.cluster.state import Cluster, Process
from tests.system.told import notes
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs", "as_before")]

SMALL: Final = container(requests={"cpu": "100m", "memory": "128Mi"})
CONFIGURATIONS: Final = pytest.mark.parametrize(
    ("resource", "name"), [pytest.param(*webhook, id=f"{webhook[0].plural} {webhook[1]}") for webhook in WEBHOOKS]
)
Namespace = Callable[..., str]


def small(namespace: str, sla_class: str | None = "general") -> dict[str, Any]:
    """A pod that is called web."""
    return pod(sla_class, metadata={"name": "web", "namespace": namespace}, containers=[SMALL])


def deployment(namespace: str, sla_class: str | None) -> dict[str, Any]:
    """A Deployment of no replicas."""
    pods = template(sla_class, labels={"app": "web"}, containers=[SMALL])
    made = workload(metadata={"name": "web", "namespace": namespace}, template=pods, replicas=0)
    return {**made, "apiVersion": "apps/v1", "spec": {**made["spec"], "selector": {"matchLabels": {"app": "web"}}}}


def is_sized(user: User, namespace: str) -> bool:
    """Create a pod in a dry run, which must not be refused, and say whether it got a size."""
    done = user.apply(small(namespace), "--dry-run=server", "-o", "json")
    assert done.returncode == 0, done.stderr
    return SIZE in json.loads(done.stdout)["metadata"].get("labels", {})


def is_warned(user: User, namespace: str) -> bool:
    """Create a Deployment in a dry run and say whether its user is told of the size."""
    done = user.apply(deployment(namespace, "general"), "--dry-run=server")
    assert done.returncode == 0, done.stderr
    return "Warning: " in done.stderr


# --- configurations ---------------------------------------------------------------------------------------------------


def configuration(user: User, resource: Resource, name: str) -> Object:
    """Read a configuration that must be there."""
    found = user.api.get(resource, name)
    assert found is not None
    return found


def bundles(user: User, resource: Resource, name: str) -> list[str]:
    """Read the CA bundle of every entry of a configuration."""
    return [hook["clientConfig"].get("caBundle", "") for hook in configuration(user, resource, name)["webhooks"]]


def without_bundles(thing: Object) -> Object:
    """Take the bundles out: what the manifests say."""
    bare = [
        {**hook, "clientConfig": {key: value for key, value in hook["clientConfig"].items() if key != "caBundle"}}
        for hook in thing["webhooks"]
    ]
    return {**thing, "webhooks": bare}


def are_trusted(user: User) -> bool:
    """Whether every entry of ours has the one bundle; a CA that was in it a moment ago may stay in it for a day."""
    found = {bundle for webhook in WEBHOOKS for bundle in bundles(user, *webhook)}
    return len(found) == 1 and "" not in found


def policies(user: User) -> dict[tuple[str, str, str], str]:
    """Read the failure policy of every entry of ours."""
    return {
        (resource.plural, name, hook["name"]): hook["failurePolicy"]
        for resource, name in WEBHOOKS
        for hook in configuration(user, resource, name)["webhooks"]
    }


def apply_overlay(user: User, beside: Cluster, name: str) -> None:
    """Apply an overlay for processes outside, as install does."""
    manifests = user.kubectl("kustomize", str(OVERLAYS / name)).stdout
    manifests = manifests.replace("127.0.0.1:8443", f"127.0.0.1:{beside.ports['podsla-webhook']}")
    done = user.kubectl("apply", "--server-side", "-f", "-", text=manifests)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def as_before(user: User) -> Iterator[None]:
    """Leave the configurations as they were found, whatever a test did to them; the bundles are the controller's."""
    before = {webhook: configuration(user, *webhook) for webhook in WEBHOOKS}
    yield
    for (resource, name), thing in before.items():
        found = user.api.get(resource, name)
        if found is None:
            metadata = {"name": name, "labels": thing["metadata"]["labels"]}
            user.api.create(resource, {"metadata": metadata, "webhooks": thing["webhooks"]})
        elif without_bundles(found)["webhooks"] != without_bundles(thing)["webhooks"]:
            whole = [{"op": "replace", "path": "/webhooks", "value": thing["webhooks"]}]
            user.api.patch(resource, name, whole, kind=PatchKind.JSON)


# --- it hangs, or is gone --------------------------------------------------------------------------------------------


@contextmanager
def hanging(cluster: Cluster, name: str = "podsla-webhook") -> Iterator[None]:
    """Hold the webhook's processes: connections are taken, and never answered; or those of another component."""
    held = running(cluster, name)
    os.killpg(held.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(held.pid, signal.SIGCONT)


@contextmanager
def gone(cluster: Cluster) -> Iterator[None]:
    """Kill every process of the webhook; there is another afterwards."""
    os.killpg(running(cluster, "podsla-webhook").pid, signal.SIGKILL)
    try:
        yield
    finally:
        port = str(cluster.ports["podsla-webhook"])
        start_process(cluster, "webhook", ["--port", port, "--address", "127.0.0.1"])


def running(cluster: Cluster, name: str) -> Process:
    """Find the process of a component."""
    made = (one for one in cluster.journal.read() if isinstance(one, Process) and one.name == name)
    return next(one for one in made if is_alive(one))


def test_while_it_hangs_only_pods_that_asked_for_it_are_refused_after_its_own_timeout(
    user: User, beside: Cluster, namespace: Namespace
) -> None:
    """Seen to fail where the match condition `has-a-key-of-ours` is always met: a pod without a class is refused."""
    made, defaulted = namespace(), namespace(default_class="general")
    with hanging(beside):
        refused = user.apply(small(made))
        for other in (small(made, None), small(defaulted, "none"), small("kube-public")):
            done = user.apply(other, "--dry-run=server")
            assert (done.returncode, done.stderr) == (0, ""), other["metadata"]
    url = f"https://127.0.0.1:{beside.ports['podsla-webhook']}/mutate?timeout=5s"
    assert refused.returncode == 1
    assert f'failed calling webhook "pods.podsla.io": failed to call webhook: Post "{url}": ' in refused.stderr
    assert user.api.get(PODS, "web", made) is None

    assert eventually(lambda: is_sized(user, made), "it answers again")


def test_while_it_hangs_a_workload_is_applied_without_its_warnings(
    user: User, beside: Cluster, namespace: Namespace
) -> None:
    made = namespace(default_class="general")
    with hanging(beside):
        done = user.apply(deployment(made, None))
    assert (done.returncode, done.stdout, done.stderr) == (0, "deployment.apps/web created\n", "")


def answer(cluster: Cluster, namespace: str) -> str:
    """Have the webhook review a pod of a namespace; the status of its answer, and when to come again."""
    url = f"https://127.0.0.1:{cluster.ports['podsla-webhook']}/mutate"
    shown = ("--output", "/dev/null", "--write-out", "%{http_code} %header{retry-after}")
    argv = ["curl", "--silent", "--insecure", *shown, "--json", json.dumps(review(namespace=namespace)), url]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_pods_of_a_namespace_that_it_has_not_seen_yet_are_to_come_again(
    user: User, beside: Cluster, namespace: Namespace
) -> None:
    made = namespace()
    eventually(lambda: answer(beside, made) == "200 ", "a namespace that is there is seen")

    assert answer(beside, "nobody-made-this") == "503 1"


# --- it fails open ----------------------------------------------------------------------------------------------------

UNSIZED: Final = (
    "Validation failed for ValidatingAdmissionPolicy 'podsla-unsized-pods' with binding 'podsla-unsized-pods': "
    "podsla did not size this pod (class 'general'); delete it and create it anew once podsla-webhook is ready"
)
NOT_SIZED: Final = (
    "the pod asks for class 'general' and does not carry what size 'ecs.c6.large' writes (/spec/affinity): "
    "the mutating webhook did not run, or another one overwrote it; create the pod again"
)


FOUND: Final = (
    "podsla could not be reached when this pod was created, and did not size it (class 'general'); "
    "delete it to have it created anew"
)
FOUND_S: Final = 90.0  # they are listed twice a minute


@pytest.fixture
def fail_open(user: User, beside: Cluster, as_before: None) -> Iterator[None]:
    """The component fail-open, over what is installed."""
    closed = policies(user)
    apply_overlay(user, beside, "outside-fail-open")
    eventually(lambda: are_trusted(user), "new entries are trusted")
    yield
    apply_overlay(user, beside, "outside")
    assert policies(user) == closed
    kinds = "validatingadmissionpolicy,validatingadmissionpolicybinding"  # as the README of the manifests says
    assert user.kubectl("delete", kinds, "podsla-unsized-pods").returncode == 0


def admission_of(cluster: Cluster, namespace: str) -> Mapping[str, str]:
    """Read from the audit log how the pod of a namespace was admitted."""
    events = map(json.loads, (cluster.folder / "log" / "audit.jsonl").read_text().splitlines())
    (found,) = (
        e for e in events if e["objectRef"].get("namespace") == namespace and e["objectRef"]["resource"] == "pods"
    )
    annotations: dict[str, str] = found["annotations"]
    return annotations


@pytest.mark.usefixtures("fail_open")
def test_where_it_fails_open_a_pod_is_created_without_a_size_while_it_is_gone_and_that_is_told(
    user: User, beside: Cluster, namespace: Namespace
) -> None:
    """Seen to fail where the controller looks for no such pods: nothing but the warning tells of it."""
    made, before = namespace(), namespace()
    with gone(beside):
        # The API server takes a new policy up on its own time.
        eventually(lambda: UNSIZED in user.apply(small(before), "--dry-run=server").stderr, "the policy is in force")
        done = user.apply(small(made))
    assert (done.returncode, done.stderr) == (0, f"Warning: {UNSIZED}\n")
    assert SIZE not in (user.api.get(PODS, "web", made) or {})["metadata"].get("labels", {})
    told = admission_of(beside, made)
    assert [value for key, value in told.items() if key.startswith("failed-open.mutation.")] == ["pods.podsla.io"]
    assert "podsla-unsized-pods" in told["validation.policy.admission.k8s.io/validation_failure"]
    assert user.kubectl("-n", made, "label", "pod", "web", "touched=true").returncode == 0, "it is no new object"
    assert_found_afterwards(user, beside, made)


def assert_found_afterwards(user: User, beside: Cluster, namespace: str) -> None:
    """The controller finds the one pod there: an event of it, a condition of its catalogue, a metric; and its end."""
    made = user.api.get(PODS, "web", namespace) or {}
    (note,) = eventually(lambda: notes(user, made, "PodNotSized"), "an event tells of the pod", FOUND_S)
    assert note == FOUND
    eventually(lambda: pods_sized(user)[:2] == ("False", "PodsNotSized"), "its catalogue says so", FOUND_S)
    assert f"1 pod names a class and runs without a size: {namespace}/web; " in pods_sized(user)[2]
    assert user.metrics(beside, "controller")["podsla_pods_not_sized"] == 1.0
    assert f"PodNotSized 1 pod {namespace}/web name a class" in " ".join(user.podsla("doctor").stdout.split())

    user.api.delete(PODS, "web", namespace)
    eventually(lambda: pods_sized(user)[:2] == ("True", "AllSized"), "and that it is gone", FOUND_S)
    assert user.metrics(beside, "controller")["podsla_pods_not_sized"] == 0.0


def pods_sized(user: User) -> tuple[str, str, str]:
    """What the catalogue of the class says of its pods: status, reason and message."""
    found = user.api.get(SPEC_CATALOGS, "starter") or {}
    (said,) = (one for one in found["status"]["conditions"] if one["type"] == "PodsSized")
    return said["status"], said["reason"], said["message"]


@pytest.mark.usefixtures("fail_open")
def test_where_it_fails_open_a_pod_that_was_not_sized_is_refused_if_it_answers_by_then(
    user: User, namespace: Namespace
) -> None:
    """Seen to fail where the component fail-open sends no new pods to `/validate`: they are created."""
    made = namespace()
    assert is_sized(user, made)
    user.api.delete(MUTATING_WEBHOOKS, "podsla")

    denied = 'error when creating "STDIN": admission webhook "pods.podsla.io" denied the request: '

    def refused() -> bool:
        done = user.apply(small(made), "--dry-run=server")
        assert done.stderr == f"Warning: {UNSIZED}\nError from server (NotSized): {denied}{NOT_SIZED}\n"
        return done.returncode == 1

    eventually(refused, "it is refused, and told of as well")


# --- its configurations are edited ------------------------------------------------------------------------------------


def looks_at_certificates(user: User, beside: Cluster) -> float:
    """How often the controller has compared Secrets and bundles."""
    return user.metrics(beside, "controller")['podsla_reconcile_duration_seconds_count{reconciler="certificates"}']


def assert_left_alone(user: User, beside: Cluster, resource: Resource, name: str) -> None:
    """Let the controller look at a configuration twice, and see that it does not write."""
    expected = configuration(user, resource, name)["metadata"]["generation"]
    for label in ("true", None):
        looks = looks_at_certificates(user, beside)
        user.api.patch(resource, name, {"metadata": {"labels": {"touched": label}}})
        eventually(lambda looks=looks: looks_at_certificates(user, beside) > looks, "the controller looks")  # type: ignore[misc]
    assert configuration(user, resource, name)["metadata"]["generation"] == expected


@CONFIGURATIONS
def test_a_ca_bundle_that_was_lost_is_written_again_once(
    user: User, beside: Cluster, resource: Resource, name: str
) -> None:
    """
    `kubectl replace` with the manifest, which has none; after that nobody writes any more.

    Seen to fail where a bundle is planned along with new certificates alone.
    """
    before, right = configuration(user, resource, name), bundles(user, resource, name)
    assert right == [right[0]] * len(right)
    assert right[0]

    user.api.replace(resource, without_bundles(before))
    eventually(lambda: bundles(user, resource, name) == right, "the bundle is back")

    assert configuration(user, resource, name)["metadata"]["generation"] == before["metadata"]["generation"] + 2
    assert_left_alone(user, beside, resource, name)


def test_a_wrong_ca_bundle_holds_up_pods_until_the_controller_has_seen_it(
    user: User, beside: Cluster, namespace: Namespace
) -> None:
    """Seen to fail where a bundle is written only into an entry that has none."""
    made = namespace()
    wrong = b64encode(Authority.create("stranger").pair.certificate).decode()
    change = [{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": wrong}]

    def held_up() -> bool:
        done = user.apply(small(made), "--dry-run=server")
        return done.returncode == 1 and "x509: certificate signed by unknown authority" in done.stderr

    with hanging(beside, "podsla-controller"):
        user.api.patch(MUTATING_WEBHOOKS, "podsla", change, kind=PatchKind.JSON)
        eventually(held_up, "a pod is refused")

    assert eventually(lambda: is_sized(user, made), "a pod is created")


@pytest.mark.parametrize(
    ("webhook", "effect"),
    [
        pytest.param(WEBHOOKS[0], is_sized, id="of the one that sizes pods"),
        pytest.param(WEBHOOKS[2], is_warned, id="of the one that warns on workloads"),
    ],
)
def test_an_edit_that_narrows_its_reach_counts_and_is_left_alone(
    user: User,
    beside: Cluster,
    namespace: Namespace,
    webhook: tuple[Resource, str],
    effect: Callable[[User, str], bool],
) -> None:
    """Whom it is called for is the administrators' to say; the controller keeps the bundle and nothing else."""
    made, other = namespace(), namespace()
    assert effect(user, made)
    spared = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [made]}
    change = [{"op": "add", "path": "/webhooks/0/namespaceSelector/matchExpressions/-", "value": spared}]
    user.api.patch(*webhook, change, kind=PatchKind.JSON)

    eventually(lambda: not effect(user, made), "it is not called for the namespace any more")
    assert effect(user, other)
    assert_left_alone(user, beside, *webhook)


def test_configurations_can_be_deleted_while_it_hangs_and_applied_anew(
    user: User, beside: Cluster, namespace: Namespace
) -> None:
    """No webhook is asked about configurations; those that are applied anew get their bundle from the controller."""
    made = namespace()
    kinds = ",".join(dict.fromkeys(resource.plural for resource, _ in WEBHOOKS))
    ours = ("-l", "app.kubernetes.io/part-of=podsla")
    with hanging(beside):
        listed = user.kubectl("get", kinds, *ours, "-o", "name").stdout.splitlines()
        user.api.call("DELETE", MUTATING_WEBHOOKS.path(), {"labelSelector": ours[1]})
        assert user.api.get(MUTATING_WEBHOOKS, "podsla") is None
        assert user.kubectl("delete", kinds, *ours).returncode == 0
        assert [user.api.get(*webhook) for webhook in WEBHOOKS] == [None] * len(WEBHOOKS)
    assert sorted(line.rpartition("/")[2] for line in listed) == sorted(name for _, name in WEBHOOKS)
    eventually(lambda: not is_sized(user, made), "nobody is called any more")

    apply_overlay(user, beside, "outside")

    eventually(lambda: are_trusted(user), "the bundles are written")
    assert eventually(lambda: is_sized(user, made), "a pod is created")

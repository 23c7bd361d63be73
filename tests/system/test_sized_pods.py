"""Where sized pods come from, what the API server makes of them after us, and how they live on."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import uuid4

import pytest

from catalog.keys import RECORD, SIZE
from catalog.pod import REQUIRED
from kube.api import ApiError, Object, Resource
from kube.kinds import NODES, PODS, RUNTIME_CLASSES, SPEC_CATALOGS
from tests.builders import container, pod, template
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

DAEMON_SETS: Final = Resource("apps/v1", "daemonsets")
SMALL: Final = container(requests={"cpu": "100m", "memory": "128Mi"})
Namespace = Callable[..., str]


def small(namespace: str, sla_class: str | None = "general", **spec: Any) -> dict[str, Any]:
    """A pod that is called web."""
    return pod(sla_class, metadata={"name": "web", "namespace": namespace}, containers=[SMALL], **spec)


def size_of(thing: Object) -> str | None:
    """Read the size label."""
    found: str | None = (thing["metadata"].get("labels") or {}).get(SIZE)
    return found


def stored(user: User, namespace: str) -> Object:
    """Read the pod, which must be there."""
    found = user.api.get(PODS, "web", namespace)
    assert found is not None
    return found


# --- where pods come from ---------------------------------------------------------------------------------------------


def test_a_pod_that_the_api_server_names_is_sized(user: User, namespace: Namespace) -> None:
    body = small(made := namespace())
    body["metadata"]["generateName"] = body["metadata"].pop("name")
    assert size_of(user.api.create(PODS, body, made)) == "ecs.c6.large"


@pytest.mark.parametrize(
    ("sla_class", "size"),
    [
        pytest.param(None, None, id="the default class does not reach it"),
        pytest.param("general", "ecs.c6.large", id="its own class does"),
    ],
)
def test_a_pod_that_names_its_node(user: User, namespace: Namespace, sla_class: str | None, size: str | None) -> None:
    made = namespace(default_class="net-intensive")
    node = min(node["metadata"]["name"] for node in user.api.list(NODES))
    assert size_of(user.api.create(PODS, small(made, sla_class, nodeName=node), made)) == size


@pytest.mark.parametrize(
    ("sla_class", "size", "pps"),
    [
        pytest.param(None, None, None, id="the default class does not reach it"),
        pytest.param("net-intensive", "ecs.c6e.large", "600k", id="its own class reserves on every node"),
    ],
)
def test_the_pods_of_a_daemon_set(
    user: User, namespace: Namespace, sla_class: str | None, size: str | None, pps: str | None
) -> None:
    """Nothing of ours places them: the DaemonSet's controller did, and judges its template, not our pod."""
    made = namespace(default_class="general")
    pods = template(sla_class, labels={"app": "web"}, containers=[SMALL], nodeSelector={"type": "kwok"})
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": pods}
    user.api.create(DAEMON_SETS, {"metadata": {"name": "web"}, "spec": spec}, made)
    nodes = {node["metadata"]["name"] for node in user.api.list(NODES, labelSelector="type=kwok")}

    def found() -> list[Object]:
        pods = list(user.api.list(PODS, made))
        assert len(pods) == len(nodes)
        return pods

    for one in eventually(found, "a pod for each node"):
        assert size_of(one) == size
        assert one["spec"]["containers"][0]["resources"]["requests"].get("podsla.io/pps") == pps
        terms = one["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
        assert [list(term) for term in terms] == [["matchFields"]]


# --- what the API server adds after it --------------------------------------------------------------------------------


@pytest.fixture
def sandboxed(user: User, scratch_catalog: Callable[[str], None]) -> Iterator[str]:
    """A class with a runtime that costs something, and the RuntimeClass that says what."""
    overhead = {"podFixed": {"cpu": "300m", "memory": "200Mi"}}
    user.api.create(RUNTIME_CLASSES, {"metadata": {"name": "rund"}, "handler": "rund", "overhead": overhead})
    classes = [{"name": "sandboxed", "runtime": "rund", "reserve": "ask", "sizes": {"families": ["ecs.g7"]}}]
    catalog = {"apiVersion": "podsla.io/v1beta1", "kind": "SpecCatalog", "metadata": {"name": "sandboxed"}}
    scratch_catalog("sandboxed")
    user.api.create(SPEC_CATALOGS, {**catalog, "spec": {"classes": classes}})
    yield "sandboxed"
    user.api.delete(RUNTIME_CLASSES, "rund")


def test_the_overhead_of_a_runtime_that_the_class_brings_is_filled_in_and_counted(
    user: User, namespace: Namespace, sandboxed: str
) -> None:
    """
    By the RuntimeClass of this cluster, not by what the target says of it.

    Two places count it, needs and floor. Seen to fail where `catalog.demand.overhead`, which both ask, says nothing.
    """
    made = namespace()

    def created() -> Object:
        try:
            found = user.api.call("POST", PODS.path(made), {"dryRun": "All"}, small(made, sandboxed))
        except ApiError as error:
            raise AssertionError from error
        assert json.loads(found["metadata"]["annotations"][RECORD])["dimensions"]["vcpu"]["ask"] == "400m"
        return found

    found = eventually(created, "class and overhead are served")
    assert found["spec"]["runtimeClassName"] == "rund"
    assert found["spec"]["overhead"] == {"cpu": "300m", "memory": "200Mi"}


def test_the_log_names_the_trace_in_which_the_api_server_asked(
    user: User, beside: Cluster, namespace: Namespace
) -> None:
    """It passes on the trace of whoever creates a pod; its own, where it is told to make spans, goes the same way."""
    made, trace_id = namespace(), uuid4().hex
    assert user.apply(small(made), "--dry-run=server").returncode == 0
    client, headers = user.api.client, {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}

    answer = client.rest_client.pool_manager.request(
        "POST", user.api.address + PODS.path(made), json=small(made), headers=headers
    )

    assert answer.status == 201, answer.data
    log = beside.log("podsla-webhook")
    lines = eventually(lambda: [line for line in log.read_text().splitlines() if trace_id in line], "it is logged")
    assert {(json.loads(line)["trace_id"], json.loads(line)["namespace"]) for line in lines} == {(trace_id, made)}


# --- how they live on -------------------------------------------------------------------------------------------------

PATCH: Final = ("patch", "pod", "web", "-n")
BEYOND: Final = (
    "the resize asks more than size 'ecs.c6.large' of this pod offers: vcpu 3, and it offers 1900m; "
    "stay within it, or create a new pod with larger limits to get a larger size"
)


def test_a_sized_pod_runs_and_is_looked_into(user: User, namespace: Namespace) -> None:
    made = namespace()
    assert user.apply(small(made)).returncode == 0
    before = stored(user, made)
    eventually(lambda: stored(user, made)["status"]["phase"] == "Running", "the node reports the pod")

    for command in (["exec", "web", "--", "true"], ["attach", "web"]):
        done = user.kubectl("-n", made, *command)
        asked = f'error sending request: Post "https://127.0.0.1:10250/{command[0]}/{made}/web/app?'
        assert asked in done.stderr, "past all admission, and on its way to a kubelet that the node only plays"

    debug = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "example.com/debug:1"}]}}
    assert user.kubectl(*PATCH, made, "--subresource=ephemeralcontainers", "-p", json.dumps(debug)).returncode == 0
    after = stored(user, made)
    assert [container["name"] for container in after["spec"]["ephemeralContainers"]] == ["debug"]
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    assert user.kubectl("-n", made, "delete", "pod", "web", "--now").returncode == 0


def resize(cpu: str) -> str:
    """Write the patch of a resize."""
    return json.dumps({"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": cpu}}}]}})


def test_a_sized_pod_is_resized_within_its_size_and_not_beyond(user: User, namespace: Namespace) -> None:
    """A pod that has no node yet: played nodes resize nothing."""
    made = namespace()
    assert user.apply(small(made, schedulingGates=[{"name": "example.com/wait"}])).returncode == 0
    assert size_of(stored(user, made)) == "ecs.c6.large"

    assert user.kubectl(*PATCH, made, "--subresource=resize", "-p", resize("1900m")).stderr == ""
    done = user.kubectl(*PATCH, made, "--subresource=resize", "-p", resize("3"))
    denied = 'admission webhook "resized-pods.podsla.io" denied the request: '
    assert done.stderr == f"Error from server (BeyondSize): {denied}{BEYOND}\n"
    assert stored(user, made)["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "1900m"

"""podsla is taken out of a cluster of its own: nothing of it stays, nobody is held up, pods that run go on."""

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from pytest_kind import KindCluster

from catalog.keys import ATTACHMENT_FINALIZER, RECORD
from kube.api import Api, ApiError, Object, Resource
from kube.kinds import GPU_ATTACHMENTS, MUTATING_WEBHOOKS, NAMESPACES, NODES, PODS
from nodes.bound import RESOURCES
from nodes.capacity import LABELS
from nodes.export import STARTUP_TAINT
from tests.builders import container, pod
from tests.cluster.install import OVERLAYS, PODSLA, install
from tests.cluster.own import own_cluster
from tests.cluster.processes import stop
from tests.cluster.state import Cluster, Process, load_cluster
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

PACKETS, CLOCK = "ecs-c7-2xlarge-0", "ecs-hfc7-2xlarge-0"  # nodes of the first and the fourth size
INSTALLED: Final = {
    *("customresourcedefinitions", "apiservices", "speccatalogs", "controllerrevisions", "secrets", "leases"),
    *("mutatingwebhookconfigurations", "validatingwebhookconfigurations", "validatingadmissionpolicies"),
    *("namespaces", "serviceaccounts", "clusterroles", "clusterrolebindings", "roles", "rolebindings", "nodes"),
}
SMALL: Final = container(requests={"cpu": "100m", "memory": "64Mi"})
DONE: Final = (
    "webhook configurations deleted: from now on every pod is created as it was written\n"
    "1 GPUAttachment deleted\ncontroller stopped\n"
)
WAITING: Final = "waiting for 1 GPUAttachment to end …\n"
GONE: Final = "no webhook configuration of podsla is there: it is not installed, or was taken out before\n"
NO_CONTROLLER: Final = "no controller is in namespace podsla-system\n"


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[KindCluster]:
    """A cluster with four nodes, and no podsla yet."""
    with own_cluster(request, "podsla-uninstall", "control-plane+kwok=4") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def admin(cluster: KindCluster) -> User:
    """An administrator of it."""
    return User(cluster, PODSLA)


@pytest.fixture(scope="module")
def here(cluster: KindCluster) -> Cluster:
    """The same cluster as the launcher has it: podsla's processes run beside it."""
    found = load_cluster(cluster.name)
    if found is None:
        pytest.skip("with kind itself podsla runs in pods, which the tests of real nodes uninstall")
    return found


class Bystander:
    """Somebody who creates pods all the time that ask podsla for nothing, in a namespace that does not either."""

    def __init__(self, api: Api) -> None:
        self.api, self.created, self.failures = api, 0, list[str]()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Bystander":
        self._thread.start()
        eventually(lambda: self.created, "the first pod")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            document = pod(None, metadata={"name": f"plain-{self.created}", "namespace": "default"})
            document["spec"]["schedulerName"] = "nobody"
            try:
                self.api.create(PODS, document, "default")
            except ApiError as error:
                self.failures.append(str(error))
            self.created += 1


def traces(api: Api) -> dict[str, set[str]]:
    """
    All objects that say podsla in their kind, name, labels, annotations, finalizers or capacity, by kind.

    But for Events: they tell what was, of a placeholder too, and go by themselves.
    """
    found: dict[str, set[str]] = {}
    for resource in every_resource(api):
        for thing in api.list(resource):
            metadata = thing["metadata"]
            said = [resource.group_version, metadata["name"], *metadata.get("finalizers", ())]
            for group in (metadata.get("labels"), metadata.get("annotations"), *figures(thing)):
                said += [f"{key}={value}" for key, value in (group or {}).items()]
            if any("podsla" in text for text in said):
                found.setdefault(resource.plural, set()).add(metadata["name"])
    return found


def figures(thing: Object) -> tuple[Any, Any]:
    """What a node offers."""
    status = thing.get("status") or {}
    return (status.get("capacity"), status.get("allocatable")) if "nodeInfo" in status else (None, None)


def every_resource(api: Api) -> Iterator[Resource]:
    """All kinds of objects that the API server lists."""
    groups = [version["groupVersion"] for group in api.call("GET", "/apis")["groups"] for version in group["versions"]]
    for group_version in ("v1", *groups):
        for resource in api.call("GET", Resource(group_version, "").path())["resources"]:
            if "/" not in resource["name"] and "list" in resource["verbs"] and resource["name"] != "events":
                yield Resource(group_version, resource["name"])


def published(node: Object) -> Mapping[str, str]:
    """What of a node is ours: labels, capacity and allocatable."""
    status = node["status"]
    every = {**node["metadata"]["labels"], **status["capacity"], **status["allocatable"]}
    return {key: text for key, text in every.items() if key in LABELS | RESOURCES}


def sized(name: str, sla_class: str, node: str) -> Object:
    """A pod of a class that is to run on one node."""
    where = {"kubernetes.io/hostname": node}
    return pod(sla_class, metadata={"name": name, "namespace": "edge"}, containers=[SMALL], nodeSelector=where)


def running(admin: User, *names: str) -> list[Object]:
    """Pods of namespace edge, whole; each of them runs."""
    pods = [thing for name in names if (thing := admin.api.get(PODS, name, "edge"))]
    assert [thing["status"].get("phase") for thing in pods] == ["Running"] * len(names)
    return pods


def test_where_podsla_is_not_installed_uninstall_says_so_and_changes_nothing(admin: User) -> None:
    before = {node["metadata"]["name"]: node["metadata"]["labels"] for node in admin.api.list(NODES)}

    done = admin.podsla("uninstall")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{GONE}{NO_CONTROLLER}0 nodes cleaned of podsla.io capacity and labels\n"
    assert {node["metadata"]["name"]: node["metadata"]["labels"] for node in admin.api.list(NODES)} == before


def test_a_cluster_that_does_not_answer_is_told_of_in_a_sentence(tmp_path: Path) -> None:
    clusters = [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}]
    contexts = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
    config = {"clusters": clusters, "users": [{"name": "u", "user": {}}], "contexts": contexts, "current-context": "x"}
    (tmp_path / "config").write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **config}))

    argv = [str(PODSLA), "uninstall", "--kubeconfig", str(tmp_path / "config")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "GET /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/podsla: the API server did not answer "
        "(NewConnectionError); nothing more was done, and running this again goes on from there\n"
    )


def bring_up(admin: User, here: Cluster) -> list[Object]:
    """Install podsla, publish catalogues, and run one pod that reserves packets and one that needs a label only."""
    install(here)
    done = admin.podsla("catalog", "apply", "ecs", "classes")
    assert done.returncode == 0, done.stderr
    eventually(lambda: all(map(published, admin.api.list(NODES))), "every node publishes what it offers")
    admin.api.create(NAMESPACES, {"metadata": {"name": "edge"}})
    for thing in (sized("packets", "net-intensive", PACKETS), sized("clock", "high-frequency", CLOCK)):
        eventually(lambda thing=thing: admin.apply(thing).returncode == 0, "the webhook serves")  # type: ignore[misc]
    pods: list[Object] = eventually(lambda: running(admin, "packets", "clock"), "both pods run")
    assert all(RECORD in thing["metadata"]["annotations"] for thing in pods)
    return pods


def ask_for_gpu(admin: User, node: str, pod_name: str) -> None:
    """An attachment that waits: the node's GPU is another pod's. No agent is here, so the controller alone ends it."""
    gpu = {"nvidia.com/gpu": "1"}
    admin.api.patch(NODES, node, {"status": {"capacity": gpu, "allocatable": gpu}}, subresource="status")
    holder = container(requests=gpu, limits=gpu)
    admin.api.create(
        PODS, pod(None, metadata={"name": "holder", "namespace": "edge"}, containers=[holder], nodeName=node), "edge"
    )
    head = {"apiVersion": "podsla.io/v1beta1", "kind": "GPUAttachment", "metadata": {"name": "evaluation"}}
    admin.api.create(GPU_ATTACHMENTS, {**head, "spec": {"podName": pod_name}}, "edge")

    def waits() -> bool:
        found = admin.api.get(GPU_ATTACHMENTS, "evaluation", "edge") or {}
        reasons = {said["type"]: said["reason"] for said in found["status"]["conditions"]}
        assert (reasons, "placeholder" in found["status"]) == ({"Reserved": "Queued"}, True)
        return ATTACHMENT_FINALIZER in found["metadata"]["finalizers"]

    eventually(waits, "the controller has a placeholder wait for the GPU")


def uninstall_beside(admin: User, here: Cluster) -> tuple[int, str, str]:
    """`podsla uninstall`, where somebody must stop the controller: it waits for that, once no GPU is asked."""
    argv = [str(PODSLA), "uninstall", "--kubeconfig", str(admin.kubeconfig)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running_command:
        eventually(lambda: admin.api.get(MUTATING_WEBHOOKS, "podsla") is None, "the webhooks are not called any more")
        eventually(
            lambda: list(admin.api.list(GPU_ATTACHMENTS)) == [], "the controller has ended what waited for a GPU"
        )
        for process in here.journal.read():
            if isinstance(process, Process) and process.name == "podsla-controller":
                stop(process)
        out, err = running_command.communicate()
    return running_command.returncode, out, err


def left_as_it_is(node: str, name: str) -> str:
    return f"node {node} left as it is, since these pods need what it has: edge/{name}; run this again without them\n"


def cleaned(count: str) -> str:
    return f"{count} cleaned of podsla.io capacity and labels\n"


def test_podsla_goes_without_a_trace_and_holds_nobody_up(admin: User, here: Cluster) -> None:
    """Nodes keep what bound pods need until those are gone."""
    before = bring_up(admin, here)
    ask_for_gpu(admin, PACKETS, "packets")
    nodes = {name: published(admin.api.get(NODES, name) or {}) for name in (PACKETS, CLOCK)}
    assert traces(admin.api).keys() >= INSTALLED

    with Bystander(admin.api) as bystander:
        done = uninstall_beside(admin, here)
        gone = admin.kubectl("delete", "--ignore-not-found", "--timeout=60s", "-k", str(OVERLAYS / "outside"))

    left = left_as_it_is(PACKETS, "packets") + left_as_it_is(CLOCK, "clock")
    assert done == (1, DONE + cleaned("2 nodes"), WAITING + left)
    assert (gone.returncode, gone.stderr) == (0, "")
    assert (bystander.failures, bystander.created > 20) == ([], True)
    eventually(
        lambda: traces(admin.api) == {"pods": {"packets", "clock"}, "nodes": {PACKETS, CLOCK}}, "all else is gone"
    )
    assert {name: published(admin.api.get(NODES, name) or {}) for name in (PACKETS, CLOCK)} == nodes
    assert running(admin, "packets", "clock") == before
    assert admin.apply(sized("later", "net-intensive", PACKETS)).returncode == 0
    (late,) = eventually(lambda: running(admin, "later"), "a pod runs that names a class of nobody")
    assert RECORD not in late["metadata"]["annotations"]

    assert admin.kubectl("-n", "edge", "delete", "pod", "packets", "later").returncode == 0
    theirs = {"key": "example.com/burn-in", "effect": "NoSchedule"}
    starting = {"key": STARTUP_TAINT, "value": "true", "effect": "NoSchedule"}
    held = {"key": "podsla.io/quarantined", "effect": "NoSchedule"}
    admin.api.patch(
        NODES, PACKETS, {"spec": {"taints": [theirs, starting, held]}}
    )  # it registered when no controller was there any more
    again = admin.podsla("uninstall")

    freed = (
        f"1 node freed of the taint {STARTUP_TAINT}; take it out of your node groups too\n"
        "1 node freed of the taint podsla.io/quarantined\n"
    )
    assert (again.returncode, again.stdout) == (1, GONE + NO_CONTROLLER + freed + cleaned("1 node"))
    assert (admin.api.get(NODES, PACKETS) or {})["spec"]["taints"] == [theirs]
    assert again.stderr == left_as_it_is(CLOCK, "clock")
    eventually(lambda: traces(admin.api) == {"pods": {"clock"}, "nodes": {CLOCK}}, "one node is clean")

    forced = admin.podsla("uninstall", "--force")

    assert (forced.returncode, forced.stdout, forced.stderr) == (0, GONE + NO_CONTROLLER + cleaned("1 node"), "")
    eventually(lambda: traces(admin.api) == {"pods": {"clock"}}, "nothing is left but what the pod was given")
    assert running(admin, "clock") == before[1:]

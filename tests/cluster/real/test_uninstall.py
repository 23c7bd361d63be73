"""podsla taken out of a cluster in use: pods are created throughout, those that were sized run on, nothing stays."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from kube.api import Api, Object
from kube.kinds import NODES, PODS
from tests.cluster import host
from tests.cluster.archives import PAUSE
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.pods import NAMESPACE, RUNNING_S, restart_kubelets, running
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes

PPS: Final = "podsla.io/pps"
EVERY_S: Final = 0.1
# Pods keep what they were given, events go by themselves.
NOT_OURS: Final = {"pods", "events", "events.events.k8s.io", "componentstatuses"}


@contextmanager
def bystanders(user: User) -> Iterator[list[str]]:
    """Somebody who creates pods, one after the other; those that were created are listed."""
    created, ended, api = list[str](), threading.Event(), Api.connect(user.kubeconfig)
    failed = list[Exception]()

    def create() -> None:
        while not ended.wait(EVERY_S) and not failed:
            name = f"bystander-{len(created)}"
            spec = {"schedulerName": "nobody", "containers": [{"name": "main", "image": PAUSE}]}
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
            try:
                api.create(PODS, body, NAMESPACE)
            except Exception as error:
                failed.append(error)
            else:
                created.append(name)

    worker = threading.Thread(target=create)
    worker.start()
    try:
        yield created
    finally:
        ended.set()
        worker.join()
    assert failed == []


def test_podsla_goes_without_a_trace_and_holds_up_nobody(
    installed: User, cluster: Cluster, classed: dict[str, Object]
) -> None:
    """Nodes keep what their pods need, so that restarted kubelets fail none, until told otherwise."""
    before = running(installed, classed)
    with bystanders(installed) as created:
        eventually(lambda: created, "a pod is created before")
        careful = installed.podsla("uninstall")
        count = more_than(created, 0)
        deleted = installed.kubectl("delete", "--ignore-not-found", "-k", str(cluster.folder / "install"))
        count = more_than(created, count)
        restart_kubelets(installed, cluster, "uninstalled")
        assert running(installed, classed) == before
        forced = installed.podsla("uninstall", "--force")
        count = more_than(created, count)
        eventually(lambda: traces(installed) == [], "no trace is left", 60.0)
        eventually(lambda: len(created) > count, "a pod is created after")

    assert (careful.returncode, forced.returncode) == (1, 0), (careful.stderr, forced.stderr)
    for node, pod in (("host", "packets"), ("vm", "enclave")):
        (said,) = (line for line in careful.stderr.splitlines() if line.startswith(f"node {node} left as it is"))
        assert f"{NAMESPACE}/{pod}" in said
    assert deleted.returncode == 0, deleted.stderr
    assert running(installed, classed) == before


def test_a_kubelet_fails_a_pod_whose_figure_was_lowered_and_that_nobody_held_up(
    installed: User, cluster: Cluster, classed: dict[str, Object]
) -> None:
    """The control: podsla is gone, and the same pod ends by what it lived through before."""
    less = {group: {PPS: "100k"} for group in ("capacity", "allocatable")}
    installed.api.patch(NODES, HOST, {"status": less}, subresource="status")

    host.restart_kubelet(cluster)

    def failed() -> Object | None:
        pod = installed.api.get(PODS, "packets", NAMESPACE)
        return pod if pod is not None and pod["status"]["phase"] == "Failed" else None

    pod = eventually(failed, "the kubelet admits its pods anew", RUNNING_S)
    assert pod is not None
    assert (pod["metadata"]["uid"], pod["status"]["reason"]) == (classed["packets"]["metadata"]["uid"], f"OutOf{PPS}")


def more_than(created: list[str], count: int) -> int:
    """Check that pods were created meanwhile."""
    assert len(created) > count
    return len(created)


def traces(user: User) -> list[str]:
    """Name every object that has something of podsla in it."""
    kinds = set(user.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()) - NOT_OURS
    shown = user.kubectl("get", ",".join(sorted(kinds)), "--all-namespaces", "-o", "json")
    assert shown.returncode == 0, shown.stderr
    items = json.loads(shown.stdout)["items"]
    return [f"{item['kind']} {item['metadata']['name']}" for item in items if "podsla" in json.dumps(of_ours(item))]


def of_ours(item: dict[str, Any]) -> dict[str, Any]:
    """Leave out who wrote what, and of a node what it says of its images."""
    kept = {**item, "metadata": {key: value for key, value in item["metadata"].items() if key != "managedFields"}}
    if item["kind"] == "Node":
        kept["status"] = [name for figures in ("capacity", "allocatable") for name in item["status"][figures]]
    return kept

"""Pod templates: found in Kubernetes' own kinds, and anywhere in a custom one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders import pod, template, workload
from webhook.workloads import claim_templates, find_templates, pod_template, value_at

T = template()
POD_SPEC = {"containers": [{"name": "app"}]}


@pytest.mark.parametrize(
    ("document", "path", "replicas"),
    [
        pytest.param(workload("Deployment", replicas=5), ("spec", "template"), 5, id="a Deployment"),
        pytest.param(
            {"kind": "Deployment", "spec": {"template": T}}, ("spec", "template"), 1, id="replicas not said: 1"
        ),
        pytest.param(workload("Deployment", replicas=0), ("spec", "template"), 0, id="scaled to nothing"),
        pytest.param(workload("Deployment", replicas=True), ("spec", "template"), 1, id="replicas of the wrong type"),
        pytest.param(workload("StatefulSet"), ("spec", "template"), 3, id="a StatefulSet"),
        pytest.param(workload("ReplicaSet"), ("spec", "template"), 3, id="a ReplicaSet"),
        pytest.param(workload("ReplicationController"), ("spec", "template"), 3, id="a ReplicationController"),
        pytest.param(workload("DaemonSet"), ("spec", "template"), None, id="a DaemonSet: one a node"),
        pytest.param(workload("Job", parallelism=4), ("spec", "template"), 4, id="a Job: its parallelism"),
        pytest.param(
            {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": T, "parallelism": 2}}}},
            ("spec", "jobTemplate", "spec", "template"),
            2,
            id="a CronJob: its jobs' parallelism",
        ),
    ],
)
def test_the_template_of_each_kind(document: Mapping[str, Any], path: tuple[str, ...], replicas: int | None) -> None:
    assert pod_template(document) == (T, path, replicas)


@pytest.mark.parametrize(
    ("document", "claims"),
    [
        pytest.param(
            workload("StatefulSet", volumeClaimTemplates=[{"metadata": {"name": "data"}}]),
            ("data",),
            id="a claim for each pod",
        ),
        pytest.param(workload("StatefulSet"), (), id="no claims"),
        pytest.param(
            workload("Deployment", volumeClaimTemplates=[{"metadata": {"name": "data"}}]), (), id="no StatefulSet"
        ),
        pytest.param(workload("StatefulSet", volumeClaimTemplates="data"), (), id="claims that are text"),
    ],
)
def test_the_claims_that_a_controller_adds_to_pods(document: Mapping[str, Any], claims: tuple[str, ...]) -> None:
    assert claim_templates(document) == claims


def test_a_bare_pod_is_its_own_template() -> None:
    assert pod_template(pod()) == (pod(), (), None)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({}, id="no kind"),
        pytest.param({"kind": "Service", "spec": {}}, id="a kind without pods"),
        pytest.param({"kind": "Deployment"}, id="no spec"),
        pytest.param({"kind": "Deployment", "spec": {"template": "x"}}, id="a template that is text"),
        pytest.param({"kind": "Deployment", "spec": ["x"]}, id="a spec that is a list"),
        pytest.param({"kind": ["Deployment"]}, id="a kind that is a list"),
    ],
)
def test_no_template_is_none(document: Mapping[str, Any]) -> None:
    assert pod_template(document) is None


def test_templates_are_found_in_the_order_of_the_document_and_not_searched_further() -> None:
    inner = {"spec": {"containers": [{"name": "app"}], "nested": {"spec": POD_SPEC}}}
    document = {"spec": {"groups": [{"template": inner}, {"template": {"spec": POD_SPEC}}], "last": {"spec": POD_SPEC}}}

    assert [path for path, _ in find_templates(document)] == [
        ("spec", "groups", 0, "template"),
        ("spec", "groups", 1, "template"),
        ("spec", "last"),
    ]


@pytest.mark.parametrize(
    "containers",
    [
        pytest.param([], id="an empty list"),
        pytest.param("app", id="text"),
        pytest.param(["app"], id="a list of text"),
        pytest.param({"app": {}}, id="a mapping"),
    ],
)
def test_containers_must_be_a_list_of_mappings(containers: Any) -> None:
    assert find_templates({"spec": {"containers": containers}}) == []


def test_a_deep_document_is_searched_without_recursion() -> None:
    document: Any = {"spec": POD_SPEC}
    for _ in range(5000):
        document = [document]

    assert len(find_templates(document)) == 1


CUSTOM = {
    "JobSet": [("spec", "replicatedJobs", 0, "template", "spec", "template")],
    "LeaderWorkerSet": [("spec", "leaderWorkerTemplate", "workerTemplate")],
    "PaddleJob": [("spec", "paddleReplicaSpecs", "Worker", "template")],
    "PyTorchJob": [("spec", "pytorchReplicaSpecs", role, "template") for role in ("Master", "Worker")],
    "RayCluster": [("spec", "headGroupSpec", "template"), ("spec", "workerGroupSpecs", 0, "template")],
    "XGBoostJob": [("spec", "xgbReplicaSpecs", role, "template") for role in ("Master", "Worker")],
}


def test_every_public_manifest_that_holds_pods_is_found(shared_data: Path) -> None:
    """Own kinds agree with the general search, custom kinds are found, and each path leads to its template."""
    custom: dict[str, list[tuple[str | int, ...]]] = {}
    for file in sorted((shared_data / "manifests").glob("*.yaml")):
        document = yaml.load(file.read_text(), yaml.CSafeLoader)
        found = find_templates(document)

        assert all(value_at(document, path) is template for path, template in found)
        own = pod_template(document)
        if own is not None:
            assert found == [(own.path, own.template)], file.name
        elif found:
            custom[document["kind"]] = [path for path, _ in found]

    assert custom == CUSTOM

"""What a developer reads when a workload is applied."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.builders import TODAY, catalog_text, container, review, serving, template, workload
from tests.sample import index
from webhook.admit import Serving
from webhook.review import Response, parse_review
from webhook.templates import judge_template

SERVING = serving(
    catalog_text(classes="- {name: retiring, deprecated: {replacedBy: general, refuseFrom: 2027-03-01}}\n")
)
ENFORCE = {"podsla.io/enforce-templates": "true"}
OWNER = [{"kind": "Deployment", "name": "checkout", "controller": True}]


def judged(
    document: Mapping[str, Any], labels: Mapping[str, str] | None = None, *, old: Any = None, **request: Any
) -> Response:
    fields = {"oldObject": old, **({"operation": "UPDATE"} if old else {}), **request}
    return judge_template(parse_review(json.dumps(review(document, **fields)).encode()), labels or {}, SERVING, TODAY)


@pytest.mark.parametrize(
    ("document", "warnings"),
    [
        pytest.param(
            workload("Deployment"), ["podsla: class net gets size medium, cost 4 each, 12 for 3 pods"], id="replicas"
        ),
        pytest.param(
            workload("StatefulSet", replicas=1),
            ["podsla: class net gets size medium, cost 4 each, 4 for 1 pod"],
            id="one replica",
        ),
        pytest.param(
            workload(
                "ReplicaSet",
                replicas=3,
                template=template("net", containers=[container(requests={"cpu": "5", "memory": "1Gi"})]),
            ),
            ["podsla: class net gets size large, cost 7.5 each, 22.5 for 3 pods"],
            id="a cost with a fraction",
        ),
        pytest.param(
            workload("DaemonSet"), ["podsla: class net gets size medium, cost 4 on each node"], id="one on each node"
        ),
        pytest.param(
            workload("Job", parallelism=10),
            ["podsla: class net gets size medium, cost 4 each, 40 for 10 pods"],
            id="as many as run at once",
        ),
        pytest.param(
            {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": template()}}}},
            ["podsla: class net gets size medium, cost 4 each, 4 for 1 pod"],
            id="a CronJob",
        ),
        pytest.param(
            workload("ReplicationController"),
            ["podsla: class net gets size medium, cost 4 each, 12 for 3 pods"],
            id="a ReplicationController",
        ),
        pytest.param(
            workload(template=template("steady")),
            [
                "podsla: class steady gets size medium, cost 4 each, 12 for 3 pods",
                "podsla: CPU request rises from 500m to 2 a pod; an HPA on CPU utilisation measures against that",
            ],
            id="a raised CPU request",
        ),
        pytest.param(
            workload(template=template("retiring")),
            [
                "podsla: class retiring gets size small, cost 2 each, 6 for 3 pods",
                "class retiring is deprecated and refuses new pods from 2027-03-01; use general.",
            ],
            id="what the pods will be warned of",
        ),
        pytest.param(
            workload(metadata={"annotations": {"podsla.io/class": "net"}, "labels": {"podsla.io/gpu": "on-demand"}}),
            [
                "podsla.io/class in metadata.annotations has no effect; move it to spec.template.metadata.annotations",
                "podsla.io/gpu in metadata.labels has no effect; move it to spec.template.metadata.annotations",
                "podsla: class net gets size medium, cost 4 each, 12 for 3 pods",
            ],
            id="keys on the wrong level",
        ),
        pytest.param(
            workload(template=template(None), metadata={"annotations": {"podsla.io/class": "net"}}),
            ["podsla.io/class in metadata.annotations has no effect; move it to spec.template.metadata.annotations"],
            id="a key on the wrong level only",
        ),
        pytest.param(
            workload(template=template("nett")),
            ["podsla will refuse these pods (UnknownClass): class 'nett' is in no catalogue; did you mean net?"],
            id="a refusal to come",
        ),
        pytest.param(workload(template=template(None)), [], id="no class"),
        pytest.param(workload(template=template("none")), [], id="opted out"),
        pytest.param(workload(metadata={"ownerReferences": OWNER}), [], id="made by a controller: its owner was told"),
        pytest.param({"kind": "Deployment", "spec": {}}, [], id="no template"),
        pytest.param(workload(template={"spec": {"containers": 7}}), [], id="a broken template of no class"),
    ],
)
def test_a_workload_is_told(document: dict[str, Any], warnings: list[str]) -> None:
    response = judged(document)

    assert (response.allowed, response.patch) == (True, ())
    assert list(response.warnings) == warnings


def test_a_key_above_the_template_of_a_cron_job_is_named_with_its_level() -> None:
    job = {"metadata": {"annotations": {"podsla.io/class": "net"}}, "spec": {"template": template(None)}}
    response = judged({"kind": "CronJob", "spec": {"jobTemplate": job}})

    assert " ".join(response.warnings) == (
        "podsla.io/class in spec.jobTemplate.metadata.annotations has no effect; "
        "move it to spec.jobTemplate.spec.template.metadata.annotations"
    )
    assert len(response.warnings) == 2


def test_the_claims_of_a_stateful_set_are_volumes_of_its_pods() -> None:
    """Its template does not name them: its controller adds them to each pod."""
    claims = [{"metadata": {"name": "data"}}, {"metadata": {"name": "logs"}}]
    document = workload("StatefulSet", template=template("disk"), volumeClaimTemplates=claims)
    found = parse_review(json.dumps(review(document)).encode())

    assert judge_template(found, {}, Serving(index()), TODAY).warnings == (
        "podsla: class disk gets size s.xlarge, cost 4 each, 12 for 3 pods",
        "volume data is a claim, on another disk than disk.iops counts",
        "volume logs is a claim, on another disk than disk.iops counts",
    )


def test_the_default_class_of_a_namespace_is_told_but_does_not_reach_a_daemonset() -> None:
    labels = {"podsla.io/default-class": "net"}

    assert judged(workload(template=template(None)), labels).size == "medium"
    assert judged(workload("DaemonSet", template=template(None)), labels).warnings == ()


def test_a_long_refusal_is_told_whole_in_warnings_of_120_characters() -> None:
    huge = template("net", containers=[container(requests={"cpu": "900", "memory": "9Ti"})])
    response = judged(workload(template=huge))

    assert len(response.warnings) > 1
    assert max(map(len, response.warnings)) <= 120
    assert " ".join(response.warnings).startswith(
        "podsla will refuse these pods (NoSizeFits): no size of class 'net' on target 'kubernetes' holds the pod"
    )


def test_a_namespace_can_turn_refusals_to_come_into_refusals() -> None:
    response = judged(workload(template=template("nett")), ENFORCE)

    assert (response.allowed, response.code, response.reason) == (False, 403, "UnknownClass")
    assert response.message == "class 'nett' is in no catalogue; did you mean net?"


def test_an_enforcing_namespace_still_lets_a_refused_workload_be_scaled_down() -> None:
    old = workload(template=template("nett"))
    response = judged(workload(template=template("nett"), replicas=0), ENFORCE, old=old)

    assert response.allowed
    assert len(response.warnings) == 1


def test_an_update_that_changes_neither_template_nor_replicas_is_not_told_again() -> None:
    old = workload(template=template("nett"))

    assert judged({**old, "status": {"replicas": 3}}, ENFORCE, old=old) == Response()


def test_an_update_that_changes_the_template_is_told_and_enforced() -> None:
    response = judged(workload(template=template("nett")), ENFORCE, old=workload())

    assert not response.allowed


@pytest.mark.parametrize(
    "request_fields",
    [
        pytest.param({"operation": "DELETE", "object": None, "oldObject": workload()}, id="a deletion"),
        pytest.param({"subResource": "scale", "operation": "UPDATE"}, id="a scale"),
        pytest.param({"subResource": "status", "operation": "UPDATE"}, id="a status"),
    ],
)
def test_everything_else_is_admitted_without_a_word(request_fields: dict[str, Any]) -> None:
    assert judged(workload(template=template("nett")), ENFORCE, **request_fields) == Response()

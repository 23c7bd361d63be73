"""GPUAttachments on a real API server: a slip is refused where it is typed, and what was asked stays as it was."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.attach.test_api import attachment
from tests.manifests.kubectl import run
from tests.system.user import User

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd")]


def document(name: str, spec: dict[str, Any]) -> str:
    """Write an attachment as a user would."""
    head = {"apiVersion": "podsla.io/v1beta1", "kind": "GPUAttachment", "metadata": {"name": name}}
    return json.dumps({**head, "spec": spec})


def apply(admin: User, name: str, spec: dict[str, Any], *more: str) -> str:
    """Apply it, and read why it was refused; "" where it was not."""
    done = admin.kubectl("apply", *more, "-f", "-", text=document(name, spec))
    return done.stderr.strip() if done.returncode else ""


@pytest.fixture(scope="module")
def settled(admin: User, crd: None) -> Iterator[dict[str, Any]]:
    """An attachment that was taken."""
    spec = {"podName": "eval-x", "renewTime": "2026-01-02T03:04:05.5Z", "models": ["A10"]}
    assert apply(admin, "settled", spec) == ""
    yield spec
    run(admin, "delete", "gpua", "settled")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, "spec.podName: Required value", id="no pod"),
        pytest.param({"podName": "x", "leaseSecond": 1}, 'unknown field "spec.leaseSecond"', id="a typo"),
        pytest.param({"podName": "X_"}, 'spec.podName: Invalid value: "X_"', id="no name of a pod"),
        pytest.param(
            {"podName": "x", "leaseSeconds": -1}, "spec.leaseSeconds: Invalid value: -1", id="a negative lease"
        ),
        pytest.param(
            {"podName": "x", "leaseSeconds": 9}, "spec.leaseSeconds: Invalid value: 9", id="a lease too short"
        ),
        pytest.param(
            {"podName": "x", "devices": [{"uuid": "GPU-of-another-node"}]},
            'unknown field "spec.devices"',
            id="a device by name, which may be another node's",
        ),
        pytest.param({"podName": "x", "count": 17}, "spec.count: Invalid value: 17", id="too many"),
        pytest.param({"podName": "x", "count": 0}, "spec.count: Invalid value: 0", id="none"),
        pytest.param({"podName": "x", "resource": "gpu"}, 'spec.resource: Invalid value: "gpu"', id="no resource"),
        pytest.param(
            {"podName": "x", "detachPolicy": "Kill"}, 'spec.detachPolicy: Unsupported value: "Kill"', id="no policy"
        ),
        pytest.param(
            {"podName": "x", "renewTime": "2026-01-02T03:04:05+01:00"},
            "spec.renewTime: Invalid value",
            id="another zone",
        ),
    ],
)
def test_a_slip_is_refused_by_its_field(admin: User, spec: dict[str, Any], expected: str) -> None:
    assert expected in apply(admin, "slip", spec, "--dry-run=server")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("podName", "other"),
        ("podUID", "u"),
        ("container", "c"),
        ("resource", "amd.com/gpu"),
        ("count", 2),
        ("models", ["T4"]),
        ("leaseSeconds", 60),
        ("gracePeriodSeconds", 0),
        ("detachPolicy", "Terminate"),
        ("ttlSecondsAfterFinished", 1),
    ],
)
def test_what_was_asked_is_settled(admin: User, settled: dict[str, Any], field: str, value: Any) -> None:
    expected = f"spec.{field}: Invalid value: cannot change; delete the attachment and create another"
    assert expected.replace("Invalid value: ", "") in " ".join(
        apply(admin, "settled", {**settled, field: value}).replace("Invalid value: ", "").split()
    )


def test_a_lease_is_renewed_and_a_release_is_never_taken_back(admin: User, settled: dict[str, Any]) -> None:
    assert apply(admin, "settled", {**settled, "renewTime": "2026-01-02T03:05:05Z"}) == ""
    assert apply(admin, "settled", {**settled, "release": True}) == ""
    assert "cannot be taken back: the GPU goes; create another attachment" in apply(
        admin, "settled", {**settled, "release": False}
    )


def test_the_table_says_the_state_by_the_heaviest_condition(admin: User, settled: dict[str, Any]) -> None:
    conditions = [
        {"type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}
        for kind, status in (("Draining", "True"), ("Attached", "False"), ("Reserved", "True"))
    ]
    status = {"node": "n1", "queuePosition": 0, "conditions": conditions}
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    run(admin, "patch", "gpua", "settled", *patch)
    head, row = run(admin, "get", "gpua", "settled").splitlines()
    assert head.split() == ["NAME", "POD", "NODE", "RESOURCE", "COUNT", "STATE", "QUEUE", "AGE"]
    assert row.split()[:7] == ["settled", "eval-x", "n1", "nvidia.com/gpu", "1", "Draining", "0"]


def test_status_is_not_written_with_the_spec(admin: User) -> None:
    head = attachment(metadata={"namespace": "default", "name": "sneaky"}, status={"node": "n1"})
    for key in ("uid", "resourceVersion", "generation", "creationTimestamp"):
        del head["metadata"][key]
    run(admin, "create", "-f", "-", text=json.dumps(head))
    assert run(admin, "get", "gpua", "sneaky", "-o", "jsonpath={.status}") == ""
    run(admin, "delete", "gpua", "sneaky")

"""What `/mutate` promised, checked again: pods that slipped past, and resizes beyond the size."""

import json
from typing import Any

import jsonpatch
import pytest

from catalog.keys import SIZE
from tests.builders import TODAY, container, pod, review, serving
from webhook.mutate import mutate
from webhook.review import Response, parse_review
from webhook.validate import validate

SERVING = serving()


def judged(found: dict[str, Any], **request: Any) -> Response:
    return validate(parse_review(json.dumps(review(found, **request)).encode()), {}, SERVING, TODAY)


def mutated(found: dict[str, Any]) -> dict[str, Any]:
    """The pod as the API server has it after `/mutate`."""
    response = mutate(parse_review(json.dumps(review(found)).encode()), {}, SERVING, TODAY)
    assert response.allowed
    result: dict[str, Any] = jsonpatch.apply_patch(found, list(response.patch))
    return result


@pytest.mark.parametrize("sla_class", ["general", "steady", "net"])
def test_a_pod_that_was_sized_is_admitted(sla_class: str) -> None:
    response = judged(mutated(pod(sla_class)))

    assert response.allowed
    assert not response.patch
    assert (response.sla_class, response.message) == (sla_class, "")


def test_a_pod_that_slipped_past_is_refused() -> None:
    response = judged(pod("net"))

    assert (response.allowed, response.code, response.reason) == (False, 403, "NotSized")
    assert response.message == (
        "the pod asks for class 'net' and does not carry what size 'medium' writes "
        "(/spec/containers/0/resources/requests/podsla.io~1pps, /spec/containers/0/resources/limits): "
        "the mutating webhook did not run, or another one overwrote it; create the pod again"
    )


def test_a_pod_that_nothing_had_to_be_written_into_is_admitted_without_its_notes() -> None:
    assert judged(pod("general")).allowed


def test_a_limit_annotation_that_was_dropped_counts_as_not_sized() -> None:
    """The record may be missing, but an annotation that a consumer reads may not."""
    text = """
apiVersion: podsla.io/v1beta1
kind: SpecCatalog
metadata: {name: platform}
spec:
  sizes: [{name: small, vcpu: "2", memory: 4Gi, network: {bitsPerSecond: 1G}}]
  classes: [{name: wide, floor: {network: {bitsPerSecond: 500M}}}]
"""
    asked = parse_review(json.dumps(review(pod(None))).encode())
    response = validate(asked, {"podsla.io/default-class": "wide"}, serving(text), TODAY)

    assert "/metadata/annotations/kubernetes.io~1egress-bandwidth" in response.message
    assert "record" not in response.message


def test_a_reservation_that_another_webhook_took_away_is_refused() -> None:
    found = mutated(pod("net"))
    del found["spec"]["containers"][0]["resources"]["requests"]["podsla.io/pps"]

    assert judged(found).reason == "NotSized"


def test_a_refusal_of_the_decision_passes_on() -> None:
    response = judged(pod("nett"))

    assert (response.allowed, response.reason) == (False, "UnknownClass")


@pytest.mark.parametrize(
    ("found", "request_fields"),
    [
        pytest.param(pod(None), {}, id="a pod without class"),
        pytest.param(pod("net"), {"operation": "UPDATE"}, id="an update"),
        pytest.param(pod("net"), {"operation": "DELETE", "object": None}, id="a deletion"),
        pytest.param(pod("net"), {"subResource": "status", "operation": "UPDATE"}, id="a status"),
        pytest.param(pod("net"), {"subResource": "binding"}, id="a binding"),
        pytest.param({"kind": "Service", "spec": {}}, {}, id="another kind"),
        pytest.param(pod("net"), {"subResource": "resize", "operation": "UPDATE"}, id="a resize of an unsized pod"),
    ],
)
def test_everything_else_is_admitted_without_a_word(found: dict[str, Any], request_fields: dict[str, Any]) -> None:
    response = judged(found, **request_fields)

    assert (response.allowed, response.warnings, response.patch) == (True, (), ())


def resized(cpu: str, memory: str, *, before: str = "500m", size: str = "small") -> Response:
    def of(cpu: str, memory: str) -> dict[str, Any]:
        amounts = {"cpu": cpu, "memory": memory}
        return pod("general", labels={"podsla.io/size": size}, containers=[container(requests=amounts, limits=amounts)])

    return judged(of(cpu, memory), operation="UPDATE", subResource="resize", oldObject=of(before, "1Gi"))


@pytest.mark.parametrize(
    ("cpu", "memory"),
    [
        pytest.param("1900m", "3Gi", id="exactly what the size offers"),
        pytest.param("100m", "128Mi", id="less than before"),
    ],
)
def test_a_resize_within_the_size_is_admitted(cpu: str, memory: str) -> None:
    assert resized(cpu, memory) == Response(size="small", revision=SERVING.index.catalog.revision)


def test_a_resize_beyond_the_size_is_refused_with_both_figures() -> None:
    response = resized("1901m", "4Gi")

    assert (response.allowed, response.code, response.reason) == (False, 403, "BeyondSize")
    assert response.message == (
        "the resize asks more than size 'small' of this pod offers: vcpu 1901m, and it offers 1900m; "
        "memory 4Gi, and it offers 3Gi; "
        "stay within it, or create a new pod with larger limits to get a larger size"
    )


def test_a_resize_that_lowers_a_pod_that_is_beyond_already_is_admitted() -> None:
    assert resized("3", "1Gi", before="4").allowed


def test_a_resize_of_a_pod_whose_size_is_gone_is_admitted_with_a_warning() -> None:
    response = resized("64", "1Gi", size="huge")

    assert response.allowed
    assert response.warnings == ("size huge of this pod is no longer known, so the resize was not checked against it",)


def test_a_resize_cannot_claim_another_size_than_the_pod_has() -> None:
    large = pod("general", labels={"podsla.io/size": "large"}, containers=[container(limits={"cpu": "7"})])
    small = pod("general", labels={"podsla.io/size": "small"}, containers=[container(limits={"cpu": "1"})])

    assert judged(large, operation="UPDATE", subResource="resize", oldObject=small).reason == "BeyondSize"


def test_a_resize_to_something_that_is_no_quantity_is_unprocessable() -> None:
    response = resized("lots", "1Gi")

    assert (response.allowed, response.code, response.reason) == (False, 422, "InvalidPod")


def test_a_size_label_of_another_size_is_refused_and_an_absent_one_is_not() -> None:
    """A resize is judged by the label, so it must not be chosen freely."""
    found = mutated(pod("net"))
    right = found["metadata"]["labels"].pop(SIZE)
    assert judged(found).allowed

    found["metadata"]["labels"][SIZE] = f"{right}-larger"
    response = judged(found)
    assert (response.allowed, response.reason) == (False, "NotSized")
    assert "the label podsla.io/size" in response.message

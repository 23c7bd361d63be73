"""What a target lets the pods carry that reserve GPUs."""

import pytest

from catalog.problems import InvalidError
from catalog.target import Metadata
from tests.sample import target


def on(metadata: str) -> str:
    """A target with GPUs, and that."""
    return f"{{gpu: {{resource: g, modelLabel: m, placeholderMetadata: {metadata}}}}}"


def test_labels_and_annotations_are_read_and_either_may_be_left_out() -> None:
    def read(text: str) -> Metadata:
        gpu = target(text).gpu
        assert gpu is not None
        return gpu.placeholder_metadata

    assert read("{gpu: {resource: g, modelLabel: m}}") == read(on("{}")) == Metadata()
    assert read(on("{labels: {b/x: '', a: Y.1}}")) == Metadata((("a", "Y.1"), ("b/x", "")))
    assert read(on("{annotations: {a.example/note: any text}}")) == Metadata((), (("a.example/note", "any text"),))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        pytest.param("{labels: {podsla.io/placeholder: warm}}", "podsla's own", id="the label that says whose it is"),
        pytest.param("{labels: {podsla.io/new: x}}", "podsla's own", id="whatever else may be ours one day"),
        pytest.param("{annotations: {podsla.io/class: net}}", "podsla's own", id="a class"),
        pytest.param("{annotations: {linkerd.io/inject: enabled}}", "podsla's own", id="a sidecar, by annotation"),
        pytest.param("{labels: {sidecar.istio.io/inject: 'true'}}", "podsla's own", id="a sidecar, by label"),
        pytest.param("{labels: {a: b c}}", "labels.a", id="a label's value with a space"),
        pytest.param("{labels: {Team/a: b}}", "Team/a", id="no key"),
        pytest.param("{annotations: {a/b/c: b}}", "a/b/c", id="no key of an annotation either"),
        pytest.param("{labels: {a: 1}}", "labels.a", id="a number, which is no text"),
        pytest.param("{finalizers: {}}", "finalizers", id="neither"),
    ],
)
def test_what_is_ours_or_no_metadata_is_refused(metadata: str, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        target(on(metadata))
    assert "placeholderMetadata" in str(caught.value)
    assert message in str(caught.value)

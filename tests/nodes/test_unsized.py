"""Which pods were created without podsla, by their metadata alone."""

from typing import Any

import pytest

from nodes.unsized import EXEMPT, Unsized, read_unsized


def pod(namespace: str = "shop", **annotations: str) -> dict[str, Any]:
    """A pod with annotations, "_" for "-", of podsla's domain."""
    keys = {f"podsla.io/{key}": value for key, value in annotations.items()}
    return {"metadata": {"namespace": namespace, "name": "web", "uid": "u1", "annotations": keys}}


def test_a_pod_that_names_a_class_and_has_no_record_is_one() -> None:
    assert [*read_unsized([pod(**{"class": "net"})])] == [Unsized("shop/web", "net", "u1")]


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(pod(), id="no class"),
        pytest.param(pod(**{"class": "none"}), id="opted out"),
        pytest.param(pod(**{"class": "net", "record": "{}"}), id="sized"),
        *(pytest.param(pod(name, **{"class": "net"}), id=name) for name in sorted(EXEMPT)),
        pytest.param({"metadata": {"name": "web", "namespace": "shop"}}, id="no annotations"),
        pytest.param(
            {"metadata": {"name": "m", "annotations": {"podsla.io/class": "net", "kubernetes.io/config.mirror": "x"}}},
            id="a mirror pod",
        ),
    ],
)
def test_every_other_pod_is_none(found: dict[str, Any]) -> None:
    assert [*read_unsized([found])] == []

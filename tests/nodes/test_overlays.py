"""Which overlays are written and taken away."""

from typing import Any

import pytest

from nodes.overlays import OverlayPlan, plan_overlays

BY_HAND = {"app.kubernetes.io/managed-by": "podsla"}
KEPT = {**BY_HAND, "podsla.io/overlay": "true"}


def overlay(name: str, pps: str, labels: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    """Write an overlay; as the export does, unless labels are given."""
    named = {"name": name, "labels": BY_HAND if labels is None else labels, **metadata}
    return {"kind": "NodeOverlay", "metadata": named, "spec": {"capacity": {"podsla.io/pps": pps}}}


A, B = overlay("a", "100"), overlay("b", "200")
KEPT_A, KEPT_B = overlay("a", "100", KEPT), overlay("b", "200", KEPT)


@pytest.mark.parametrize(
    ("wanted", "standing", "plan"),
    [
        pytest.param([A, B], [], OverlayPlan(create=(KEPT_A, KEPT_B)), id="nothing stands: all are created"),
        pytest.param([A, B], [KEPT_A, KEPT_B], OverlayPlan(), id="all stand: nothing to do"),
        pytest.param([A], [overlay("a", "90", KEPT)], OverlayPlan(replace=(KEPT_A,)), id="a figure has changed"),
        pytest.param([A], [A], OverlayPlan(replace=(KEPT_A,)), id="exported by hand: taken over"),
        pytest.param([A], [KEPT_A, KEPT_B], OverlayPlan(delete=("b",)), id="a type is gone"),
        pytest.param([A], [KEPT_A, B], OverlayPlan(delete=("b",)), id="exported by hand, and left over: it goes"),
        pytest.param([A], [overlay("a", "90", {})], OverlayPlan(taken=("a",)), id="somebody else has the name"),
        pytest.param([], [overlay("b", "90", {})], OverlayPlan(), id="one that is not ours stays"),
        pytest.param(
            None, [KEPT_A, B], OverlayPlan(delete=("a",)), id="not asked for: what was exported by hand stays"
        ),
    ],
)
def test_plan(wanted: Any, standing: list[Any], plan: OverlayPlan) -> None:
    assert plan_overlays(wanted, standing) == plan


def test_what_others_wrote_beside_the_spec_stays() -> None:
    """The API server takes a replacement only for what was read, so the version comes along."""
    found = overlay("a", "90", {**KEPT, "team": "x"}, resourceVersion="7") | {"status": {"conditions": []}}

    (body,) = plan_overlays([A], [found]).replace

    assert body == overlay("a", "100", {**KEPT, "team": "x"}, resourceVersion="7") | {"status": {"conditions": []}}

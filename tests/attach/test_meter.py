"""What GPUs are for at a moment, and who has which."""

import pytest

from attach.api import Attachment, Condition, Type
from attach.meter import Holding, Site, Use, count_uses, holdings
from attach.warm import Ready
from tests.attach.test_warm import ready, waiting

GPU = "nvidia.com/gpu"
FOUR = Site("n1", gpus=4)
RESERVED = Condition(Type.RESERVED, True, "Reserved", "")


def said(*kinds: Type, count: int = 1, gpus: tuple[str, ...] = ("GPU-1",), **more: str) -> Attachment:
    """An attachment of team-a, or another namespace, of which the agent has said something."""
    conditions = [Condition(kind, True, "Reserved", "") for kind in kinds]
    spec = {"count": count, "resource": more.pop("resource", GPU)}
    return waiting("a", 0, *conditions, spec=spec, devices=[{"uuid": gpu} for gpu in gpus], **more)


@pytest.mark.parametrize(
    ("sites", "attachments", "kept", "expected"),
    [
        pytest.param([], [], [], {}, id="nothing is there"),
        pytest.param([FOUR], [], [], {Use.IDLE: 4}, id="nobody has one"),
        pytest.param([FOUR], [waiting("a")], [], {Use.IDLE: 4}, id="who waits has none"),
        pytest.param([FOUR], [said(Type.RESERVED)], [], {Use.LENT: 1, Use.IDLE: 3}, id="reserved, not yet attached"),
        pytest.param([FOUR], [said(Type.ATTACHED, count=3)], [], {Use.LENT: 3, Use.IDLE: 1}, id="several for one"),
        pytest.param([FOUR], [said(Type.OVERDUE)], [], {Use.LENT: 1, Use.IDLE: 3}, id="kept open past its end"),
        pytest.param(
            [FOUR], [said(Type.QUARANTINED, Type.RESERVED)], [], {Use.QUARANTINED: 1, Use.IDLE: 3}, id="nobody's"
        ),
        pytest.param([FOUR], [said(Type.RELEASED)], [], {Use.IDLE: 4}, id="given back"),
        pytest.param([FOUR], [said(Type.FAILED)], [], {Use.IDLE: 4}, id="it failed"),
        pytest.param([FOUR], [], [ready()], {Use.READY: 1, Use.IDLE: 3}, id="kept ready"),
        pytest.param([FOUR], [], [ready(bound=False)], {Use.IDLE: 4}, id="to be kept ready, and bound to no node yet"),
        pytest.param([FOUR], [], [ready(phase="Failed")], {Use.IDLE: 4}, id="kept ready once"),
        pytest.param([Site("n1", 4, 3)], [], [], {Use.WHOLE_LIFE: 3, Use.IDLE: 1}, id="of pods from their start on"),
        pytest.param(
            [Site("n1", 4, 99)], [said(Type.ATTACHED)], [], {Use.LENT: 1, Use.WHOLE_LIFE: 3}, id="a forged record"
        ),
        pytest.param([Site("n1", 0)], [said(Type.ATTACHED)], [], {Use.LENT: 1}, id="the device plugin is gone"),
        pytest.param([Site("n2", 1)], [said(Type.ATTACHED)], [], {Use.LENT: 1, Use.IDLE: 1}, id="on another node"),
        pytest.param([FOUR], [said(Type.ATTACHED, resource="amd.com/gpu")], [], {Use.IDLE: 4}, id="another resource"),
    ],
)
def test_each_gpu_that_is_offered_is_for_one_thing(
    sites: list[Site], attachments: list[Attachment], kept: list[Ready], expected: dict[Use, int]
) -> None:
    assert count_uses(sites, attachments, kept, GPU) == {**dict.fromkeys(Use, 0), **expected}


def test_who_has_which_gpu_is_told_once_each_and_of_nobody_who_had_one() -> None:
    two = said(Type.ATTACHED, count=2, gpus=("GPU-2", "GPU-1"))
    others = [said(kind, gpus=("GPU-9",)) for kind in (Type.RELEASED, Type.FAILED, Type.QUARANTINED)]
    mig = said(Type.ATTACHED, gpus=("MIG-1",), resource="nvidia.com/mig-1g.5gb")

    assert holdings([*others, mig, two, two, waiting("w")]) == (
        Holding("n1", "GPU-1", "team-a"),
        Holding("n1", "GPU-2", "team-a"),
        Holding("n1", "MIG-1", "team-a"),
    )

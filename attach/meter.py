"""
What becomes of GPUs: lent, kept ready, a pod's for its life, quarantined, or idle. Pure.

Only what the controller sees counts: a GPU that a pod without a class asked for itself looks idle.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from attach.api import Attachment, Type
from attach.warm import Ready


class Use(StrEnum):
    """What a GPU is for at a moment: the closed set that is also the metric's label."""

    LENT = "lent"  # reserved by an attachment, from the agent's first word of it to its last
    QUARANTINED = "quarantined"  # nobody's
    READY = "ready"  # kept for the next attachment of a namespace
    WHOLE_LIFE = "whole-life"  # of a pod of a class, from its start to its end
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Site:
    """
    A node where pods may borrow.

    Attributes:
        gpus: Those that its kubelet offers.
        whole_life: Of them, those of pods that have one from their start to their end.
    """

    node: str
    gpus: int
    whole_life: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Holding:
    """A GPU, by its UUID, and the namespace that has it now."""

    node: str
    gpu: str
    namespace: str


def count_uses(
    sites: Iterable[Site], attachments: Iterable[Attachment], ready: Iterable[Ready], resource: str
) -> Mapping[Use, int]:
    """
    Count GPUs of a resource by what they are for; no use is left out.

    Args:
        attachments: All of them; those that ask for another resource do not count.
        ready: Warm placeholders, which all reserve one GPU of this resource.
    """
    taken = Counter[str]()  # by node
    total = dict.fromkeys(Use, 0)
    for one in attachments:
        if is_held(one) and one.spec.resource == resource:
            total[_use_of(one)] += one.spec.count
            taken[one.status.node] += one.spec.count
    for kept in ready:
        if kept.pod.node and not kept.pod.ended:
            total[Use.READY] += 1
            taken[kept.node] += 1
    for site in sites:
        left = max(site.gpus - taken[site.node], 0)
        whole_life = min(site.whole_life, left)  # a record is a note of anybody's
        total[Use.WHOLE_LIFE] += whole_life
        total[Use.IDLE] += left - whole_life
    return total


def is_held(attachment: Attachment) -> bool:
    """Tell whether a device is kept from others for an attachment."""
    return attachment.with_agent and not attachment.is_finished


def _use_of(attachment: Attachment) -> Use:
    return Use.QUARANTINED if attachment.status.has(Type.QUARANTINED) else Use.LENT


def holdings(attachments: Iterable[Attachment]) -> tuple[Holding, ...]:
    """List who has which GPU, of whatever resource, each once; a quarantined one is nobody's."""
    lent = [one for one in attachments if is_held(one) and _use_of(one) is Use.LENT]
    return tuple(sorted({Holding(one.status.node, gpu, one.namespace) for one in lent for gpu in one.status.devices}))

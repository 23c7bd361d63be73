"""How CPU and memory of a pod are raised: never lowered, and never so that it loses Guaranteed QoS. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from catalog.demand import CPU, RAM, amount, requested
from catalog.dimension import MEMORY, VCPU, Dimension
from catalog.pod import Container, Kind, Subject, Texts
from catalog.target import Resources
from webhook.decision import ContainerWrite

RESOURCES: Final = ((VCPU, CPU), (MEMORY, RAM))
_WHOLE_M: Final = 1000


@dataclass(frozen=True, slots=True)
class Compute:
    """CPU and memory to set, at pod level or on one container."""

    pod_requests: Texts = ()
    pod_limits: Texts = ()
    container: ContainerWrite | None = None


def is_guaranteed(subject: Subject) -> bool:
    """
    Tell whether the pod is of QoS class Guaranteed.

    Source:
        kubernetes, pkg/apis/core/v1/helper/qos: pod-level resources, where set, decide alone.
    """
    if subject.pod_requests or subject.pod_limits:
        return all(_equal(subject.pod_requests, subject.pod_limits, d, r) for d, r in RESOURCES)
    return all(_equal(c.requests, c.limits, d, r) for c in subject.containers for d, r in RESOURCES)


def _equal(requests: Texts, limits: Texts, dimension: Dimension, resource: str) -> bool:
    limit = amount(limits, resource, dimension)
    request = amount(requests, resource, dimension)
    return bool(limit) and request in (None, limit)


def on_containers(subject: Subject, where: Resources) -> bool:
    """
    Tell whether CPU and memory go on a container rather than on the pod.

    The kubelet's static policy gives no exclusive cores to a pod with pod-level resources, so a Guaranteed pod with
    whole CPUs keeps its own; Windows pods cannot have pod-level resources.
    """
    return where is Resources.CONTAINERS or subject.windows or has_whole_cpus(subject)


def has_whole_cpus(subject: Subject) -> bool:
    """Tell whether the static CPU policy would give exclusive cores to a container of the pod."""
    if subject.pod_requests or subject.pod_limits or not is_guaranteed(subject):
        return False
    return any(_is_whole(container) for container in subject.containers if container.kind is not Kind.INIT)


def _is_whole(container: Container) -> bool:
    return (amount(container.limits, CPU, VCPU) or 1) % _WHOLE_M == 0


def raised_floor(subject: Subject, dimension: Dimension, floor: int, where: Resources) -> int:
    """Say what the pod's request becomes where *floor* is above it; whole CPUs are raised by whole CPUs."""
    if not floor:
        return 0
    now = requested(subject, CPU if dimension is VCPU else RAM, dimension)
    if floor <= now:
        return 0
    if dimension is VCPU and on_containers(subject, where) and has_whole_cpus(subject):
        return now - (now - floor) // _WHOLE_M * _WHOLE_M
    return floor


def raise_to(subject: Subject, goals: Mapping[Dimension, int], where: Resources, *, whole: bool) -> Compute:
    """
    Raise the pod's CPU and memory to *goals*.

    Args:
        goals: What the scheduler shall count, without overhead; 0 leaves the resource as it is.
        where: Where this target wants them written.
        whole: The pod gets all of its size, so that goals are its limits too.
    """
    if where is Resources.NONE or not any(goals.values()):
        return Compute()
    if on_containers(subject, where):
        return Compute(container=_raise_container(subject, goals))
    guaranteed = is_guaranteed(subject)
    requests, limits = list[tuple[str, str]](), list[tuple[str, str]]()
    for dimension, resource in RESOURCES:
        goal = goals[dimension]
        if not goal and guaranteed:
            goal = requested(subject, resource, dimension)  # at pod level, QoS is judged by both resources
        if not goal:
            continue
        limit = amount(subject.pod_limits, resource, dimension)
        requests.append((resource, dimension.render(goal)))
        if whole or guaranteed or (limit is not None and limit < goal):
            limits.append((resource, dimension.render(goal)))
    return Compute(tuple(requests), tuple(limits))


def _raise_container(subject: Subject, goals: Mapping[Dimension, int]) -> ContainerWrite | None:
    guaranteed = is_guaranteed(subject)
    container = first_running(subject, whole_cpus=has_whole_cpus(subject))
    requests, limits = list[tuple[str, str]](), list[tuple[str, str]]()
    for dimension, resource in RESOURCES:
        more = goals[dimension] - requested(subject, resource, dimension)
        if dimension is VCPU and has_whole_cpus(subject):
            more = more // _WHOLE_M * _WHOLE_M
        if more <= 0:
            continue
        limit = amount(container.limits, resource, dimension)
        request = amount(container.requests, resource, dimension)
        goal = (request if request is not None else limit or 0) + more
        requests.append((resource, dimension.render(goal)))
        if guaranteed or (limit is not None and limit < goal):
            limits.append((resource, dimension.render(goal)))
    return ContainerWrite(container.name, tuple(requests), tuple(limits)) if requests else None


def first_running(subject: Subject, *, whole_cpus: bool = False) -> Container:
    """Find the container that takes what is added: the first, or the first that has whole CPUs."""
    running = [container for container in subject.containers if container.kind is Kind.RUNNING]
    return next((container for container in running if whole_cpus and _is_whole(container)), running[0])

"""How CPU and memory of a pod are raised: never lowered, and never so that it loses Guaranteed QoS. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from catalog.demand import COMPUTE, CPU, amount, requested, standing
from catalog.dimension import VCPU, Dimension
from catalog.pod import Container, Kind, Subject, Texts
from catalog.target import Resources
from webhook.decision import ContainerWrite

_WHOLE_M: Final = 1000


@dataclass(frozen=True, slots=True)
class Compute:
    """CPU and memory to set, at pod level or on containers."""

    pod_requests: Texts = ()
    pod_limits: Texts = ()
    containers: tuple[ContainerWrite, ...] = ()


def is_guaranteed(subject: Subject) -> bool:
    """
    Tell whether the pod is of QoS class Guaranteed.

    Source:
        kubernetes, pkg/apis/core/v1/helper/qos: pod-level resources, where set, decide alone.
    """
    if has_pod_level(subject):
        now = requested(subject)
        return all((limit := amount(subject.pod_limits, r)) and limit == now.get(r) for _, r in COMPUTE)
    return all(_equal(c.requests, c.limits, resource) for c in subject.containers for _, resource in COMPUTE)


def _equal(requests: Texts, limits: Texts, resource: str) -> bool:
    limit, request = amount(limits, resource), amount(requests, resource)
    return bool(limit) and request in (None, limit)


def has_pod_level(subject: Subject) -> bool:
    """Tell whether the pod has resources of its own beside its containers'."""
    return bool(subject.pod_requests or subject.pod_limits)


def on_containers(subject: Subject, where: Resources) -> bool:
    """
    Tell whether CPU and memory go on a container rather than on the pod.

    The kubelet's static policy gives no exclusive cores to a pod with pod-level resources, so a Guaranteed pod with
    whole CPUs keeps its own; Windows pods cannot have pod-level resources. A pod that has them already keeps to them.
    """
    return not has_pod_level(subject) and (where is Resources.CONTAINERS or subject.windows or has_whole_cpus(subject))


def has_whole_cpus(subject: Subject) -> bool:
    """Tell whether the static CPU policy would give exclusive cores to a container of the pod."""
    if has_pod_level(subject) or not is_guaranteed(subject):
        return False
    return any(_is_whole(container) for container in subject.containers if container.kind is not Kind.INIT)


def _is_whole(container: Container) -> bool:
    return (amount(container.limits, CPU) or 1) % _WHOLE_M == 0


def raised_floor(
    subject: Subject, now: Mapping[str, int], floor: Mapping[Dimension, int], where: Resources
) -> Mapping[Dimension, int]:
    """
    Say what CPU and memory become where *floor* is above what the pod requests *now*, and 0 where it is not.

    Whole CPUs are raised by whole CPUs.
    """
    raised = {d: floor[d] if floor[d] > now.get(resource, 0) else 0 for d, resource in COMPUTE}
    if raised[VCPU] and on_containers(subject, where) and has_whole_cpus(subject):
        stands = standing(subject).requested[CPU]
        raised[VCPU] = stands - (stands - floor[VCPU]) // _WHOLE_M * _WHOLE_M
    return raised


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
        return Compute(containers=tuple(_raise_containers(subject, goals, whole=whole)))
    guaranteed, now = is_guaranteed(subject), requested(subject)
    requests, limits = list[tuple[str, str]](), list[tuple[str, str]]()
    for dimension, resource in COMPUTE:
        goal = goals[dimension]
        if not goal and guaranteed:
            goal = now[resource]  # at pod level, QoS is judged by both resources
        if not goal:
            continue
        limit = amount(subject.pod_limits, resource)
        requests.append((resource, dimension.render(goal)))
        if whole or guaranteed or (limit is not None and limit < goal):
            limits.append((resource, dimension.render(goal)))
    return Compute(tuple(requests), tuple(limits))


def _raise_containers(subject: Subject, goals: Mapping[Dimension, int], *, whole: bool) -> Iterator[ContainerWrite]:
    """Put what is missing on one container; of a whole sandbox, every limit is a request too."""
    stands = standing(subject).needed if whole else standing(subject).requested
    taker = first_running(subject, whole_cpus=has_whole_cpus(subject))
    for container in subject.containers:
        requests, limits = dict[str, str](), dict[str, str]()
        for dimension, resource in COMPUTE:
            limit, request = amount(container.limits, resource), amount(container.requests, resource)
            if not goals[dimension] or container.kind is Kind.INIT:
                continue
            if whole and limit is not None and request is not None and request < limit:
                requests[resource] = dimension.render(limit)
            more = goals[dimension] - stands.get(resource, 0) if container is taker else 0
            if dimension is VCPU and has_whole_cpus(subject):
                more = more // _WHOLE_M * _WHOLE_M
            if more <= 0:
                continue
            own = (limit if whole else request) or request or limit or 0
            requests[resource] = dimension.render(own + more)
            if whole or is_guaranteed(subject) or (limit is not None and limit < own + more):
                limits[resource] = dimension.render(own + more)
        if requests:
            yield ContainerWrite(container.name, tuple(requests.items()), tuple(limits.items()))


def first_running(subject: Subject, *, whole_cpus: bool = False) -> Container:
    """Find the container that takes what is added: the first, or the first that has whole CPUs."""
    running = [container for container in subject.containers if container.kind is Kind.RUNNING]
    return next((container for container in running if whole_cpus and _is_whole(container)), running[0])

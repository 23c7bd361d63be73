"""What a pod demands of its sandbox, summed as Kubernetes sums it. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from catalog.dimension import DIMENSIONS, GPU_COUNT, MEMORY, RESERVABLE, VCPU, Ask, Dimension
from catalog.pod import Container, Kind, Subject, Texts
from catalog.target import Runtime

CPU: Final = "cpu"
RAM: Final = "memory"

IGNORED: Final[Mapping[str, str]] = {
    "ephemeral-storage": "sizes publish no ephemeral storage: the kubelet accounts for it on each node",
}
"""Resources that no size speaks of, and why."""


def effective(containers: Iterable[Container], value: Callable[[Container], int]) -> int:
    """
    Sum one resource over containers as the scheduler does.

    Running containers and native sidecars add up; an init container needs what it asks beside the sidecars started
    before it; the larger of both counts.

    Source:
        component-helpers, resource.AggregateContainerRequests (KEP-753).
    """
    running = sidecars = starting = 0
    for container in containers:
        amount = value(container)
        if container.kind is Kind.RUNNING:
            running += amount
        elif container.kind is Kind.SIDECAR:
            sidecars += amount
            starting = max(starting, sidecars)
        else:
            starting = max(starting, amount + sidecars)
    return max(running + sidecars, starting)


def amount(texts: Texts, resource: str, dimension: Dimension) -> int | None:
    """Read one resource of requests or limits, in the units of *dimension*; None where it is not set."""
    for key, text in texts:
        if key == resource:
            return dimension.parse(text)
    return None


def limit_or_request(container: Container, resource: str, dimension: Dimension) -> int:
    """Take the limit where one is set, else the request, else 0."""
    limit = amount(container.limits, resource, dimension)
    return limit if limit is not None else amount(container.requests, resource, dimension) or 0


def request_or_limit(container: Container, resource: str, dimension: Dimension) -> int:
    """Take the request; Kubernetes sets it to the limit where only that is given."""
    request = amount(container.requests, resource, dimension)
    return request if request is not None else amount(container.limits, resource, dimension) or 0


def requested(subject: Subject, resource: str, dimension: Dimension) -> int:
    """What the scheduler counts for the pod, without overhead: the pod-level request, else that of its containers."""
    own = amount(subject.pod_requests, resource, dimension)
    if own is None:
        own = amount(subject.pod_limits, resource, dimension)
    summed = effective(subject.containers, lambda c: request_or_limit(c, resource, dimension))
    return summed if own is None else max(own, summed)


def demand(subject: Subject, gpu_resource: str | None, runtime: Runtime) -> Ask:
    """
    Say what the pod needs in each dimension before any class is looked at.

    The limit where set, else the request; a pod-level limit stands for the sum of the containers' limits. Overhead is
    the pod's own, but for the runtime that the class itself brings: there the target says it, so that what the API
    server fills in later changes nothing.
    """
    needs = [0] * len(DIMENSIONS)
    for dimension, resource in ((VCPU, CPU), (MEMORY, RAM)):
        own = _compute(subject, resource, dimension)
        needs[dimension.index] = own + overhead(subject, resource, dimension, runtime)
    named = {key for container in subject.containers for key, _ in (*container.limits, *container.requests)}
    for dimension in RESERVABLE:
        if dimension.resource in named:
            needs[dimension.index] = _summed(subject, dimension.resource, dimension)
    if gpu_resource in named:
        needs[GPU_COUNT.index] = _summed(subject, gpu_resource, GPU_COUNT)
    return tuple(needs)


def _summed(subject: Subject, resource: str, dimension: Dimension) -> int:
    return effective(subject.containers, lambda container: limit_or_request(container, resource, dimension))


def _compute(subject: Subject, resource: str, dimension: Dimension) -> int:
    limit = amount(subject.pod_limits, resource, dimension)
    request = amount(subject.pod_requests, resource, dimension)
    if limit is not None:
        return max(limit, requested(subject, resource, dimension))
    return max(_summed(subject, resource, dimension), request or 0)


def overhead(subject: Subject, resource: str, dimension: Dimension, runtime: Runtime) -> int:
    """What the sandbox itself costs: as the target says for the runtime that a class brings, else as the pod says."""
    brought = runtime.runtime_class is not None and subject.runtime_class in (None, runtime.runtime_class)
    if brought:
        return runtime.overhead_cpu_m if dimension is VCPU else runtime.overhead_memory_bytes
    return amount(subject.overhead, resource, dimension) or 0


def uncovered(subject: Subject, gpu_resource: str | None) -> tuple[str, ...]:
    """Name the resources that the pod asks for and that no dimension stands for: left alone, and recorded."""
    known = {CPU, RAM, gpu_resource, *(d.resource for d in RESERVABLE)}
    return tuple(sorted({key for c in subject.containers for key, _ in (*c.requests, *c.limits) if key not in known}))

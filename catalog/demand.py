"""What a pod demands of its sandbox, summed as Kubernetes sums it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from catalog.dimension import DIMENSIONS, GPU_COUNT, MEMORY, RESERVABLE, VCPU, Ask
from catalog.pod import Kind, Subject, Texts
from catalog.quantity import parse_cpu_m, parse_integer
from catalog.target import Runtime

CPU: Final = "cpu"
RAM: Final = "memory"

COMPUTE: Final = ((VCPU, CPU), (MEMORY, RAM))
_RESOURCES: Final = (*COMPUTE, *((d, str(d.resource)) for d in RESERVABLE))

IGNORED: Final[Mapping[str, str]] = {
    "ephemeral-storage": "sizes publish no ephemeral storage: the kubelet accounts for it on each node",
}
"""Resources that no size speaks of, and why."""


def amounts(texts: Texts) -> dict[str, int]:
    """Read requests or limits as integers: CPU in millicores, everything else in its base unit."""
    return {key: parse_cpu_m(text) if key == CPU else parse_integer(text) for key, text in texts}


def amount(texts: Texts, resource: str) -> int | None:
    """Read one resource of requests or limits; None where it is not set."""
    for key, text in texts:
        if key == resource:
            return parse_cpu_m(text) if key == CPU else parse_integer(text)
    return None


def effective(asked: Iterable[tuple[Kind, Mapping[str, int]]]) -> dict[str, int]:
    """
    Sum resources over containers, in their order, as the scheduler does.

    Running containers and native sidecars add up; an init container needs what it asks beside the sidecars started
    before it; the larger of both counts.

    Source:
        component-helpers, resource.AggregateContainerRequests (KEP-753).
    """
    running, sidecars, starting = dict[str, int](), dict[str, int](), dict[str, int]()
    for kind, own in asked:
        if kind is not Kind.INIT:
            _add(running, own)
        if kind is not Kind.RUNNING:
            beside = _add(dict(sidecars), own)
            sidecars = beside if kind is Kind.SIDECAR else sidecars
            _raise(starting, beside)
    return _raise(running, starting)


def _add(total: dict[str, int], more: Mapping[str, int]) -> dict[str, int]:
    for key, number in more.items():
        total[key] = total.get(key, 0) + number
    return total


def _raise(total: dict[str, int], least: Mapping[str, int]) -> dict[str, int]:
    for key, number in least.items():
        if number > total.get(key, 0):
            total[key] = number
    return total


@dataclass(frozen=True, slots=True)
class Sums:
    """
    What a pod asks, by resource, without overhead.

    Attributes:
        needed: The limit of each container where one is set, else its request; a pod-level limit stands for the sum.
        requested: What the scheduler counts: the request, which Kubernetes sets to the limit where only that is given.
    """

    needed: Mapping[str, int]
    requested: Mapping[str, int]


def sums(subject: Subject) -> Sums:
    """
    Sum what the pod's containers and the pod itself ask.

    Source:
        kubernetes, pkg/apis/core/v1/defaults.go, defaultPodRequests: with a pod-level limit alone, the pod-level
        request is that of the containers, and the limit only where no container has one.
    """
    read = [(c.kind, amounts(c.requests), amounts(c.limits)) for c in subject.containers]
    requested = effective((kind, {**limits, **requests}) for kind, requests, limits in read)
    needed = effective((kind, {**requests, **limits}) for kind, requests, limits in read)
    if subject.pod_limits or subject.pod_requests:
        limits, requests = amounts(subject.pod_limits), amounts(subject.pod_requests)
        _raise(requested, {**{key: limit for key, limit in limits.items() if key not in requested}, **requests})
        needed |= {key: max(limit, requested[key]) for key, limit in limits.items()}
        _raise(needed, requests)
    return Sums(needed, requested)


def standing(subject: Subject) -> Sums:
    """Sum what runs for as long as the pod does: running containers and native sidecars, pod-level resources aside."""
    return sums(Subject(containers=tuple(c for c in subject.containers if c.kind is not Kind.INIT)))


def requested(subject: Subject) -> Mapping[str, int]:
    """What the scheduler counts for the pod, by resource, without overhead."""
    return sums(subject).requested


def demand(subject: Subject, gpu_resource: str | None, runtime: Runtime, *, summed: Sums | None = None) -> Ask:
    """
    Say what the pod needs in each dimension before any class is looked at.

    Overhead is the pod's own, but for the runtime that the class itself brings: there the target says it, so that what
    the API server fills in later changes nothing. *summed* is `sums` of the subject, where it is known already.
    """
    total = (summed or sums(subject)).needed
    needs = [0] * len(DIMENSIONS)
    for dimension, resource in _RESOURCES:
        needs[dimension.index] = total.get(resource, 0)
    if gpu_resource:
        needs[GPU_COUNT.index] = total.get(gpu_resource, 0)
    if subject.overhead or runtime.runtime_class:
        for resource, more in overhead(subject, runtime).items():
            needs[VCPU.index if resource == CPU else MEMORY.index] += more
    return tuple(needs)


def overhead(subject: Subject, runtime: Runtime) -> Mapping[str, int]:
    """What the sandbox itself costs: as the target says for the runtime that a class brings, else as the pod says."""
    if runtime.runtime_class is not None and subject.runtime_class in (None, runtime.runtime_class):
        return {CPU: runtime.overhead_cpu_m, RAM: runtime.overhead_memory_bytes}
    own = amounts(subject.overhead)
    return {resource: own.get(resource, 0) for resource in (CPU, RAM)}


def uncovered(subject: Subject, gpu_resource: str | None) -> tuple[str, ...]:
    """Name the resources that the pod asks for and that no dimension stands for: left alone, and recorded."""
    known = {CPU, RAM, gpu_resource, *(d.resource for d in RESERVABLE)}
    return tuple(sorted({key for c in subject.containers for key, _ in (*c.requests, *c.limits) if key not in known}))

"""What an earlier decision wrote, told apart from what others wrote since and from what was there before. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from catalog.keys import GPU_PHASE_CONTAINER
from catalog.pod import REQUIRED, Container, Subject, Texts
from catalog.quantity import QuantityError, parse_cpu_m, parse_integer
from webhook.decision import ContainerWrite, Effects

Kept = tuple[Mapping[str, Any], ...]


def take_back(now: Subject, before: Subject, old: Effects) -> Subject:
    """
    Read *now* as it would be had the earlier decision not been taken.

    A field that still is as that decision wrote it goes back to what it was before; what somebody changed since stays.
    Request and limit of one resource go back together or not at all: half of a pair could end above the other half.
    """
    written = {write.name: write for write in old.containers}
    earlier = {container.name: container for container in before.containers}
    ours = GPU_PHASE_CONTAINER if old.phase is not None and not old.phase.own else None
    our_runtime = old.runtime_class is not None and now.runtime_class == old.runtime_class
    pod_level = _pair_back(
        Container("", now.containers[0].kind, now.pod_requests, now.pod_limits),
        ContainerWrite("", old.pod_requests, old.pod_limits),
        Container("", now.containers[0].kind, before.pod_requests, before.pod_limits),
    )
    return replace(
        now,
        limits_written=_back(now.limits_written, dict(old.annotations), before.limits_written),
        containers=tuple(
            _pair_back(c, written[c.name], earlier[c.name]) if c.name in written and c.name in earlier else c
            for c in now.containers
            if c.name != ours
        ),
        pod_requests=pod_level.requests,
        pod_limits=pod_level.limits,
        overhead=before.overhead if our_runtime else now.overhead,  # the API server filled in that of our runtime
        runtime_class=before.runtime_class if our_runtime else now.runtime_class,
    )


def _pair_back(now: Container, old: ContainerWrite, before: Container) -> Container:
    """Take back the resources of which neither request nor limit says something else than was written."""
    changed = {
        resource
        for present, wrote in ((dict(now.requests), old.requests), (dict(now.limits), old.limits))
        for resource, text in wrote
        if resource in present and not same_quantity(resource, present[resource], text)
    }
    requests, limits = (
        {resource: text for resource, text in wrote if resource not in changed} for wrote in (old.requests, old.limits)
    )
    return replace(
        now,
        requests=_back(now.requests, requests, before.requests),
        limits=_back(now.limits, limits, before.limits),
        env=_back(now.env, dict(old.env), before.env),
    )


def _back(now: Texts, ours: Mapping[str, str], before: Texts) -> Texts:
    """Put back what was there before wherever *now* still says what we wrote."""
    if not ours:
        return now
    earlier = dict(before)
    kept: dict[str, str] = {}
    for key, text in now:
        if key not in ours or not same_quantity(key, text, ours[key]):
            kept[key] = text
        elif key in earlier:
            kept[key] = earlier[key]
    return tuple(sorted(kept.items()))


def same_quantity(resource: str, left: object, right: str) -> bool:
    """Tell whether two texts are the same amount: the API server rewrites quantities in its own form."""
    if left == right:
        return True
    parse = parse_cpu_m if resource == "cpu" else parse_integer
    try:
        return parse(left) == parse(right)
    except QuantityError:
        return False


def already_there(pod: Mapping[str, Any], wanted: Effects, old: Effects) -> Kept:
    """
    List the node requirements and tolerations that the pod has by itself, so that they are never taken out as ours.

    Args:
        pod: As sent.
        wanted: What a decision wants to stand there.
        old: What an earlier one wrote, which is not the pod's own.
    """
    spec = pod.get("spec") or {}
    if not (wanted.tolerations or spec.get("affinity")):
        return ()
    node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (node.get(REQUIRED) or {}).get("nodeSelectorTerms") or []
    present = [expression for term in terms for expression in term.get("matchExpressions") or ()]
    present += spec.get("tolerations") or []
    if not present:
        return ()
    ours = _things(old)
    return tuple(thing for thing in _things(wanted) if thing in present and thing not in ours)


def without(effects: Effects, kept: Kept) -> Effects:
    """Leave out what the pod had by itself: what is left was written."""
    if not kept:
        return effects
    return replace(
        effects,
        requirements=tuple(r for r in effects.requirements if r.as_expression() not in kept),
        tolerations=tuple(t for t in effects.tolerations if dict(t) not in kept),
    )


def _things(effects: Effects) -> list[dict[str, Any]]:
    return [*(r.as_expression() for r in effects.requirements), *map(dict, effects.tolerations)]

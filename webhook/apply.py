"""The pod as it shall be: effects written into it, and what an earlier decision wrote taken back. Pure.

Every function returns a new mapping that shares whatever it did not change with the one it was given.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from catalog.keys import RECORD, SIZE
from catalog.model import Requirement
from catalog.pod import Container, Subject, Texts
from catalog.quantity import QuantityError, parse_cpu_m, parse_integer
from webhook.decision import ContainerWrite, Effects

Fields = Mapping[str, Any]

NO_EFFECTS = Effects()


def take_back(now: Subject, before: Subject, old: Effects) -> Subject:
    """
    Read *now* as it would be had the earlier decision not been taken.

    A field that still is as that decision wrote it goes back to what it was before; what somebody changed since stays.
    """
    written = {write.name: write for write in old.containers}
    earlier = {container.name: container for container in before.containers}
    our_runtime = old.runtime_class is not None and now.runtime_class == old.runtime_class
    return Subject(
        keys=now.keys,
        limits_written=_back(now.limits_written, old.annotations, before.limits_written),
        containers=tuple(
            _container_back(c, written[c.name], earlier[c.name]) if c.name in written and c.name in earlier else c
            for c in now.containers
        ),
        pod_requests=_back(now.pod_requests, old.pod_requests, before.pod_requests),
        pod_limits=_back(now.pod_limits, old.pod_limits, before.pod_limits),
        overhead=before.overhead if our_runtime else now.overhead,  # the API server filled in that of our runtime
        runtime_class=before.runtime_class if our_runtime else now.runtime_class,
        claims=now.claims,
        daemonset=now.daemonset,
        bound=now.bound,
        windows=now.windows,
        mirror=now.mirror,
    )


def _container_back(now: Container, old: ContainerWrite, before: Container) -> Container:
    requests = _back(now.requests, old.requests, before.requests)
    return Container(now.name, now.kind, requests, _back(now.limits, old.limits, before.limits))


def _back(now: Texts, old: Texts, before: Texts) -> Texts:
    if not old:
        return now
    ours, earlier = dict(old), dict(before)
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


def apply(pod: Fields, effects: Effects, record: str, size: str, *, old: Effects, restored: Subject) -> Fields:
    """
    Write *effects*, record and size into *pod*.

    Args:
        old: What an earlier decision wrote; what it alone wanted is taken away again.
        restored: The pod as `take_back` read it: what old fields go back to.
    """
    metadata = pod.get("metadata") or {}
    spec = pod.get("spec") or {}
    labels = put(metadata.get("labels") or {}, SIZE, size)
    annotations = _set_annotations(metadata.get("annotations"), effects, old, record)
    if labels is not metadata.get("labels") or annotations is not metadata.get("annotations"):
        metadata = {**metadata, "labels": labels, "annotations": annotations}
    spec = put(spec, "containers", _set_containers(spec.get("containers") or [], effects, old, restored))
    spec = _set_pod_resources(spec, effects, old, restored)
    spec = _set_affinity(spec, effects.requirements, old.requirements)
    spec = _set_tolerations(spec, effects, old)
    if effects.runtime_class and not spec.get("runtimeClassName"):
        spec = put(spec, "runtimeClassName", effects.runtime_class)
    if metadata is pod.get("metadata") and spec is pod.get("spec"):
        return pod
    return {**pod, "metadata": metadata, "spec": spec}


def put(fields: Fields, key: str, value: Any) -> Fields:
    """Set one field; the same mapping where it has that very value, or an equal text, already."""
    present = fields.get(key)
    if present is value or (type(value) is str and present == value):
        return fields
    return {**fields, key: value}


def drop(fields: Fields, key: str) -> Fields:
    """Remove one field; the same mapping where it is not there."""
    return {k: v for k, v in fields.items() if k != key} if key in fields else fields


def _set_annotations(present: Fields | None, effects: Effects, old: Effects, record: str) -> Fields:
    annotations: Fields = present or {}
    wanted = {**dict(effects.annotations), RECORD: record}
    stale = [key for key, text in old.annotations if key not in wanted and annotations.get(key) == text]
    if not stale and all(annotations.get(key) == text for key, text in wanted.items()):
        return annotations
    return {**{key: text for key, text in annotations.items() if key not in stale}, **wanted}


def _set_pod_resources(spec: Fields, effects: Effects, old: Effects, restored: Subject) -> Fields:
    if not (effects.pod_requests or effects.pod_limits or old.pod_requests or old.pod_limits):
        return spec
    resources: Fields = spec.get("resources") or {}
    for kind, new, before, earlier in (
        ("requests", effects.pod_requests, old.pod_requests, restored.pod_requests),
        ("limits", effects.pod_limits, old.pod_limits, restored.pod_limits),
    ):
        resources = _set_resources(resources, kind, new, before, earlier)
    return put(spec, "resources", resources) if resources else drop(spec, "resources")


def _set_containers(
    containers: Sequence[Fields], effects: Effects, old: Effects, restored: Subject
) -> Sequence[Fields]:
    new = {write.name: write for write in effects.containers}
    before = {write.name: write for write in old.containers}
    earlier = {container.name: container for container in restored.containers}
    nothing = ContainerWrite("")

    def rewrite(container: Fields) -> Fields:
        name = str(container.get("name", ""))
        if name not in new and name not in before:
            return container
        resources: Fields = container.get("resources") or {}
        write, undo, back = new.get(name, nothing), before.get(name, nothing), earlier[name]
        resources = _set_resources(resources, "requests", write.requests, undo.requests, back.requests)
        resources = _set_resources(resources, "limits", write.limits, undo.limits, back.limits)
        return put(container, "resources", resources)

    return rewritten(containers, rewrite)


def _set_resources(resources: Fields, kind: str, new: Texts, old: Texts, restored: Texts) -> Fields:
    amounts: Fields = resources.get(kind) or {}
    wanted, earlier = dict(new), dict(restored)
    for resource, text in old:
        if resource in wanted or not same_quantity(resource, amounts.get(resource), text):
            continue
        amounts = put(amounts, resource, earlier[resource]) if resource in earlier else drop(amounts, resource)
    for resource, text in new:
        if not same_quantity(resource, amounts.get(resource), text):
            amounts = put(amounts, resource, text)
    return put(resources, kind, amounts) if amounts else drop(resources, kind)


def _set_affinity(spec: Fields, new: Sequence[Requirement], old: Sequence[Requirement]) -> Fields:
    """Add each requirement to every term, for terms are ORed; a term left empty goes, for it would match nothing."""
    if not (new or old):
        return spec
    wanted = [requirement.as_expression() for requirement in new]
    stale = [e for e in (requirement.as_expression() for requirement in old) if e not in wanted]
    affinity: Fields = spec.get("affinity") or {}
    node: Fields = affinity.get("nodeAffinity") or {}
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    required: Fields = node.get(key) or {}
    terms = list(required.get("nodeSelectorTerms") or [])
    changed = [term for term in (_set_term(term, wanted, stale) for term in terms) if term is not None]
    if wanted and not terms:
        changed = [{"matchExpressions": wanted}]
    if not changed:
        node = drop(node, key)
        affinity = put(affinity, "nodeAffinity", node) if node else drop(affinity, "nodeAffinity")
        return put(spec, "affinity", affinity) if affinity else drop(spec, "affinity")
    required = put(required, "nodeSelectorTerms", _shared(terms, changed))
    return put(spec, "affinity", put(affinity, "nodeAffinity", put(node, key, required)))


def _set_term(term: Fields, wanted: Sequence[Fields], stale: Sequence[Fields]) -> Fields | None:
    present = list(term.get("matchExpressions") or [])
    kept = [expression for expression in present if expression not in stale]
    if not present and not term.get("matchFields"):
        return term  # an empty term matches no node: adding to it would make it match some
    added = [expression for expression in wanted if expression not in kept]
    if not kept and not added:
        return drop(term, "matchExpressions") if term.get("matchFields") else None
    return put(term, "matchExpressions", _shared(present, [*kept, *added]))


def _set_tolerations(spec: Fields, effects: Effects, old: Effects) -> Fields:
    if not (effects.tolerations or old.tolerations):
        return spec
    wanted = [dict(toleration) for toleration in effects.tolerations]
    stale = [t for t in map(dict, old.tolerations) if t not in wanted]
    present = list(spec.get("tolerations") or [])
    kept = [toleration for toleration in present if toleration not in stale]
    changed = [*kept, *(toleration for toleration in wanted if toleration not in kept)]
    if changed == present:
        return spec
    return put(spec, "tolerations", changed) if changed else drop(spec, "tolerations")


def rewritten(items: Sequence[Any], rewrite: Callable[[Any], Any]) -> Sequence[Any]:
    """Rewrite each item; the same list where none changed."""
    return _shared(items, [rewrite(item) for item in items])


def _shared(before: Sequence[Any], after: list[Any]) -> Sequence[Any]:
    unchanged = len(before) == len(after) and all(old is new for old, new in zip(before, after, strict=True))
    return before if unchanged else after

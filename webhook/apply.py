"""The pod as it shall be: effects written into it, and what only an earlier decision wanted taken out. Pure.

Every function returns a new mapping that shares whatever it did not change with the one it was given.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from catalog.keys import RECORD, SIZE
from catalog.model import Requirement
from catalog.pod import REQUIRED, Subject, Texts
from webhook.decision import ContainerWrite, Effects
from webhook.phase import set_phase
from webhook.undo import same_quantity

Fields = Mapping[str, Any]

NO_EFFECTS = Effects()


def clear(pod: Fields, *, old: Effects, restored: Subject) -> Fields:
    """Take out of *pod* all that an earlier decision wrote, its record and size with it."""
    return apply(pod, NO_EFFECTS, None, None, old=old, restored=restored)


def apply(
    pod: Fields, effects: Effects, record: str | None, size: str | None, *, old: Effects, restored: Subject
) -> Fields:
    """
    Write *effects*, record and size into *pod*; a record or size of None is taken out.

    Args:
        old: What an earlier decision wrote; what it alone wanted is taken out again.
        restored: The pod as `take_back` read it: what resources go back to.
    """
    metadata = pod.get("metadata") or {}
    spec = pod.get("spec") or {}
    labels: Fields = metadata.get("labels") or {}
    labels = drop(labels, SIZE) if size is None else put(labels, SIZE, size)
    annotations = _set_annotations(metadata.get("annotations"), effects, old, record)
    if labels is not metadata.get("labels") or annotations is not metadata.get("annotations"):
        metadata = {**metadata, "labels": labels, "annotations": annotations}
    for group in ("containers", "initContainers"):
        if spec.get(group):
            containers = _set_containers(spec[group], effects, old, restored, init=group == "initContainers")
            spec = put(spec, group, _set_variables(containers, effects, old))
    spec = set_phase(spec, effects.phase, old.phase)
    spec = _set_pod_resources(spec, effects, old, restored)
    spec = _set_affinity(spec, effects.requirements, old.requirements)
    spec = _set_tolerations(spec, effects, old)
    spec = _set_runtime(spec, effects, old)
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


def _set_annotations(present: Fields | None, effects: Effects, old: Effects, record: str | None) -> Fields:
    annotations: Fields = present or {}
    wanted = dict(effects.annotations)
    if record is None:
        annotations = drop(annotations, RECORD)
    else:
        wanted[RECORD] = record
    stale = [key for key, text in old.annotations if key not in wanted and annotations.get(key) == text]
    if not stale and all(annotations.get(key) == text for key, text in wanted.items()):
        return annotations
    return {**{key: text for key, text in annotations.items() if key not in stale}, **wanted}


def _set_runtime(spec: Fields, effects: Effects, old: Effects) -> Fields:
    """Set a runtime class where there is none, or ours; with ours goes the overhead that was filled in for it."""
    present = spec.get("runtimeClassName")
    if present == effects.runtime_class or (present and present != old.runtime_class):
        return spec
    spec = drop(spec, "overhead") if present else spec
    return (
        put(spec, "runtimeClassName", effects.runtime_class)
        if effects.runtime_class
        else drop(spec, "runtimeClassName")
    )


def _set_pod_resources(spec: Fields, effects: Effects, old: Effects, restored: Subject) -> Fields:
    if not (effects.pod_requests or effects.pod_limits or old.pod_requests or old.pod_limits):
        return spec
    before: Fields = spec.get("resources") or {}
    resources = _set_resources(before, "requests", effects.pod_requests, old.pod_requests, restored.pod_requests)
    resources = _set_resources(resources, "limits", effects.pod_limits, old.pod_limits, restored.pod_limits)
    if resources is before:
        return spec
    return put(spec, "resources", resources) if resources else drop(spec, "resources")


def _set_containers(
    containers: Sequence[Fields], effects: Effects, old: Effects, restored: Subject, *, init: bool
) -> Sequence[Fields]:
    """Set resources of what runs beside the others: of init containers, of sidecars alone."""
    new = {write.name: write for write in effects.containers}
    before = {write.name: write for write in old.containers}
    earlier = {container.name: container for container in restored.containers}
    nothing = ContainerWrite("")

    def rewrite(container: Fields) -> Fields:
        name = str(container.get("name", ""))
        if (name not in new and name not in before) or (init and container.get("restartPolicy") != "Always"):
            return container
        present: Fields = container.get("resources") or {}
        write, undo, back = new.get(name, nothing), before.get(name, nothing), earlier[name]
        resources = _set_resources(present, "requests", write.requests, undo.requests, back.requests)
        resources = _set_resources(resources, "limits", write.limits, undo.limits, back.limits)
        if resources is present:
            return container
        return put(container, "resources", resources) if resources else drop(container, "resources")

    return rewritten(containers, rewrite)


def _set_variables(containers: Sequence[Fields], effects: Effects, old: Effects) -> Sequence[Fields]:
    """Set variables of all containers that have a write of them, init containers too."""
    new = {write.name: write.env for write in effects.containers if write.env}
    before = {write.name: write.env for write in old.containers if write.env}
    if not new and not before:
        return containers

    def rewrite(container: Fields) -> Fields:
        name = str(container.get("name", ""))
        return _set_env(container, new.get(name, ()), before.get(name, ()))

    return rewritten(containers, rewrite)


def _set_env(container: Fields, new: Texts, old: Texts) -> Fields:
    """Add variables that are not there; one that *old* alone wanted goes, unless another gave it a value since."""
    wanted = {name: {"name": name, "value": text} for name, text in new}
    stale = [{"name": name, "value": text} for name, text in old if name not in wanted]
    present = list(container.get("env") or [])
    kept = [variable for variable in present if variable not in stale]
    names = [variable.get("name") for variable in kept]
    changed = [*kept, *(variable for name, variable in wanted.items() if name not in names)]
    if len(changed) == len(present) == len(kept):
        return container
    return put(container, "env", changed) if changed else drop(container, "env")


def _set_resources(resources: Fields, kind: str, new: Texts, old: Texts, restored: Texts) -> Fields:
    """Set *new* amounts; what *old* alone wanted goes back to what was *restored*."""
    before: Fields = resources.get(kind) or {}
    amounts, wanted, earlier = before, dict(new), dict(restored)
    for resource, _ in old:
        if resource not in wanted and resource not in earlier:
            amounts = drop(amounts, resource)
        elif resource not in wanted:
            wanted[resource] = earlier[resource]
    for resource, text in wanted.items():
        if not same_quantity(resource, amounts.get(resource), text):
            amounts = put(amounts, resource, text)
    if amounts is before:
        return resources
    return put(resources, kind, amounts) if amounts else drop(resources, kind)


def _set_affinity(spec: Fields, new: Sequence[Requirement], old: Sequence[Requirement]) -> Fields:
    """Add each requirement to every term, for terms are ORed; a term left empty goes, for it would match nothing."""
    if not (new or old):
        return spec
    wanted = [requirement.as_expression() for requirement in new]
    stale = [e for e in (requirement.as_expression() for requirement in old) if e not in wanted]
    affinity: Fields = spec.get("affinity") or {}
    node: Fields = affinity.get("nodeAffinity") or {}
    required: Fields = node.get(REQUIRED) or {}
    terms = list(required.get("nodeSelectorTerms") or [])
    if not (wanted or terms):
        return spec
    changed = [term for term in (_set_term(term, wanted, stale) for term in terms) if term is not None]
    if wanted and not terms:
        changed = [{"matchExpressions": wanted}]
    if not changed:
        node = drop(node, REQUIRED)
        affinity = put(affinity, "nodeAffinity", node) if node else drop(affinity, "nodeAffinity")
        return put(spec, "affinity", affinity) if affinity else drop(spec, "affinity")
    required = put(required, "nodeSelectorTerms", _shared(terms, changed))
    return put(spec, "affinity", put(affinity, "nodeAffinity", put(node, REQUIRED, required)))


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

"""`/validate`: is what `/mutate` promised still so. Pure.

A resize of a sized pod beyond its size is refused; and, in clusters whose mutating webhook fails open, a new pod that
slipped past it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, Final

from catalog.demand import demand
from catalog.dimension import MEMORY, VCPU, Ask, Figures
from catalog.fit import Index
from catalog.keys import RECORD, SIZE
from catalog.pod import PodError, read_pod
from webhook.admit import Serving, Sized, admit
from webhook.decide import Labels
from webhook.decision import Reason
from webhook.mutate import NOT_OURS, refuse, respond
from webhook.patch import Operation, escape
from webhook.review import Response, Review

_NOTES: Final = {"/metadata/annotations": RECORD, "/metadata/labels": SIZE}
_SHOWN_FIELDS: Final = 3


def validate(review: Review, namespace_labels: Labels, serving: Serving, today: date) -> Response:
    """Answer a pod that is created, or resized; everything else passes."""
    if review.operation == "CREATE" and review.is_of_pod():
        return _validate_created(review, namespace_labels, serving, today)
    if review.operation == "UPDATE" and review.is_of_pod("resize"):
        return _validate_resize(review, serving)
    return NOT_OURS


def _validate_created(review: Review, namespace_labels: Labels, serving: Serving, today: date) -> Response:
    answer = admit(review.object, namespace_labels, serving, today)
    response = replace(respond(answer, serving), patch=())
    if not isinstance(answer, Sized):
        return response
    missing = tuple(unmade(answer.patch)) or _wrong_label(review.object, answer)
    if not missing:
        return response
    fields = ", ".join(missing[:_SHOWN_FIELDS]) + (", …" if len(missing) > _SHOWN_FIELDS else "")
    name, size = answer.place.sla_class.name, answer.place.choice.size.name
    message = f"the pod asks for class {name!r} and does not carry what size {size!r} writes ({fields})"
    why = "the mutating webhook did not run, or another one overwrote it"
    return refuse(Reason.NOT_SIZED, f"{message}: {why}; create the pod again", serving.index.catalog.revision)


def _wrong_label(pod: Mapping[str, Any], answer: Sized) -> tuple[str, ...]:
    """Name the size label where it says another size than the pod has; absent, it is a note that nobody wrote."""
    return () if _size_of(pod) in (None, answer.place.choice.size.name) else ("the label " + SIZE,)


def unmade(patch: Sequence[Operation]) -> Iterator[str]:
    """Name the fields that a patch would still change, but for our own notes: the record and the size label."""
    notes = {f"{path}/{escape(key)}" for path, key in _NOTES.items()}
    for operation in patch:
        path, value = operation["path"], operation.get("value")
        if operation["op"] == "test" or path in notes:
            continue
        if path in _NOTES and isinstance(value, Mapping):
            yield from (f"{path}/{escape(key)}" for key in value if key != _NOTES[path])
        else:
            yield path


def _validate_resize(review: Review, serving: Serving) -> Response:
    """Judge a resize: what the pod demands anew must stay within what its size offers, or must not grow."""
    name = _size_of(review.old_object) or _size_of(review.object)
    if name is None:
        return NOT_OURS
    index = serving.index
    offer = next((o for s, o in zip(index.catalog.sizes, index.offers, strict=True) if s.name == name), None)
    if offer is None:
        return Response(
            warnings=(f"size {name} of this pod is no longer known, so the resize was not checked against it",),
            size=name,
            revision=index.catalog.revision,
        )
    try:
        before, after = _needs(review.old_object, index), _needs(review.object, index)
    except PodError as error:
        message = f"{error}; the API server would refuse it too"
        return refuse(Reason.INVALID_POD, message, index.catalog.revision)
    beyond = "; ".join(_beyond(before, after, offer))
    if beyond:
        message = f"the resize asks more than size {name!r} of this pod offers: {beyond}"
        advice = "stay within it, or create a new pod with larger limits to get a larger size"
        return refuse(Reason.BEYOND_SIZE, f"{message}; {advice}", index.catalog.revision)
    return Response(size=name, revision=index.catalog.revision)


def _size_of(pod: Mapping[str, Any]) -> str | None:
    metadata = pod.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    name = labels.get(SIZE) if isinstance(labels, Mapping) else None
    return name if isinstance(name, str) else None


def _needs(pod: Mapping[str, Any], index: Index) -> Ask:
    subject = read_pod(pod)
    runtime = index.target.runtime_of_class(subject.runtime_class)  # so that overhead is what it was at the decision
    return demand(subject, None, runtime)


def _beyond(before: Ask, after: Ask, offer: Figures) -> Iterator[str]:
    for dimension in (VCPU, MEMORY):
        old, new, have = before[dimension.index], after[dimension.index], offer[dimension.index] or 0
        if new > have and new > old:
            yield f"{dimension} {dimension.render(new)}, and it offers {dimension.render(have)}"

"""`/templates`: what the pods of a workload will get, said to whoever applies it. Pure; it never changes anything.

Pods are made by controllers, so a refused pod shows in an event that few people read. The same decision on the pod
template is answered here as warnings, where the developer types.
"""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from typing import Any, Final

from catalog.demand import CPU, requested
from catalog.keys import DEFAULT_CLASS, DOMAIN, ENFORCE_TEMPLATES
from catalog.pod import read_pod
from catalog.problems import render_path
from catalog.quantity import render_cpu_m
from webhook.admit import Serving, Sized, admit
from webhook.decide import Labels
from webhook.decision import MAX_WARNING_CHARACTERS, Deny
from webhook.mutate import NOT_OURS, respond
from webhook.review import Response, Review, printable
from webhook.workloads import Path, PodTemplate, claim_templates, pod_template, value_at

MAX_LINES: Final = 12  # of one refusal; the API server cuts once all warnings together pass 4096 characters
_GROUPS: Final = ("annotations", "labels")


def judge_template(review: Review, namespace_labels: Labels, serving: Serving, today: date) -> Response:
    """
    Say what the pods of a workload will get.

    It refuses only where the namespace asks for that, and never an update that leaves the template as it is: a workload
    that cannot be had any more can still be scaled down, labelled and deleted.
    """
    if review.operation not in ("CREATE", "UPDATE") or review.subresource:
        return NOT_OURS
    found, before = _template(review, review.object), _template(review, review.old_object)
    if found is None or _is_owned(review.object):
        return NOT_OURS
    strays = tuple(misplaced(review.object, found.path))
    if before == found and strays == tuple(misplaced(review.old_object, found.path)):
        return NOT_OURS  # said when it was written; status, scale and finalizers change many times a minute
    if not (_has_keys(found.template) or DEFAULT_CLASS in namespace_labels):
        return Response(warnings=strays)
    daemonset = review.kind == "DaemonSet"
    claims = claim_templates({**review.object, "kind": review.kind})
    answer = admit(found.template, namespace_labels, serving, today, of_daemonset=daemonset, claims=claims)
    response = replace(respond(answer, serving), patch=())
    if isinstance(answer, Sized):
        return replace(response, warnings=(*strays, *_told(answer, found), *answer.warnings))
    if not isinstance(answer, Deny):
        return replace(response, warnings=strays)
    changed = before is None or before.template != found.template
    if changed and namespace_labels.get(ENFORCE_TEMPLATES) == "true":
        return replace(response, warnings=strays)
    coming = wrap(f"podsla will refuse these pods ({answer.reason}): {answer.message}")
    return replace(response, allowed=True, message="", warnings=(*strays, *coming))


def _template(review: Review, document: Mapping[str, Any]) -> PodTemplate | None:
    """Find the template of a workload; a bare pod is none, since `/mutate` answers it."""
    found = pod_template({**document, "kind": review.kind})
    return found if found is not None and found.path else None


def _is_owned(document: Mapping[str, Any]) -> bool:
    """Tell whether a controller made the workload: whoever wrote the owner was told then."""
    owners = value_at(document, ("metadata", "ownerReferences"))
    return isinstance(owners, list) and any(isinstance(o, Mapping) and o.get("controller") is True for o in owners)


def _has_keys(template: Mapping[str, Any]) -> bool:
    return any(True for _ in _keys(template))


def _keys(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """List the keys of ours in the metadata of *fields*, with the group they stand in."""
    for group in _GROUPS:
        written = value_at(fields, ("metadata", group))
        if isinstance(written, Mapping):
            yield from ((group, key) for key in written if str(key).startswith(DOMAIN))


def misplaced(document: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Warn of keys that stand above the pod template at *path*, where nobody reads them."""
    right = render_path((*path, "metadata", "annotations"))
    for length in range(len(path)):
        level = path[:length]
        for group, key in _keys(value_at(document, level) or {}):
            wrong = render_path((*level, "metadata", group))
            yield from wrap(f"{key} in {wrong} has no effect; move it to {right}")


def _told(sized: Sized, found: PodTemplate) -> Iterator[str]:
    """Say the size, what it costs, and what an autoscaler will see."""
    size, name = sized.place.choice.size, sized.place.sla_class.name
    cost = _cost(size.cost_m)
    if found.replicas is None:
        total = f"cost {cost} on each node"
    else:
        pods = "1 pod" if found.replicas == 1 else f"{found.replicas} pods"
        total = f"cost {cost} each, {_cost(found.replicas * size.cost_m)} for {pods}"
    yield from wrap(f"podsla: class {name} gets size {size.name}, {total}")
    before = requested(read_pod(found.template)).get(CPU, 0)
    after = requested(read_pod(sized.pod)).get(CPU, 0)
    if after > before:
        raised = f"CPU request rises from {render_cpu_m(before)} to {render_cpu_m(after)} a pod"
        yield from wrap(f"podsla: {raised}; an HPA on CPU utilisation measures against that")


def _cost(thousandths: int) -> str:
    whole, part = divmod(thousandths, 1000)
    return f"{whole}.{part:03}".rstrip("0") if part else str(whole)


def wrap(text: str) -> tuple[str, ...]:
    """Break a text into warnings that the API server shows whole."""
    return tuple(
        textwrap.wrap(
            printable(text), MAX_WARNING_CHARACTERS, max_lines=MAX_LINES, placeholder=" …", break_on_hyphens=False
        )
    )

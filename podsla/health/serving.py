"""Is what is written also served, and can nodes hold what classes promise. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from catalog.accept import Memo
from catalog.dimension import BY_PATH, Figures, render
from catalog.fit import Index, compile_index
from catalog.keys import CLASS, DEFAULT_CLASS, DOMAIN, ENFORCE_TEMPLATES, WARM_GPUS
from catalog.load import DEFAULT_TARGET, load_target
from catalog.model import SlaClass
from catalog.problems import InvalidError, close, nearest
from catalog.quantity import parse_integer
from catalog.served import TARGET_CONFIG_MAP, TARGET_KEY, Served, build, find_accepted
from catalog.target_reader import read_target
from catalog.yamltext import parse_documents
from nodes.bound import RESOURCES, Bound, by_node, keep_promises, read_bound
from nodes.capacity import NodePatch, plan, size_of
from nodes.placement import Lack, Missing, Place, judge, read_needs, read_places
from nodes.proposals import by_type
from nodes.standing import by_class, first_short
from nodes.unsized import read_unsized
from nodes.usage import NodeUsage, read_amounts, render_amount, usage
from podsla.health.findings import Finding, Object, Reason, Snapshot, error, some, warning
from podsla.summary import counted
from webhook.admit import Serving, Sized, admit
from webhook.decision import Deny
from webhook.decision import Reason as Refusal

_PASSING: Final = "node.kubernetes.io/"  # taints that come and go by themselves
_ON_NAMESPACES: Final = (DEFAULT_CLASS, ENFORCE_TEMPLATES, WARM_GPUS)
_SURELY_MEANT: Final = 0.9  # how alike a key of another domain has to be: podsla/default-class, posdla.io/default-class


def check_serving(found: Snapshot) -> Iterator[Finding]:
    """Judge catalogues, target, nodes, classes, namespaces and pods; nothing where what serves cannot be known."""
    if found.hidden & {"catalogues", "controller revisions"}:
        return
    yield from _catalogs(found.catalogs)
    accepted = find_accepted(found.catalogs, found.revisions, found.runtime_classes)
    if accepted is None:
        message = f"a revision that a catalogue's status names is not in {found.home}: a replica that starts serves "
        advice = "nothing; write the catalogue again: podsla catalog apply"
        yield error(Reason.REVISION_MISSING, "ControllerRevisions", message + advice)
        return
    if "config maps" not in found.hidden:
        yield from _target(found.target, accepted.target)
    try:
        served = build(accepted, load_target(DEFAULT_TARGET), Memo())
    except InvalidError as problem:
        message = f"what was accepted of it cannot be read by this podsla: {problem.problems[0]}; upgrade podsla"
        yield error(Reason.TARGET_REFUSED, f"ConfigMap/{TARGET_CONFIG_MAP}", message)
        return
    for line in served.problems:
        yield error(Reason.CATALOGS_MISFIT, "served catalogues", f"{line}; pods of these classes are refused")
    bound = list(read_bound(map(keep_promises, found.pods)))
    if "nodes" not in found.hidden:
        yield from _nodes(found, bound, served)
    index = compile_index(served.catalog, served.target)
    yield from _classes(found, index)
    yield from _namespaces(found, index)
    yield from _pods(found.pods, bound, served)


def _catalogs(catalogs: Sequence[Object]) -> Iterator[Finding]:
    if not catalogs:
        message = "none is published, so every pod with a class is refused: podsla catalog apply ecs classes"
        yield error(Reason.NO_CATALOG, "SpecCatalogs", message)
    for thing in catalogs:
        metadata, status = thing["metadata"], thing.get("status") or {}
        subject = f"SpecCatalog/{metadata['name']}"
        conditions: Mapping[str, Any] = {c["type"]: c for c in status.get("conditions") or ()}
        condition, followed = conditions.get("Accepted", {}), conditions.get("Followed", {})
        judged, written = status.get("observedGeneration") or 0, metadata.get("generation") or 0
        if judged < written:
            message = f"generation {written} is not judged, {judged} was the last; is a controller running?"
            yield warning(Reason.CATALOG_NOT_JUDGED, subject, message)
        elif condition.get("status") != "True":
            make = warning if status.get("serving") else error
            advice = (
                f"podsla catalog rollback {metadata['name']} puts back what serves" if status.get("serving") else ""
            )
            told = f"{condition.get('reason')}: {condition.get('message')}"
            yield make(Reason.CATALOG_REFUSED, subject, "; ".join(filter(None, (told, advice))))
        if followed.get("status") == "False":
            yield warning(Reason.NODES_HELD, subject, f"{followed.get('message')}; it ends as these pods leave")


def _target(config_map: Object | None, accepted: tuple[int, str] | None) -> Iterator[Finding]:
    text = ((config_map or {}).get("data") or {}).get(TARGET_KEY)
    if config_map is None or (accepted and text == accepted[1]):
        return
    subject = f"ConfigMap/{TARGET_CONFIG_MAP}"
    serves = f"revision {accepted[0]} serves on" if accepted else "the shipped target serves"
    if text is None:
        yield warning(Reason.TARGET_REFUSED, subject, f"has no key {TARGET_KEY}, and {serves}; add it")
        return
    try:
        read_target(parse_documents(text, subject))
    except InvalidError as problem:
        yield warning(Reason.TARGET_REFUSED, subject, f"{problem.problems[0]}; {serves}; correct it")
    else:
        message = f"the newest edit is not taken over, and {serves}; is a controller running?"
        yield warning(Reason.TARGET_NOT_JUDGED, subject, message)


def _nodes(found: Snapshot, bound: Sequence[Bound], served: Served) -> Iterator[Finding]:
    sizes = {size.name: size for size in served.catalog.sizes}
    unknown: dict[str, list[str]] = {}
    wrong: dict[str, list[str]] = {}
    hidden = "pods" in found.hidden  # then nobody knows what is published for their sake
    due = plan(found.nodes, served.catalog, served.target, by_node(bound))
    patches = {patch.node: patch for patch in due.patches if not (hidden and patch.takes)}
    for node in found.nodes:
        name, size = node["metadata"]["name"], size_of(node)
        if size is None or (size in sizes and not served.target.has(sizes[size])):
            continue
        if size not in sizes:
            unknown.setdefault(size, []).append(name)
        elif name in patches and (said := _differs(node, patches[name])):
            wrong.setdefault(said, []).append(name)
    for name, nodes in sorted(unknown.items()) if sizes else ():
        message = (
            f"{some(nodes)} are of this type, and no catalogue has it, so they offer nothing; {nearest(name, sizes)}"
        )
        yield warning(Reason.UNKNOWN_NODE_TYPE, f"type {name}", message)
    for missing, nodes in sorted(wrong.items()):
        message = f"{some(nodes)} publish {missing}; is a controller running, and does nothing else write there?"
        yield error(Reason.NODE_NOT_PUBLISHED, counted(len(nodes), "node"), message)
    for used in usage(found.nodes, found.pods):
        for resource in sorted(RESOURCES & used.promised.keys()):
            if used.over(resource):
                promised, whole = (render_amount(resource, each.get(resource, 0)) for each in _figures(used))
                message = f"{resource}: {promised} is promised, and it has {whole}; it ends as pods leave"
                yield warning(Reason.NODE_OVER_PROMISED, f"Node/{used.node}", message)


def _figures(used: NodeUsage) -> tuple[Mapping[str, int], Mapping[str, int]]:
    return used.promised, used.allocatable


def _differs(node: Object, patch: NodePatch) -> str:
    """Say what a node publishes otherwise than its size offers, and than its pods were promised."""
    status, labels = node.get("status") or {}, node["metadata"].get("labels") or {}
    if "cpu" not in (status.get("capacity") or {}):
        return ""  # it is not up
    have = read_amounts(status.get("allocatable") or {})
    figures = sorted({**patch.capacity, **patch.allocatable}.items())
    return ", ".join(
        [_label(key, labels.get(key), text) for key, text in sorted(patch.labels.items())]
        + [_figure(resource, have.get(resource), text) for resource, text in figures]
    )


def _label(key: str, there: str | None, offered: str | None) -> str:
    if there is None:
        return f"no label {key}"
    return f"label {key}={there}, " + (f"and {offered} is offered" if offered else "and nothing offers it")


def _figure(resource: str, there: int | None, offered: str | None) -> str:
    if there is None:
        return f"no {resource}"
    has, figure = render_amount(resource, there), parse_integer(offered or "0")
    return f"{has} {resource} " + (f"of {offered}" if there < figure else f"where {offered or 'nothing'} is offered")


def _classes(found: Snapshot, index: Index) -> Iterator[Finding]:
    empty = _empty(found.nodes)
    for name, sla_class in index.catalog.classes.items():
        probe = {
            "metadata": {"name": "probe", "annotations": {CLASS: name}},
            "spec": {"containers": [{"name": "probe", "image": "probe"}]},
        }
        answer = admit(probe, open_labels(sla_class), Serving(index), found.now.date())
        subject = f"class {name}"
        if isinstance(answer, Deny) and answer.reason is not Refusal.CLASS_RETIRED:
            yield error(Reason.CLASS_REFUSES_ALL, subject, f"{answer.reason}: {answer.message}")
        if isinstance(answer, Sized) and empty:
            verdicts = judge(read_needs(answer.pod), empty)
            if not any(verdict.fits for verdict in verdicts):
                lacks = by_type(verdicts)
                best = [_told(row.best) for row in lacks if row.node_type == lacks[0].node_type]
                message = f"none of {len(empty)} nodes can hold a pod of it, even empty; {lacks[0].node_type} comes "
                advice = f"nearest and lacks {', '.join(best)}: add nodes of a size that serves it, or label these"
                yield warning(Reason.CLASS_FITS_NO_NODE, subject, message + advice)


def _empty(nodes: Sequence[Object]) -> list[Place]:
    """Read nodes as if no pod were on them, and without what comes and goes."""
    bare = [{**node, "spec": {"taints": _lasting(node)}} for node in nodes]
    return list(read_places(bare, usage(bare, ())))


def _lasting(node: Object) -> list[Mapping[str, Any]]:
    taints = (node.get("spec") or {}).get("taints") or ()
    return [taint for taint in taints if not str(taint.get("key", "")).startswith(_PASSING)]


def _told(missing: Missing) -> str:
    if missing.asked:
        asked, have = (render_amount(missing.what, each) for each in (missing.asked, missing.allocatable))
        return f"{missing.what} ({have} of {asked})"
    if missing.lack is Lack.LABEL:
        return f"{missing.what} {missing.wanted} (has {missing.found or 'none'})"
    return missing.what


def open_labels(sla_class: SlaClass) -> dict[str, str]:
    """Make labels of a namespace that may use the class."""
    wanted = [r for r in sla_class.namespaces or () if r.operator in ("In", "Exists")]
    return {r.key: r.values[0] if r.values else "" for r in wanted}


def _namespaces(found: Snapshot, index: Index) -> Iterator[Finding]:
    """Judge what namespaces say to podsla: keys that it does not know, and a default class that a pod cannot have."""
    asked = {r.key for sla_class in index.catalog.classes.values() for r in sla_class.namespaces or ()}
    for namespace in found.namespaces:
        metadata = namespace["metadata"]
        labels, subject = metadata.get("labels") or {}, f"Namespace/{metadata['name']}"
        ignored = [
            *(_ignored_label(key, value) for key, value in labels.items() if key not in asked),
            *(_ignored_annotation(key) for key in metadata.get("annotations") or ()),
        ]
        for message in filter(None, ignored):
            yield warning(Reason.NAMESPACE_KEY_IGNORED, subject, message)
        if DEFAULT_CLASS not in labels:
            continue
        probe = {"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "probe", "image": "probe"}]}}
        answer = admit(probe, labels, Serving(index), found.now.date())
        if isinstance(answer, Deny):
            message = f"{DEFAULT_CLASS}={labels[DEFAULT_CLASS]}, and every pod is refused: {answer.message}"
            yield error(Reason.DEFAULT_CLASS_UNUSABLE, subject, message)


def _ignored_label(key: str, value: str) -> str:
    if key == ENFORCE_TEMPLATES and value not in ("true", "false"):
        return f"the label {key} is {value!r} and has no effect; write true or false"
    if key in _ON_NAMESPACES or not _meant_for_us(key):
        return ""
    return f"the label {key} has no effect on a namespace; {nearest(key, _ON_NAMESPACES)}"


def _ignored_annotation(key: str) -> str:
    if not _meant_for_us(key):
        return ""
    if key in _ON_NAMESPACES:
        return f"{key} is an annotation here and has no effect; make it a label"
    return f"the annotation {key} has no effect on a namespace, where labels count; {nearest(key, _ON_NAMESPACES)}"


def _meant_for_us(key: str) -> bool:
    """Tell whether a key is podsla's own, or so near that it must have been meant to be."""
    return key.startswith(DOMAIN) or bool(close(key, _ON_NAMESPACES, alike=_SURELY_MEANT))


def _pods(pods: Sequence[Object], bound: Sequence[Bound], served: Served) -> Iterator[Finding]:
    unsized = [one.pod for one in read_unsized(pods)]
    if unsized:
        message = f"{some(unsized)} name a class and were created without podsla; delete them to have them created anew"
        yield warning(Reason.POD_NOT_SIZED, counted(len(unsized), "pod"), message)
    offers = {size.name: served.target.offer(size) for size in served.catalog.sizes}
    for name, users in by_class(bound).items():
        misfits = sorted((one.pod, lost) for one in users if (lost := _lost(one, offers.get(one.size))))
        if misfits:
            told = some([f"{pod} ({lost})" for pod, lost in misfits])
            namespace, _, first = misfits[0][0].partition("/")
            message = f"{len(misfits)} of {len(users)} pods were promised what is not offered any more: {told}; "
            advice = f"they run on; `podsla explain pod {first} -n {namespace}` says what a new one would get"
            yield warning(Reason.PODS_MISFIT, f"class {name}", message + advice)


def _lost(one: Bound, offer: Figures | None) -> str:
    """Say what a pod was promised that its size does not offer any more; "" where it offers all of it."""
    if offer is None:
        return f"size {one.size} is gone"
    path = first_short(offer, one.kept)
    if path is None:
        return ""
    dimension = BY_PATH[path]
    return f"{path}: {one.kept[path]} kept, {one.size} offers {render(dimension, offer[dimension.index])}"

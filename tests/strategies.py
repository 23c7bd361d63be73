"""Generated input, and independent oracles to judge what became of it.

The oracles share no code with the product: they read quantities with the Kubernetes client and follow Kubernetes'
own algorithms as they are published.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any, Final, TypeAlias, cast

from hypothesis import strategies as st
from kubernetes.utils import quantity as client

from catalog.dimension import DIMENSIONS, GPU_COUNT, MEMORY, TUNABLE, VCPU, Ask, lacking
from catalog.fit import Index
from catalog.load import load_target
from catalog.model import Catalog, ClassGpu, Reserve, SandboxSize, SizeFilter, SizeGpu, SlaClass
from catalog.reader import make_catalog
from catalog.target import Resources, Target

Json: TypeAlias = Any
Pod: TypeAlias = dict[str, Any]

TODAY: Final = date(2026, 11, 23)
GIB: Final = 1 << 30
TARGETS: Final = ("ack-eci", "calico", "koordinator", "kubernetes")

RECORD: Final = "podsla.io/record"
OUR_ANNOTATIONS: Final = (
    RECORD,
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
    "k8s.aliyun.com/eci-use-specs",
    "karpenter.sh/do-not-disrupt",
    "koordinator.sh/blkioQOS",
    "kubernetes.io/egress-bandwidth",
    "kubernetes.io/ingress-bandwidth",
    "qos.projectcalico.org/egressPacketRate",
    "qos.projectcalico.org/ingressPacketRate",
)
EXTENDED: Final = (
    "podsla.io/pps",
    "podsla.io/network-bits-per-second",
    "podsla.io/disk-iops",
    "podsla.io/disk-bytes-per-second",
    "podsla.io/gpu-seats",
    "nvidia.com/gpu",
)

# --- values -----------------------------------------------------------------------------------------------------------

_leaves = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, 1.0, -0.0, 1e300]) | st.text(max_size=3)
)
_keys = st.text(st.sampled_from("ab~/-01."), max_size=3)
json_values: st.SearchStrategy[Json] = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4), max_leaves=12
)


@cache
def targets() -> Mapping[str, Target]:
    """Every shipped target, and `kubernetes` with a list of node types, and with resources on containers."""
    shipped = {name: load_target(name) for name in TARGETS}
    kubernetes = shipped["kubernetes"]
    listed = replace(kubernetes, name="listed", node_types=("fam0", "fam1.s3"))
    return {**shipped, "listed": listed, "containers": replace(kubernetes, resources=Resources.CONTAINERS)}


def quantity_texts(value: int, *, cpu: bool = False) -> list[Json]:
    """Write one amount (CPU in millicores) in several forms that the API server takes."""
    if cpu:
        whole: list[Json] = [value // 1000, str(value // 1000), f"{value // 1000}.0"] if value % 1000 == 0 else []
        return [f"{value}m", *whole, f"{value}000u"]
    binary = [f"{value >> 20}Mi"] if value % (1 << 20) == 0 else []
    return [str(value), value, *binary, f"{value}e0"]


@st.composite
def quantities(draw: st.DrawFn) -> tuple[str, Decimal]:
    """Draw the text of a quantity and its exact value."""
    whole, part = draw(st.integers(0, 8 * 10**6)), draw(st.none() | st.text("0123456789", min_size=1, max_size=4))
    suffix = draw(st.sampled_from(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e0", "e3", "E2", "e-2", "e+1"]))
    number = Decimal(f"{whole}.{part}" if part else whole)
    text = f"{draw(st.sampled_from(['', '+']))}{whole}{'.' + part if part else ''}{suffix}"
    if suffix[:1] in ("e", "E"):
        return text, number.scaleb(int(suffix[1:]))
    return text, number * _SCALE[suffix]


_SCALE: Final = {
    "": Decimal(1),
    **{s: Decimal(10) ** p for s, p in (("n", -9), ("u", -6), ("m", -3), ("k", 3), ("M", 6), ("G", 9))},
    **{s: Decimal(1 << p) for s, p in (("Ki", 10), ("Mi", 20), ("Gi", 30))},
}

# --- catalogues -------------------------------------------------------------------------------------------------------

_VCPU = [1000, 2000, 4000, 8000, 16000]
_MEMORY = [2 * GIB, 4 * GIB, 8 * GIB, 16 * GIB, 64 * GIB]
_FIGURES: Final[Mapping[int, Sequence[int]]] = {
    VCPU.index: _VCPU,
    MEMORY.index: _MEMORY,
    2: [2500, 2700, 3300],
    3: [300_000, 600_000, 1_000_000, 2_500_001],
    4: [2, 4, 8],
    5: [10**9, 2 * 10**9, 10**10],
    6: [10_000, 20_000, 60_000],
    7: [10**8, 187_500_000, 4 * 10**8],
}


@st.composite
def sizes(draw: st.DrawFn, name: str = "fam0.s0") -> SandboxSize:
    """Draw a size; every figure but vCPU and memory may be blank."""
    figures: list[int | None] = []
    for dimension in DIMENSIONS:
        known = _FIGURES.get(dimension.index)
        value = st.none() if known is None else st.sampled_from(known)
        figures.append(draw(value if dimension in (VCPU, MEMORY) else st.none() | value))
    gpu = draw(st.sampled_from([None, None, None, SizeGpu("T4"), SizeGpu("A10")]))
    figures[GPU_COUNT.index] = draw(st.integers(1, 4)) if gpu else None
    cost = draw(st.sampled_from([figures[VCPU.index], 1500, 4000]))
    generation = draw(st.sampled_from([None, 6, 7]))
    return SandboxSize(name, name.partition(".")[0], generation, tuple(figures), cast(int, cost), gpu)


GIANT: Final = SandboxSize(
    "fam0.s0", "fam0", 7, (64_000, 256 * GIB, 3500, 10**7, 16, 10**11, 10**6, 10**9, 8), 100_000, SizeGpu("T4")
)
"""Beside every drawn size, so that most drawn pods get one."""


@st.composite
def sla_classes(draw: st.DrawFn, name: str, names: Sequence[str], *, fallback: tuple[str, ...] = ()) -> SlaClass:
    """Draw a class over sizes of these names."""
    floor = [0] * len(DIMENSIONS)
    for index in draw(st.sets(st.sampled_from(sorted(_FIGURES)), max_size=3)):
        floor[index] = draw(st.sampled_from(_FIGURES[index][:3])) // draw(st.sampled_from([1, 1, 3]))
    gpu = draw(st.sampled_from([None, None, None, ClassGpu(("T4",)), ClassGpu((), 2), ClassGpu(("T4", "A10"))]))
    listed = draw(st.sampled_from([(), (), tuple(names[:2]), (names[0], *names[2:])]))
    families = draw(st.sampled_from([(), (), ("fam0",)]))
    return SlaClass(
        name=name,
        catalog="drawn",
        floor=tuple(floor),
        sizes=SizeFilter(frozenset(families), frozenset(listed), draw(st.sampled_from([None, None, 7]))),
        reserve=draw(st.sampled_from([None, Reserve.ASK, Reserve.SIZE])),
        runtime=draw(st.sampled_from([None, None, None, None, "runc", "rund"])),
        tolerations=draw(st.sampled_from([(), ((("key", "edge"), ("operator", "Exists")),)])),
        tunable=tuple((d, None) for d in TUNABLE),
        best_effort=draw(st.sampled_from([(), TUNABLE])),
        fallback=fallback,
        gpu=gpu,
    )


@st.composite
def catalogs(draw: st.DrawFn, *, fallbacks: bool = True, most: int = 8) -> Catalog:
    """Draw a small catalogue: a few sizes of two families, one that holds nearly everything, three classes."""
    names = [f"fam{number % 2}.s{number}" for number in range(draw(st.integers(1, most)))]
    drawn = [GIANT, *(draw(sizes(name)) for name in names[1:])]
    back = draw(st.sampled_from([(), ("c1",), ("c2", "c1")])) if fallbacks else ()
    first = draw(sla_classes("c0", names, fallback=back))
    return make_catalog(drawn, [first, draw(sla_classes("c1", names)), draw(sla_classes("c2", names))])


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """Draw what is asked in each dimension: at, just below and just above figures that sizes have."""
    found = [0] * len(DIMENSIONS)
    for index in draw(st.sets(st.sampled_from([*_FIGURES, GPU_COUNT.index]), max_size=5)):
        found[index] = max(0, draw(st.sampled_from(_FIGURES.get(index, [1, 2]))) + draw(st.integers(-1, 1)))
    return tuple(found)


# --- pods -------------------------------------------------------------------------------------------------------------

_CPUS = [100, 250, 500, 1000, 1500, 2000, 3000]
_MEMORIES = [64 << 20, 512 << 20, GIB, GIB + 1, 3 * GIB]


@st.composite
def resources(draw: st.DrawFn, *, guaranteed: bool = False) -> Mapping[str, Json]:
    """Draw requests and limits that the API server takes: no request above its limit."""
    found: dict[str, dict[str, Json]] = {"requests": {}, "limits": {}}
    for resource, values, cpu in (("cpu", _CPUS, True), ("memory", _MEMORIES, False)):
        request, limit = sorted(draw(st.tuples(st.sampled_from(values), st.sampled_from(values))))
        shape = "both" if guaranteed else draw(st.sampled_from(["none", "none", "request", "limit", "both"]))
        if shape in ("request", "both"):
            value = limit if guaranteed else request
            found["requests"][resource] = draw(st.sampled_from(quantity_texts(value, cpu=cpu)))
        if shape in ("limit", "both"):
            found["limits"][resource] = draw(st.sampled_from(quantity_texts(limit, cpu=cpu)))
    if draw(st.integers(0, 7)) == 0:
        found["limits"]["example.com/fpga"] = found["requests"]["example.com/fpga"] = "1"
    return draw(st.sampled_from([found, {key: value for key, value in found.items() if value}]))


@st.composite
def containers(draw: st.DrawFn, name: str, *, kind: str = "running", guaranteed: bool = False) -> Pod:
    """Draw a container: running, a native sidecar ("sidecar") or an init container ("init")."""
    found: Pod = {"name": name, "image": "registry.example/app:1"}
    if guaranteed or draw(st.integers(0, 4)):
        found["resources"] = draw(resources(guaranteed=guaranteed))
    elif draw(st.booleans()):
        found["resources"] = draw(st.sampled_from([None, {}, {"claims": [{"name": "c"}]}]))
    if kind == "sidecar":
        found["restartPolicy"] = "Always"
    if draw(st.booleans()):
        found["securityContext"] = {"runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}
        found["futureField"] = {"a/b": [1, None]}
    return found


_EXPRESSION = {"key": "zone", "operator": "In", "values": ["a", "b"]}
_FIELDS = [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def _node(*terms: Json) -> Json:
    return {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": list(terms)}}}


_AFFINITIES: Final[Sequence[Json]] = (
    None,
    {},
    {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    _node({"matchExpressions": [_EXPRESSION]}),
    _node({"matchExpressions": [_EXPRESSION, {"key": "gen", "operator": "Gt", "values": ["3"]}]}, {}),
    _node({"matchFields": _FIELDS}, {"matchExpressions": [_EXPRESSION], "matchFields": _FIELDS}),
    _node({"matchExpressions": None, "matchFields": _FIELDS}, {"matchExpressions": []}),
    {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}},
)
_SPEC_FIELDS: Final[Mapping[str, Json]] = {
    "priority": 1000,
    "priorityClassName": "high",
    "preemptionPolicy": "Never",
    "securityContext": {"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    "hostNetwork": False,
    "futureField": {"nested": [{"x~y": None}]},
    "ephemeralContainers": None,
    "schedulingGates": [],
    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "e", "emptyDir": {}}],
    "tolerations": [{"key": "mine", "operator": "Exists", "tolerationSeconds": 5}],
    "overhead": {"cpu": "100m", "memory": "64Mi"},
}


@st.composite
def pods(draw: st.DrawFn, *, classes: Sequence[str] = ("c0", "c1", "c2"), pod_level: bool = True) -> Pod:
    """Draw a pod of one of *classes*, in any of the forms that the API server takes."""
    guaranteed = draw(st.integers(0, 2)) == 0
    kinds = draw(st.lists(st.sampled_from(["init", "sidecar"]), max_size=2))
    started = [draw(containers(f"i{n}", kind=kind, guaranteed=guaranteed)) for n, kind in enumerate(kinds)]
    running = [draw(containers(f"app{n}", guaranteed=guaranteed)) for n in range(draw(st.integers(1, 3)))]
    spec: Pod = {"containers": running}
    if started or draw(st.integers(0, 5)) == 0:
        spec["initContainers"] = started or None
    for key in sorted(draw(st.sets(st.sampled_from(sorted(_SPEC_FIELDS)), max_size=4))):
        spec[key] = deepcopy(_SPEC_FIELDS[key])
    if draw(st.booleans()):
        spec["affinity"] = deepcopy(draw(st.sampled_from(_AFFINITIES)))
    if "overhead" in spec:
        spec["runtimeClassName"] = draw(st.sampled_from(["kata", "rund"]))
    if pod_level and draw(st.integers(0, 3)) == 0:
        spec["resources"] = draw(_pod_level(spec))
    annotations = {"podsla.io/class": draw(st.sampled_from(classes)), "team.example/owner": "a"}
    if draw(st.integers(0, 3)) == 0:
        annotations["podsla.io/min-pps"] = draw(st.sampled_from(["500k", "1000000", "1M", "2500001"]))
    if draw(st.integers(0, 9)) == 0:
        annotations["kubernetes.io/ingress-bandwidth"] = draw(st.sampled_from(["10M", "100G"]))
    metadata: Pod = {"generateName": "p-", "annotations": annotations}
    labels = draw(st.sampled_from(["absent", None, {}, {"app": "x"}]))
    if labels != "absent":
        metadata["labels"] = labels
    if draw(st.integers(0, 9)) == 0:
        metadata["ownerReferences"] = [{"kind": "DaemonSet", "name": "d", "controller": True}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {}}


@st.composite
def _pod_level(draw: st.DrawFn, spec: Pod) -> Json:
    """Draw pod-level resources as validation wants them: at least what containers ask and limit."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from([None, {}, {"requests": None}]))
    found: dict[str, dict[str, Json]] = {"requests": {}, "limits": {}}
    for resource, scale in (("cpu", 1000), ("memory", 1)):
        least = int(max(effective({"spec": spec}, resource, kind) for kind in ("requests", "limits")) * scale)
        request = max(least, 1) + draw(st.sampled_from([0, 500, 1000])) * (1 if resource == "cpu" else 1 << 20)
        limit = request * draw(st.sampled_from([1, 1, 2]))
        found["requests"][resource] = quantity_texts(request, cpu=resource == "cpu")[0]
        found["limits"][resource] = quantity_texts(limit, cpu=resource == "cpu")[0]
    return draw(st.sampled_from([found, {"requests": found["requests"]}]))


# --- records ----------------------------------------------------------------------------------------------------------


def _damaged(record: str) -> st.SearchStrategy[str]:
    """A true record with one value changed, written as we would write it."""
    value = json.loads(record)
    places = list(_places(value))

    def change(place: tuple[Any, ...], new: Json) -> str:
        copy = deepcopy(value)
        inner = copy
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = new
        return json.dumps(copy, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    return st.builds(change, st.sampled_from(places), json_values)


def _places(value: Json) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (key,)
        yield from ((key, *rest) for rest in _places(inner))


def records(own: str, other: str, stale: str) -> st.SearchStrategy[Json]:
    """
    Draw what may stand where a record belongs, none of it written for this pod as it is.

    Args:
        own: What this very pod gets.
        other: A true record of another pod.
        stale: A true record of this pod under a catalogue that is no longer known.
    """
    hollow = {**json.loads(own), "input": {"containers": []}}
    keyed = {**json.loads(own), "input": {"containers": [], "keys": json.loads(own)["input"].get("keys", {})}}
    return st.one_of(
        st.sampled_from([own, other, stale, json.dumps(hollow), json.dumps(keyed), "", "null", "[]", 7, None, {}]),
        st.integers(0, len(own) - 1).map(lambda end: own[:end]),
        _damaged(own),
        json_values.map(json.dumps),
        st.text(max_size=20),
    )


# --- oracles ----------------------------------------------------------------------------------------------------------

_parse = cast(Callable[[Json], Decimal], client.parse_quantity)


def exact(quantity: Json) -> Decimal:
    """Read a quantity with the Kubernetes client."""
    return _parse(quantity if isinstance(quantity, str) else str(quantity))


def amounts(holder: Json, kind: str) -> dict[str, Decimal]:
    """
    Read requests or limits of a container or a pod's spec; requests default to limits, as the API server does.

    The kind "needs" is the limit where there is one, else the request.
    """
    if kind == "needs":
        return {**amounts(holder, "requests"), **amounts(holder, "limits")}
    found = (holder or {}).get("resources") or {}
    values = {key: exact(value) for key, value in (found.get(kind) or {}).items()}
    return {**amounts(holder, "limits"), **values} if kind == "requests" else values


def effective(pod: Pod, resource: str, kind: str = "requests") -> Decimal:
    """Sum containers as KEP-753 says: sidecars count beside everything started after them."""
    spec = pod["spec"]
    total = sum((amounts(c, kind).get(resource, Decimal(0)) for c in spec["containers"]), Decimal(0))
    beside = highest = Decimal(0)
    for container in spec.get("initContainers") or []:
        value = amounts(container, kind).get(resource, Decimal(0))
        if container.get("restartPolicy") == "Always":
            beside += value
            highest = max(highest, beside)
        else:
            highest = max(highest, beside + value)
    return max(total + beside, highest)


def scheduled(pod: Pod, resource: str) -> Decimal:
    """Say what the scheduler counts, without overhead: the pod-level request where there is one (KEP-2837)."""
    own = pod["spec"].get("resources") or {}
    if resource in (own.get("requests") or {}):
        return exact(own["requests"][resource])
    summed = effective(pod, resource)
    return exact(own["limits"][resource]) if not summed and resource in (own.get("limits") or {}) else summed


def needed(pod: Pod, resource: str) -> Decimal:
    """Say what the pod may come to use, without overhead: limits where set, else requests."""
    own = amounts(pod["spec"], "limits").get(resource)
    return max(scheduled(pod, resource), effective(pod, resource, "needs") if own is None else own)


def qos(pod: Pod) -> str:
    """Name the QoS class as kubernetes/pkg/apis/core/v1/helper/qos computes it."""
    spec = pod["spec"]
    own = spec.get("resources") or {}
    if own.get("requests") or own.get("limits"):
        limits = {key: value for key, value in amounts(spec, "limits").items() if value and key in ("cpu", "memory")}
        asked = {resource: scheduled(pod, resource) for resource in ("cpu", "memory")}
        asked = {key: value for key, value in asked.items() if value and (key in limits or own.get("requests"))}
        holders = [(asked, limits)]
    else:
        every = [*(spec.get("initContainers") or []), *spec["containers"]]
        holders = [(_compute(c, "requests"), _compute(c, "limits")) for c in every]
    if not any(requests or limits for requests, limits in holders):
        return "BestEffort"
    if all(len(limits) == 2 and requests == limits for requests, limits in holders):
        return "Guaranteed"
    return "Burstable"


def _compute(holder: Json, kind: str) -> dict[str, Decimal]:
    return {key: value for key, value in amounts(holder, kind).items() if value and key in ("cpu", "memory")}


def assert_valid_resources(pod: Pod) -> None:
    """Check what the API server's validation checks of resources."""
    spec = pod["spec"]
    every = [*(spec.get("initContainers") or []), *spec["containers"]]
    for holder in [*every, spec]:
        requests, limits = amounts(holder, "requests"), amounts(holder, "limits")
        assert all(requests.get(key, Decimal(0)) <= value for key, value in limits.items())
    asked = (spec.get("resources") or {}).get("requests") or {}
    for resource in asked:
        assert effective(pod, resource) <= amounts(spec, "requests")[resource]
    for resource, most in amounts(spec, "limits").items():
        assert all(amounts(container, "limits").get(resource, Decimal(0)) <= most for container in every)


def cheapest_by_hand(index: Index, sla_class: SlaClass, ask: Ask) -> SandboxSize | None:
    """Try every size of the class in order of cost, vCPU, memory and name."""
    holding = [size for size, offer in index.sizes_of(sla_class) if not lacking(offer, ask)]
    return min(holding, key=lambda s: (s.cost_m, s.figures[VCPU.index], s.figures[MEMORY.index], s.name), default=None)


def strip_ours(after: Pod, before: Pod) -> Pod:
    """Take out of *after* everything that is ours to write; what is left must be *before*, exactly."""
    left = deepcopy(after)
    _restore(left, before, ("metadata", "annotations"), OUR_ANNOTATIONS)
    _restore(left, before, ("metadata", "labels"), ("podsla.io/size",))
    for kind in ("requests", "limits"):
        _restore(left, before, ("spec", "resources", kind), ("cpu", "memory"))
        for number, _ in enumerate(before["spec"]["containers"]):
            path = ("spec", "containers", number, "resources", kind)
            _restore(left, before, path, ("cpu", "memory", *EXTENDED))
        for number, each in enumerate(before["spec"].get("initContainers") or ()):
            if each.get("restartPolicy") == "Always":  # a sidecar of a whole sandbox
                _restore(left, before, ("spec", "initContainers", number, "resources", kind), ("cpu", "memory"))
    if "runtimeClassName" not in before["spec"]:
        left["spec"].pop("runtimeClassName", None)
    _cut(left, before, ("spec", "tolerations"))
    required = ("spec", "affinity", "nodeAffinity", _REQUIRED, "nodeSelectorTerms")
    terms = _at(before, required) or []
    for number, _ in enumerate(terms):
        _cut(left, before, (*required, number, "matchExpressions"))
    if not terms and _at(left, required):
        assert len(_at(left, required)) == 1
        assert set(_at(left, required)[0]) == {"matchExpressions"}
        _cut(left, before, required)
    return left


def _at(value: Json, path: Sequence[Any]) -> Json:
    for step in path:
        if isinstance(value, list):
            value = value[step] if step < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _restore(left: Pod, before: Pod, path: Sequence[Any], keys: Sequence[str]) -> None:
    inner, old = _at(left, path), _at(before, path) or {}
    if isinstance(inner, dict):
        for key in keys:
            inner.pop(key, None)
            if key in old:
                inner[key] = old[key]
        _fold(left, before, path)


def _cut(left: Pod, before: Pod, path: Sequence[Any]) -> None:
    """Cut a list back to the length that it had; what was there must still come first."""
    inner, old = _at(left, path), _at(before, path) or []
    if isinstance(inner, list):
        del inner[len(old) :]
        _fold(left, before, path)


def _fold(left: Pod, before: Pod, path: Sequence[Any]) -> None:
    """Remove parents that are empty now and were absent or null before."""
    for depth in range(len(path), 0, -1):
        parent, key = _at(left, path[: depth - 1]), path[depth - 1]
        old = _at(before, path[: depth - 1])
        if isinstance(key, int) or parent[key]:
            return
        if not isinstance(old, dict) or key not in old:
            del parent[key]
        elif old[key] is None:
            parent[key] = None


def written(value: Json) -> str:
    """Write JSON so that 1, 1.0 and true differ and the order of keys does not count."""
    return json.dumps(value, sort_keys=True)

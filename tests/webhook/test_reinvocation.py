"""What others do to a pod between two admissions, and what the second one makes of it."""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import yaml

from catalog.fit import Index, compile_index
from catalog.load import load_target
from catalog.reader import read_catalog
from catalog.yamltext import parse_documents
from tests.strategies import TARGETS, TODAY, Pod, amounts, effective, exact, qos, scheduled, written
from webhook.admit import Released, Serving, Sized, admit
from webhook.workloads import find_templates

CATALOG = """
apiVersion: podsla.io/v1beta1
kind: SpecCatalog
metadata: {name: platform}
spec:
  sizes:
  - {name: s.l, vcpu: "2", memory: 4Gi, generation: 7, cpu: {baseMHz: 2700}, network: {pps: 500k, queues: 2, bitsPerSecond: 1G}, disk: {iops: 10k, bytesPerSecond: 100M}}
  - {name: s.xl, vcpu: "4", memory: 8Gi, generation: 7, cpu: {baseMHz: 2700}, network: {pps: 1M, queues: 4, bitsPerSecond: 2G}, disk: {iops: 30k, bytesPerSecond: 200M}}
  - {name: s.2xl, vcpu: "8", memory: 16Gi, generation: 7, cpu: {baseMHz: 2700}, network: {pps: 2M, queues: 8, bitsPerSecond: 4G}, disk: {iops: 60k, bytesPerSecond: 400M}}
  - {name: s.4xl, vcpu: "16", memory: 32Gi, generation: 7, cpu: {baseMHz: 2700}, network: {pps: 4M, queues: 16, bitsPerSecond: 8G}, disk: {iops: 90k, bytesPerSecond: 800M}}
  - {name: gn.2xl, vcpu: "8", memory: 32Gi, generation: 7, cpu: {baseMHz: 2500}, gpu: {model: T4, count: 1}, cost: 40}
  classes:
  - name: net
    reserve: RESERVE
    floor: FLOOR
    tolerations: TOLERATIONS
    sizes: {families: [s]}
    tunable: {network.pps: {max: 3M}, disk.iops: }
  - {name: small, reserve: RESERVE, floor: {vcpu: "1", memory: 1Gi, network: {pps: 100k}}, sizes: {names: [s.l, s.xl, s.2xl, s.4xl]}}
  - {name: gpu, floor: {vcpu: "1", memory: 1Gi}, gpu: {models: [T4]}}
  - {name: borrow, floor: {vcpu: "1", memory: 1Gi}, gpu: {models: [T4], mode: on-demand}}
"""  # noqa: E501
VM = "  - {name: vm, runtime: rund, floor: {vcpu: '1', memory: 1Gi, network: {pps: 100k}}, sizes: {families: [s]}}\n"
FLOOR = "{vcpu: '3', memory: 6Gi, network: {pps: 600k, queues: 4, bitsPerSecond: 500M}, disk: {iops: 10k}}"
LOWER = "{vcpu: '2', network: {pps: 200k}}"
EDGE = "[{key: edge, operator: Exists, effect: NoSchedule}]"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@cache
def index(target: str, reserve: str, *, floor: str = FLOOR, tolerations: str = EDGE) -> Index:
    """Compile the catalogue of this module for a shipped target; `vm` only where there is a runtime for it."""
    text = CATALOG + (VM if target == "kubernetes" else "")
    text = text.replace("RESERVE", reserve).replace("FLOOR", floor).replace("TOLERATIONS", tolerations)
    return compile_index(read_catalog(parse_documents(text, "catalog.yaml")), load_target(target))


def container(name: str, cpu: str | None = None, memory: str | None = None, *, guaranteed: bool = False) -> Pod:
    """A container with requests, and limits equal to them where it is to be Guaranteed."""
    asked = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    resources = {"requests": asked, **({"limits": dict(asked)} if guaranteed else {})} if asked else {}
    return {"name": name, "image": "x", **({"resources": resources} if resources else {})}


def pod(shape: str, name: str = "net") -> Pod:
    """A pod of a class: of one of the shapes that differ in where CPU and memory are written."""
    containers = {
        "bare": [container("app")],
        "burstable": [container("app", "500m", "512Mi"), container("log", "100m", "64Mi")],
        "whole CPUs": [
            container("app", "1", "1Gi", guaranteed=True),
            container("log", "500m", "512Mi", guaranteed=True),
        ],
        "part CPUs": [container("app", "500m", "1Gi", guaranteed=True)],
        "pod level": [container("app", "500m", "512Mi")],
    }[shape]
    spec: Pod = {"containers": containers}
    if shape == "pod level":
        spec["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}
    return {"metadata": {"generateName": "p-", "annotations": {"podsla.io/class": name}}, "spec": spec}


def sized(given: Mapping[str, Any], serving: Serving) -> Sized:
    """Admit a pod that must get a size."""
    answer = admit(given, {}, serving, TODAY)
    assert isinstance(answer, Sized), answer
    return answer


def copied(given: Mapping[str, Any]) -> Pod:
    """Copy a pod through JSON, as it travels."""
    copy: Pod = json.loads(json.dumps(given))
    return copy


def settled(given: Mapping[str, Any]) -> str:
    """Write a pod as text; the order of tolerations and of expressions, which are ANDed, does not count."""
    copy = copied(given)
    for term in terms_of(copy):
        if "matchExpressions" in term:
            term["matchExpressions"].sort(key=written)
    if "tolerations" in copy["spec"]:
        copy["spec"]["tolerations"].sort(key=written)
    return written(copy)


def less_empty(given: Mapping[str, Any]) -> Pod:
    """Leave out labels and annotations that are empty: whether there were some, empty, nobody remembers."""
    copy = copied(given)
    copy["metadata"] = {key: value for key, value in copy["metadata"].items() if value not in ({}, None)}
    return copy


def less_record(given: Mapping[str, Any]) -> str:
    """Write a pod as text, less its record."""
    copy = copied(given)
    copy["metadata"]["annotations"].pop("podsla.io/record", None)
    return written(copy)


def assert_settled(second: Sized, serving: Serving) -> None:
    """Check that the pod is valid, has nothing twice, and stays as it is from now on."""
    after: Pod = dict(second.pod)
    spec = after["spec"]
    every = [*(spec.get("initContainers") or []), *spec["containers"]]
    for holder in [*every, spec]:
        requests, limits = amounts(holder, "requests"), amounts(holder, "limits")
        assert all(requests.get(key, Decimal(0)) <= value for key, value in limits.items()), holder
    for resource in (spec.get("resources") or {}).get("requests") or {}:
        assert effective(after, resource) <= scheduled(after, resource)
    for term in terms_of(after):
        expressions = list(map(written, term.get("matchExpressions") or []))
        assert len(set(expressions)) == len(expressions)
    tolerations = list(map(written, spec.get("tolerations") or []))
    assert len(set(tolerations)) == len(tolerations)
    for resource in ("podsla.io/pps", "nvidia.com/gpu", "podsla.io/gpu-seats"):
        assert sum(resource in amounts(c, "limits") for c in every) <= 1
    assert sized(after, serving).patch == ()


def terms_of(given: Mapping[str, Any]) -> list[Any]:
    """Read the node selector terms of a pod."""
    node = (given["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    return list((node.get(REQUIRED) or {}).get("nodeSelectorTerms") or [])


SHAPES = ["bare", "burstable", "whole CPUs", "part CPUs", "pod level"]
everywhere = pytest.mark.parametrize("target", TARGETS)
on_shared_nodes = pytest.mark.parametrize("target", [name for name in TARGETS if name != "ack-eci"])
either_reserve = pytest.mark.parametrize("reserve", ["ask", "size"])
every_shape = pytest.mark.parametrize("shape", SHAPES)


# --- another webhook adds a sidecar -----------------------------------------------------------------------------------


def injection_pairs(folder: Path) -> list[tuple[str, Pod, Pod]]:
    """Read before and after of every pod template that istio was seen to inject."""
    found = []
    for file in sorted(folder.glob("*.injected.yaml")):
        before = [d for d in yaml.safe_load_all((folder / file.name.replace(".injected", "")).read_text()) if d]
        after = [d for d in yaml.safe_load_all(file.read_text()) if d]
        olds = [dict(template) for document in before for _, template in find_templates(copied(document))]
        news = [dict(template) for document in after for _, template in find_templates(copied(document))]
        assert len(olds) == len(news)
        found += [(f"{file.name}[{n}]", old, new) for n, (old, new) in enumerate(zip(olds, news, strict=True))]
    return found


def classed(template: Pod, name: str) -> Pod:
    """Give a template a class."""
    given = copied(template)
    metadata = given["metadata"] = given.get("metadata") or {}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), "podsla.io/class": name}
    return given


def injected_after_us(first: Sized, before: Pod, after: Pod) -> Pod:
    """Do to a sized pod what the other webhook did to the same pod without us."""
    result = classed(after, "net")
    ours = copied(first.pod)
    for part in ("annotations", "labels"):
        result["metadata"][part] = {**ours["metadata"][part], **(result["metadata"].get(part) or {})}
    for key in ("resources", "affinity", "tolerations", "runtimeClassName"):
        if key in ours["spec"]:
            result["spec"][key] = ours["spec"][key]
    old = {c["name"]: c for c in before["spec"]["containers"]}
    for c in ours["spec"]["containers"]:
        for other in result["spec"]["containers"]:
            if other["name"] == c["name"] and c.get("resources") != old[c["name"]].get("resources"):
                other["resources"] = c["resources"]
    return result


@everywhere
@either_reserve
def test_a_sidecar_that_is_added_later_is_covered(target: str, reserve: str, shared_data: Path) -> None:
    """First we, then the sidecar, then we again: the same pod as when the sidecar comes first."""
    serving = Serving(index(target, reserve))
    seen = 0
    for where, before, after in injection_pairs(shared_data / "injection-pairs"):
        first = sized(classed(before, "net"), serving)
        second = sized(injected_after_us(first, before, after), serving)
        direct = sized(classed(after, "net"), serving)
        assert second.place.sla_class.name == "net"
        assert settled(second.pod) == settled(direct.pod), where
        assert second.place == direct.place, where
        assert_settled(second, serving)
        if target != "ack-eci":
            assert scheduled(dict(second.pod), "cpu") >= max(Decimal(3), effective(after, "cpu"))
            assert effective(dict(second.pod), "podsla.io/pps") >= 600_000
        seen += 1
    assert seen >= 30


@everywhere
@either_reserve
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "pod level"])  # its own limit is too low
def test_a_large_sidecar_moves_the_pod_to_a_larger_size(target: str, reserve: str, shape: str) -> None:
    serving = Serving(index(target, reserve))
    first = sized(pod(shape), serving)
    added = container("proxy", "6", "1Gi", guaranteed=shape == "whole CPUs")
    later = copied(first.pod)
    later["spec"]["initContainers"] = [{**added, "restartPolicy": "Always"}]
    raw = pod(shape)
    raw["spec"]["initContainers"] = [{**added, "restartPolicy": "Always"}]
    second, direct = sized(later, serving), sized(raw, serving)
    assert second.place.choice.size.order > first.place.choice.size.order
    assert settled(second.pod) == settled(direct.pod)
    assert_settled(second, serving)


# --- a vertical autoscaler --------------------------------------------------------------------------------------------


def resize(given: Pod, name: str, cpu: str, memory: str, kinds: tuple[str, ...]) -> Pod:
    """Set CPU and memory of one container, in those of requests and limits that *kinds* names."""
    changed = copied(given)
    for c in changed["spec"]["containers"]:
        if c["name"] == name:
            for kind in kinds:
                c.setdefault("resources", {}).setdefault(kind, {}).update(cpu=cpu, memory=memory)
    return changed


@everywhere
@either_reserve
@pytest.mark.parametrize("shape", ["burstable", "whole CPUs"])
@pytest.mark.parametrize(
    ("cpu", "memory"),
    [
        pytest.param("2", "2Gi", id="above what the user wrote"),
        pytest.param("7", "9Gi", id="above what we wrote"),
        pytest.param("50m", "32Mi", id="below what the user wrote"),
    ],
)
@pytest.mark.parametrize("name", ["app", "log"])
def test_what_an_autoscaler_sets_is_the_new_ask(
    target: str, reserve: str, shape: str, cpu: str, memory: str, name: str
) -> None:
    """`app` is the container that we raise where the pod has whole CPUs, `log` is one that we never write to."""
    serving = Serving(index(target, reserve))
    kinds = ("requests", "limits") if shape == "whole CPUs" else ("requests",)
    second = sized(resize(dict(sized(pod(shape), serving).pod), name, cpu, memory, kinds), serving)
    direct = sized(resize(pod(shape), name, cpu, memory, kinds), serving)
    assert settled(second.pod) == settled(direct.pod)
    assert second.place == direct.place
    assert_settled(second, serving)


@on_shared_nodes
@either_reserve
@pytest.mark.parametrize(
    ("kind", "cpu", "memory"),
    [
        pytest.param("requests", "2", "4Gi", id="a request between the user's limit and ours"),
        pytest.param("requests", "500m", "512Mi", id="a request below the user's"),
        pytest.param("limits", "12", "12Gi", id="a limit above ours"),
    ],
)
def test_an_autoscaler_that_sets_one_of_requests_and_limits_never_leaves_an_invalid_pod(
    target: str, reserve: str, kind: str, cpu: str, memory: str
) -> None:
    """Of what we wrote, one of both goes back to what the user wrote; the other is somebody else's now."""
    serving = Serving(index(target, reserve))
    first = sized(pod("whole CPUs"), serving)
    assert_settled(sized(resize(dict(first.pod), "app", cpu, memory, (kind,)), serving), serving)


@everywhere
@either_reserve
def test_a_pod_level_request_that_somebody_sets_is_the_new_ask(target: str, reserve: str) -> None:
    serving = Serving(index(target, reserve))
    later, raw = copied(sized(pod("pod level"), serving).pod), pod("pod level")
    for given in (later, raw):
        given["spec"]["resources"] = {
            "requests": {"cpu": "5", "memory": "9Gi"},
            "limits": {"cpu": "6", "memory": "10Gi"},
        }
    second, direct = sized(later, serving), sized(raw, serving)
    assert settled(second.pod) == settled(direct.pod)
    assert_settled(second, serving)


@on_shared_nodes
def test_a_pod_level_request_between_the_users_and_ours_leaves_a_valid_pod(target: str) -> None:
    """The user limits the pod to 2 CPUs, we raise it to 3 of 3, somebody lowers the request to 2500m of 3."""
    serving = Serving(index(target, "ask"))
    later = copied(sized(pod("pod level"), serving).pod)
    assert later["spec"]["resources"]["limits"]["cpu"] == "3"
    later["spec"]["resources"]["requests"]["cpu"] = "2500m"
    assert_settled(sized(later, serving), serving)


# --- the API server itself --------------------------------------------------------------------------------------------


def test_overhead_that_is_filled_in_for_our_runtime_class_changes_nothing() -> None:
    serving = Serving(index("kubernetes", "ask"))
    first = sized(pod("burstable", "vm"), serving)
    assert first.pod["spec"]["runtimeClassName"] == "rund"
    later = copied(first.pod)
    later["spec"]["overhead"] = {"cpu": "250m", "memory": "160Mi"}
    second = sized(later, serving)
    assert second.patch == ()
    assert second.place == first.place


def test_nothing_of_the_old_sandbox_stays_when_the_class_changes_away_from_it() -> None:
    """Neither its RuntimeClass, nor a decision that counts its overhead."""
    serving = Serving(index("kubernetes", "ask"))
    later = copied(sized(pod("burstable", "vm"), serving).pod)
    later["metadata"]["annotations"]["podsla.io/class"] = "small"
    second = sized(later, serving)
    assert settled(second.pod) == settled(sized(pod("burstable", "small"), serving).pod)


CANONICAL = {
    "0.5": "500m",
    "1024Mi": "1Gi",
    "1.0": "1",
    "1000m": "1",
    "536870912Ki": "512Gi",
    1: "1",
    "0.064Gi": "65536Ki",
}


@everywhere
@either_reserve
def test_quantities_rewritten_in_canonical_form_are_the_same_quantities(target: str, reserve: str) -> None:
    """A manifest sized by the command line, then sent: the API server rewrites what the user and we wrote."""
    serving = Serving(index(target, reserve))
    raw = pod("whole CPUs")
    app, log = raw["spec"]["containers"]
    app["resources"] = {"requests": {"cpu": 1, "memory": "1024Mi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}}
    log["resources"] = {"requests": {"cpu": "0.5", "memory": "1Gi"}, "limits": {"cpu": "0.5", "memory": "1Gi"}}
    first = sized(raw, serving)
    later = copied(first.pod)
    for c in later["spec"]["containers"]:
        for kind in ("requests", "limits"):
            values = c["resources"][kind]
            c["resources"][kind] = {key: CANONICAL.get(value, value) for key, value in values.items()}
    second = sized(later, serving)
    assert less_record(second.pod) == less_record(later)
    assert second.place == first.place
    assert_settled(second, serving)


@everywhere
@either_reserve
@every_shape
def test_what_we_write_is_in_the_form_that_the_api_server_writes(target: str, reserve: str, shape: str) -> None:
    """No quantity of ours is rewritten on the way, so a pod that comes back is as we left it."""
    for name in ("net", "small"):
        after = sized(pod(shape, name), Serving(index(target, reserve))).pod
        for holder in [*after["spec"]["containers"], after["spec"]]:
            for kind in ("requests", "limits"):
                for resource, text in ((holder.get("resources") or {}).get(kind) or {}).items():
                    assert isinstance(text, str)
                    assert text == canonical(resource, text)


def canonical(resource: str, text: str) -> str:
    """Write a quantity as resource.Quantity does: the largest suffix with no fraction, decimal or binary as it came."""
    value = exact(text)
    if text.endswith("i"):
        for power, suffix in ((60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")):
            if value % (1 << power) == 0:
                return f"{int(value) >> power}{suffix}"
        return str(int(value))
    for power, suffix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k"), (0, ""), (-3, "m")):
        if value % (Decimal(10) ** power) == 0:
            return f"{int(value / Decimal(10) ** power)}{suffix}"
    raise AssertionError(text)


# --- another webhook's placement --------------------------------------------------------------------------------------


@everywhere
@either_reserve
def test_what_another_adds_behind_ours_stays_and_ours_is_not_added_again(target: str, reserve: str) -> None:
    serving = Serving(index(target, reserve))
    later = copied(sized(pod("burstable"), serving).pod)
    later["spec"]["tolerations"].append({"key": "theirs", "operator": "Exists"})
    (term,) = terms_of(later)
    term["matchExpressions"].append({"key": "zone", "operator": "In", "values": ["a"]})
    assert sized(later, serving).patch == ()


@everywhere
@either_reserve
def test_a_term_that_another_adds_gets_our_expressions_too(target: str, reserve: str) -> None:
    """Terms are ORed: without ours in the new one, the pod could land anywhere that the new one says."""
    serving = Serving(index(target, reserve))
    later = copied(sized(pod("burstable"), serving).pod)
    terms = later["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    ours = deepcopy(terms[0]["matchExpressions"])
    theirs = {"key": "zone", "operator": "In", "values": ["a"]}
    terms.append({"matchExpressions": [theirs]})
    second = sized(later, serving)
    assert terms_of(second.pod) == [{"matchExpressions": ours}, {"matchExpressions": [theirs, *ours]}]
    assert_settled(second, serving)


# --- another revision -------------------------------------------------------------------------------------------------


def own_placement(given: Pod, target: str) -> Pod:
    """Give a pod, of its own accord, exactly what the class would add: toleration, annotation and expression."""
    model = sized(given, Serving(index(target, "ask"))).pod["spec"]
    result = copied(given)
    result["spec"]["tolerations"] = copied(model)["tolerations"]
    result["spec"]["affinity"] = copied(model)["affinity"]
    return result


@everywhere
@either_reserve
@every_shape
def test_under_a_new_revision_the_pod_is_as_if_it_came_for_the_first_time(
    target: str, reserve: str, shape: str
) -> None:
    """What the old revision wrote goes back where that revision is known."""
    assert_decided_anew(target, reserve, pod(shape))


@everywhere
def test_placement_of_the_users_own_outlives_the_revision_that_would_have_added_the_same(target: str) -> None:
    """What stood there before us is not ours to take away."""
    assert_decided_anew(target, "ask", own_placement(pod("burstable"), target))


def assert_decided_anew(target: str, reserve: str, raw: Pod) -> None:
    """Admit a pod under one revision, then under another: it is as if only the other had ever been."""
    old, new = index(target, reserve), index(target, reserve, floor=LOWER, tolerations="[]")
    first = sized(raw, Serving(old))
    serving = Serving(new, {old.catalog.revision: old})
    second = sized(copied(first.pod), serving)
    assert settled(second.pod) == settled(sized(raw, serving).pod)
    assert_settled(second, serving)


@everywhere
@either_reserve
@every_shape
def test_under_a_new_revision_that_does_not_know_the_old_the_record_counts_for_nothing(
    target: str, reserve: str, shape: str
) -> None:
    old, new = index(target, reserve), index(target, reserve, floor=LOWER, tolerations="[]")
    later = copied(sized(pod(shape), Serving(old)).pod)
    bare = copied(later)
    del bare["metadata"]["annotations"]["podsla.io/record"]
    second = admit(later, {}, Serving(new), TODAY)
    direct = admit(bare, {}, Serving(new), TODAY)
    if isinstance(second, Sized) and isinstance(direct, Sized):
        assert settled(second.pod) == settled(direct.pod)
        assert any("podsla.io/record" in warning for warning in second.warnings)
        assert_settled(second, Serving(new))
    else:
        assert second == direct


@everywhere
@either_reserve
def test_there_and_back_again_is_the_first_decision(target: str, reserve: str) -> None:
    old, new = index(target, reserve), index(target, reserve, floor=LOWER, tolerations="[]")
    serving = [Serving(new, {old.catalog.revision: old}), Serving(old, {new.catalog.revision: new})]
    for shape in SHAPES:
        first = sized(pod(shape), serving[1])
        there = sized(copied(first.pod), serving[0])
        assert settled(sized(copied(there.pod), serving[1]).pod) == settled(first.pod)


# --- a copied manifest ------------------------------------------------------------------------------------------------


def _class(name: str) -> Callable[[Pod], None]:
    def change(given: Pod) -> None:
        given["metadata"]["annotations"]["podsla.io/class"] = name

    return change


def _minimum(given: Pod) -> None:
    given["metadata"]["annotations"]["podsla.io/min-pps"] = "1500k"


WISHES = {
    "a smaller class": ("net", _class("small")),
    "a larger class": ("small", _class("net")),
    "a minimum": ("net", _minimum),
    "no GPU any more": ("gpu", _class("small")),
    "a GPU for its whole life": ("borrow", _class("gpu")),
    "a GPU on demand": ("gpu", _class("borrow")),
    "no sandbox any more": ("vm", _class("net")),
    "a sandbox": ("small", _class("vm")),
}


LENT = ("a GPU for its whole life", "a GPU on demand")  # virtual nodes share no GPU, so none is lent there


@either_reserve
@every_shape
@pytest.mark.parametrize(
    ("target", "wish"),
    [
        (target, wish)
        for target in TARGETS
        for wish in WISHES
        if (target == "kubernetes" or "sandbox" not in wish) and not (target == "ack-eci" and wish in LENT)
    ],
)
def test_a_copied_manifest_with_another_wish_is_as_one_written_anew(
    target: str, reserve: str, shape: str, wish: str
) -> None:
    """It carries record, size and all that we wrote; the new class or minimum counts as if nothing of it were there."""
    serving = Serving(index(target, reserve))
    start, change = WISHES[wish]
    raw = pod(shape, start)
    later = copied(sized(raw, serving).pod)
    change(raw)
    assert later["metadata"]["labels"]["podsla.io/size"]
    change(later)
    second, direct = sized(later, serving), sized(raw, serving)
    assert settled(second.pod) == settled(direct.pod)
    assert second.place == direct.place
    assert_settled(second, serving)


@everywhere
@either_reserve
@pytest.mark.parametrize("shape", ["whole CPUs", "part CPUs"])
def test_a_guaranteed_pod_is_guaranteed_after_any_number_of_admissions(target: str, reserve: str, shape: str) -> None:
    given = pod(shape)
    assert qos(given) == "Guaranteed"
    for floor in (FLOOR, LOWER, FLOOR):
        known = {i.catalog.revision: i for i in (index(target, reserve), index(target, reserve, floor=LOWER))}
        given = dict(sized(given, Serving(index(target, reserve, floor=floor), known)).pod)
        assert qos(given) == "Guaranteed"


@everywhere
@either_reserve
@every_shape
@pytest.mark.parametrize("opted_out", [True, False], ids=["class: none", "no class"])
def test_a_copied_manifest_without_a_class_carries_nothing_of_ours(
    target: str, reserve: str, shape: str, opted_out: bool
) -> None:
    """What we wrote goes, record and size with it; what the pod had by itself stays."""
    serving = Serving(index(target, reserve))
    raw = pod(shape, "net")
    later = copied(sized(raw, serving).pod)
    for given in (raw, later):
        del given["metadata"]["annotations"]["podsla.io/class"]
        if opted_out:
            given["metadata"]["annotations"]["podsla.io/class"] = "none"
    released = admit(later, {}, serving, TODAY)
    assert isinstance(released, Released)
    assert jsonpatch.apply_patch(later, list(released.patch)) == released.pod
    assert settled(less_empty(released.pod)) == settled(less_empty(raw))
    assert "podsla.io/size" not in (released.pod["metadata"].get("labels") or {})


@pytest.mark.parametrize("affinity", [None, {}, {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}}}])
def test_an_affinity_that_says_nothing_is_left_as_it_came(affinity: object) -> None:
    """Taking out requirements that somebody else has taken out already writes nothing."""
    serving = Serving(index("kubernetes", "ask"))
    later = copied(sized(pod("bare", "net"), serving).pod)
    assert later["spec"]["affinity"]
    later["spec"]["affinity"] = affinity
    later["metadata"]["annotations"]["podsla.io/class"] = "none"
    released = admit(later, {}, serving, TODAY)
    assert isinstance(released, Released)
    assert released.pod["spec"]["affinity"] == affinity

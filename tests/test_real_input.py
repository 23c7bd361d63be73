"""Real manifests, fixtures and traces of other projects, admitted with every class that is shipped."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import yaml
from hypothesis import given, settings

from catalog.dimension import DIMENSIONS, VCPU, Ask, lacking
from catalog.fit import Index, compile_index
from catalog.load import SHIPPED_CATALOG, load_catalog, load_target, shipped_targets
from catalog.model import ClassGpu, Reserve, SlaClass
from catalog.reader import make_catalog
from tests.strategies import (
    OUR_ANNOTATIONS,
    TODAY,
    Pod,
    asks,
    assert_valid_resources,
    cheapest_by_hand,
    pods,
    strip_ours,
    written,
)
from webhook.admit import Answer, Serving, Sized, admit
from webhook.decision import Deny, Reason
from webhook.workloads import find_templates

CLASSES = sorted(load_catalog([SHIPPED_CATALOG]).classes)
TARGETS = sorted(shipped_targets())
CONFLICTS = (Reason.RUNTIME_CONFLICT, Reason.LIMIT_CONFLICT, Reason.GPU_CONFLICT)


@cache
def index(target: str) -> Index:
    """The shipped catalogue for a shipped target."""
    return compile_index(load_catalog([SHIPPED_CATALOG]), load_target(target))


@cache
def yaml_document(file: Path) -> Any:
    """Read a one-document file as the API server would get it: plain JSON."""
    return json.loads(json.dumps(yaml.safe_load(file.read_text()), default=str))


@dataclass(frozen=True)
class Template:
    """A pod template of a file, and whether a DaemonSet makes its pods."""

    where: str
    pod: Mapping[str, Any]
    of_daemonset: bool

    def of_class(self, name: str) -> Pod:
        """Make a pod of a class from the template."""
        pod: Pod = deepcopy(dict(self.pod))
        metadata = pod.setdefault("metadata", {}) or {}
        metadata["annotations"] = {**(metadata.get("annotations") or {}), "podsla.io/class": name}
        pod["metadata"] = metadata
        return pod


def templates(folder: Path) -> Iterator[Template]:
    """Find every pod template of every file of a folder."""
    for file in sorted(folder.glob("*.yaml")):
        document = yaml_document(file)
        for path, pod in find_templates(document):
            where = f"{file.name}:{'.'.join(map(str, path))}"
            yield Template(where, pod, document.get("kind") == "DaemonSet")


def assert_admitted_as_promised(pod: Pod, target: str, *, of_daemonset: bool = False) -> Answer:
    """
    Admit a pod and judge what comes back.

    A sized pod: the patch applies, everything that is not ours is as it was sent, and a second admission is empty. A
    refusal: it names a dimension with both figures, or what conflicts.
    """
    serving = Serving(index(target))
    answer = admit(pod, {}, serving, TODAY, of_daemonset=of_daemonset)
    if isinstance(answer, Sized):
        patch = json.loads(json.dumps(answer.patch))
        assert written(jsonpatch.apply_patch(deepcopy(pod), patch)) == written(answer.pod)
        assert written(strip_ours(dict(answer.pod), pod)) == written(pod)
        again = admit(answer.pod, {}, serving, TODAY, of_daemonset=of_daemonset)
        assert isinstance(again, Sized)
        assert again.patch == ()
        assert lacking(answer.place.choice.offer, answer.place.ask) == ()
    else:
        assert isinstance(answer, Deny)
        assert_refused_in_words(answer, pod)
    return answer


def assert_refused_in_words(answer: Deny, pod: Pod) -> None:
    """Check that a refusal says what about the pod cannot be had."""
    if answer.reason in (Reason.NO_SIZE_FITS, Reason.NO_CONSUMER):
        named = [d for d in DIMENSIONS if d.path in answer.message]
        assert named or "GPU" in answer.message or "runtime" in answer.message, answer
    elif answer.reason in CONFLICTS:
        assert "remove the" in answer.message or "remove it" in answer.message, answer
    else:
        assert answer.reason is Reason.INVALID_POD, answer
        assert "spec." in answer.message, answer


# --- manifests --------------------------------------------------------------------------------------------------------


def test_nearly_every_manifest_holds_a_pod_template(shared_data: Path) -> None:
    """Three of the 116 have none: a workflow of resources, and two that name a model and no container."""
    files = sorted((shared_data / "manifests").glob("*.yaml"))
    without = [file.name for file in files if not find_templates(yaml_document(file))]
    assert len(files) == 116
    assert without == [
        "argo-workflows-workflow-volumes-pvc-fail-event.yaml",
        "kserve-inferenceservice-rollout-strategy-example.yaml",
        "kserve-llminferenceservice-qwen2-7b-instruct-pd.yaml",
    ]


@pytest.mark.parametrize("name", CLASSES)
def test_every_manifest_gets_every_class_on_kubernetes(name: str, shared_data: Path) -> None:
    outcomes: Counter[str] = Counter()
    for template in templates(shared_data / "manifests"):
        answer = assert_admitted_as_promised(template.of_class(name), "kubernetes", of_daemonset=template.of_daemonset)
        outcomes[type(answer).__name__] += 1
    assert outcomes.total() >= 116
    assert outcomes["Sized"] >= 80, outcomes


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "kubernetes"])
def test_every_manifest_gets_some_class_on_every_other_target(target: str, shared_data: Path) -> None:
    """The classes take turns, so that each meets a part of the manifests on each target."""
    sized = 0
    for number, template in enumerate(templates(shared_data / "manifests")):
        pod = template.of_class(CLASSES[number % len(CLASSES)])
        answer = assert_admitted_as_promised(pod, target, of_daemonset=template.of_daemonset)
        sized += isinstance(answer, Sized)
    assert sized >= 80


@pytest.mark.parametrize("reserve", list(Reserve))
def test_a_whole_size_changes_no_more_fields_than_an_ask_does(reserve: Reserve, shared_data: Path) -> None:
    """Every class with the other reservation than it is shipped with, over a part of the manifests."""
    shipped = index("kubernetes").catalog
    classes = [replace(sla_class, reserve=reserve) for sla_class in shipped.classes.values()]
    serving = Serving(compile_index(make_catalog(shipped.sizes, classes), load_target("kubernetes")))
    for number, template in enumerate(templates(shared_data / "manifests")):
        pod = template.of_class(CLASSES[number % len(CLASSES)])
        answer = admit(pod, {}, serving, TODAY, of_daemonset=template.of_daemonset)
        if isinstance(answer, Sized):
            assert answer.place.reserve is reserve
            assert written(strip_ours(dict(answer.pod), pod)) == written(pod)
            again = admit(answer.pod, {}, serving, TODAY, of_daemonset=template.of_daemonset)
            assert isinstance(again, Sized)
            assert again.patch == ()


# --- Pod Security fixtures --------------------------------------------------------------------------------------------


def unjudged_by_pod_security(pod: Mapping[str, Any]) -> str:
    """Write a pod less what no Pod Security level looks at and we may write; all the rest must stay as it is."""
    copy: Pod = deepcopy(dict(pod))
    for key in ("resources", "affinity", "tolerations", "runtimeClassName"):
        copy["spec"].pop(key, None)
    for container in copy["spec"]["containers"]:
        container.pop("resources", None)
    for key, ours in (("annotations", OUR_ANNOTATIONS), ("labels", ("podsla.io/size",))):
        fields = copy["metadata"].get(key) or {}
        copy["metadata"][key] = {name: value for name, value in fields.items() if name not in ours}
    return written(copy)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_what_a_pod_security_level_checks_is_not_touched(level: str, target: str, shared_data: Path) -> None:
    """A pod that passes its level still passes, and one that fails still fails: nothing that is judged changes."""
    sized = 0
    for verdict in ("pass", "fail"):
        for number, template in enumerate(templates(shared_data / "psa-fixtures" / level / verdict)):
            pod = template.of_class(CLASSES[number % len(CLASSES)])
            pod["metadata"].setdefault("labels", {})
            answer = assert_admitted_as_promised(pod, target)
            if isinstance(answer, Sized):
                sized += 1
                assert unjudged_by_pod_security(answer.pod) == unjudged_by_pod_security(pod), template.where
    assert sized >= 25


# --- pods with every field --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CLASSES)
def test_of_a_pod_with_every_field_nothing_is_lost(name: str, target: str, shared_data: Path) -> None:
    files = sorted((shared_data / "admission" / "k8s-api-testdata").glob("*.json"))
    found = [
        Template(file.name, pod, of_daemonset=False)
        for file in files
        for _, pod in find_templates(json.loads(file.read_text()))
    ]
    assert len(found) >= 6
    for template in found:
        pod = template.of_class(name)
        pod["spec"].pop("runtimeClassName", None)  # "runtimeClassNameValue" would conflict with classes that bring one
        assert_admitted_as_promised(pod, target)


@pytest.mark.parametrize("name", CLASSES)
def test_of_recorded_requests_every_pod_is_sized_or_refused_in_words(name: str, shared_data: Path) -> None:
    found = 0
    for file in sorted((shared_data / "admission" / "requests").glob("*.json")):
        for _, pod in find_templates(json.loads(file.read_text()).get("object")):
            found += 1
            assert_admitted_as_promised(Template(file.name, pod, of_daemonset=False).of_class(name), "kubernetes")
    assert found >= 50


# --- the pods of a production GPU cluster -----------------------------------------------------------------------------

_MODELS = {"V100M16": "V100", "V100M32": "V100"}
"""How the trace and the shipped catalogue spell one model; G1 to G3 are anonymous, and no size has them."""


@dataclass(frozen=True)
class TracePod:
    """What one row of the trace asks."""

    cpu_m: int
    memory_mib: int
    gpus: int
    models: tuple[str, ...]

    def of_class(self, name: str) -> Pod:
        """Make a pod of a class with the row's requests."""
        asked = {"cpu": f"{self.cpu_m}m", "memory": f"{self.memory_mib}Mi"}
        limits = {**asked, **({"nvidia.com/gpu": str(self.gpus)} if self.gpus else {})}
        container = {"name": "worker", "image": "x", "resources": {"requests": asked, "limits": limits}}
        return {"metadata": {"annotations": {"podsla.io/class": name}}, "spec": {"containers": [container]}}


def trace_pods(folder: Path) -> Counter[TracePod]:
    """Read both files of the trace; equal asks are counted, not repeated."""
    found: Counter[TracePod] = Counter()
    for name in ("gpu-v2023-pods.csv", "gpu-v2023-pods-gpuspec33.csv"):
        with (folder / "traces" / name).open(newline="") as stream:
            for row in csv.DictReader(stream):
                models = sorted({_MODELS.get(model, model) for model in row["gpu_spec"].split("|") if model})
                asked = int(row["cpu_milli"]), int(row["memory_mib"]), int(row["num_gpu"])
                found[TracePod(*asked, tuple(models))] += 1
    return found


@pytest.mark.parametrize("target", ["kubernetes", "ack-eci"])
def test_every_pod_of_a_gpu_cluster_is_placed_or_refused_with_a_reason(target: str, shared_data: Path) -> None:
    """A class for each set of models that the trace names; pods without a GPU go to `batch`."""
    corpus = trace_pods(shared_data)
    shipped = index(target).catalog
    wanted = sorted({(pod.models, pod.gpus) for pod in corpus if pod.gpus})
    classes = {
        key: SlaClass(f"gpu-{number}", "trace", gpu=ClassGpu(models=key[0], count=key[1]))
        for number, key in enumerate(wanted)
    }
    catalog = make_catalog(shipped.sizes, [*shipped.classes.values(), *classes.values()])
    serving = Serving(compile_index(catalog, load_target(target)))
    outcomes: Counter[str] = Counter()
    for asked, times in corpus.items():
        name = classes[asked.models, asked.gpus].name if asked.gpus else "batch"
        pod = asked.of_class(name)
        answer = admit(pod, {}, serving, TODAY)
        if isinstance(answer, Sized):
            place = answer.place
            size, offer = place.choice.size, place.choice.offer
            assert (offer[VCPU.index] or 0) >= asked.cpu_m
            assert (size.figures[1] or 0) >= asked.memory_mib << 20
            assert size.gpu_count >= asked.gpus
            assert not (asked.gpus and asked.models) or (size.gpu is not None and size.gpu.model in asked.models)
            assert written(strip_ours(dict(answer.pod), pod)) == written(pod)
            outcomes["placed"] += times
        else:
            assert isinstance(answer, Deny)
            assert_refused_in_words(answer, pod)
            outcomes[answer.reason] += times
    assert outcomes.total() == 2 * 8152
    assert outcomes["placed"] >= 10_000, outcomes


# --- drawn pods on the shipped catalogue ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["kubernetes", "ack-eci"])
def shipped(request: pytest.FixtureRequest) -> Index:
    """The shipped catalogue, compiled for a target."""
    return index(request.param)


@settings(max_examples=30)
@given(ask=asks(), more=asks())
def test_the_shipped_catalogue_is_searched_as_by_hand(shipped: Index, ask: Ask, more: Ask) -> None:
    high = tuple(map(max, ask, more))
    for sla_class in shipped.catalog.classes.values():
        small, large = shipped.choose(sla_class, ask), shipped.choose(sla_class, high)
        assert (small.size if small else None) == cheapest_by_hand(shipped, sla_class, ask)
        assert large is None or (small is not None and small.size.order <= large.size.order)


@settings(max_examples=40)
@given(pod=pods(classes=["batch", "general", "net-intensive", "whole-sandbox"]))
def test_a_pod_on_the_shipped_catalogue_is_sized_once_and_for_all(shipped: Index, pod: Pod) -> None:
    answer = admit(pod, {}, Serving(shipped), TODAY)
    if isinstance(answer, Deny):
        assert answer.message
        return
    assert isinstance(answer, Sized)
    assert written(jsonpatch.apply_patch(deepcopy(pod), list(answer.patch))) == written(answer.pod)
    assert written(strip_ours(dict(answer.pod), pod)) == written(pod)
    assert_valid_resources(dict(answer.pod))
    again = admit(answer.pod, {}, Serving(shipped), TODAY)
    assert isinstance(again, Sized)
    assert again.patch == ()

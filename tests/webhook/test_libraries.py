"""A pod that borrows its GPU gets the driver's libraries at its start, by the way that its target names."""

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

import jsonpatch
import pytest

from catalog.fit import compile_index
from catalog.problems import InvalidError
from tests.sample import TODAY, answer, catalog, container, index, pod, sized, target
from webhook.admit import Released, Serving, Sized, admit
from webhook.decision import Deny, Reason

OURS = [
    {"name": "NVIDIA_VISIBLE_DEVICES", "value": "none"},
    {"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "compute,utility"},
]
CDI = "cdi-devices.nri.io/pod"


def on(gpu: str) -> str:
    """A target with *gpu* in its GPUs, and a runtime of its own for class `vm`."""
    runtimes = "{runc: {}, rund: {runtimeClassName: rund, vmBacked: true}}"
    return f"{{runtimes: {runtimes}, gpu: {{resource: g, modelLabel: m, models: {{T4: [t4], A10: [a10]}}, {gpu}}}}}"


ENV = on("gpuLibraries: env")
RUNTIME = on("gpuLibraries: runtimeClass")
BY_CDI = on("gpuLibraries: cdi")


def environments(given: Mapping[str, Any]) -> dict[str, Any]:
    spec = given["spec"]
    return {each["name"]: each.get("env") for each in (*spec.get("initContainers", ()), *spec["containers"])}


def test_by_variables_every_container_gets_them_for_any_may_borrow() -> None:
    given = sized(pod("borrow", container("a"), container("b"), initContainers=[container("fetch")]), ENV).pod

    assert environments(given) == {"fetch": OURS, "a": OURS, "b": OURS}
    assert "runtimeClassName" not in given["spec"]
    assert CDI not in given["metadata"]["annotations"]


def test_by_runtime_class_the_pod_gets_it_and_the_variables() -> None:
    given = sized(pod("borrow"), RUNTIME).pod

    assert given["spec"]["runtimeClassName"] == "nvidia"
    assert environments(given) == {"app": OURS}
    named = sized(pod("borrow"), on("gpuLibraries: runtimeClass, runtimeClassName: gpu-libraries")).pod
    assert named["spec"]["runtimeClassName"] == "gpu-libraries"


def test_by_cdi_the_pod_names_the_device_that_is_libraries_alone() -> None:
    given = sized(pod("borrow"), BY_CDI).pod

    assert json.loads(given["metadata"]["annotations"][CDI]) == ["nvidia.com/gpu=none"]
    assert environments(given) == {"app": None}
    assert "runtimeClassName" not in given["spec"]


@pytest.mark.parametrize("way", [ENV, RUNTIME, BY_CDI], ids=["env", "runtimeClass", "cdi"])
@pytest.mark.parametrize("name", ["gpu", "plain", "net"])
def test_a_pod_that_borrows_nothing_gets_nothing(name: str, way: str) -> None:
    on_the_target = way.replace("runtimes:", "consumers: [{by: node-labels}, {by: reservation}], runtimes:")
    given = sized(pod(name), on_the_target).pod

    assert environments(given) == {"app": None}
    assert "runtimeClassName" not in given["spec"]
    assert CDI not in given["metadata"]["annotations"]


def test_a_target_that_names_no_way_leaves_it_to_the_image() -> None:
    given = sized(pod("borrow")).pod

    assert environments(given) == {"app": None}
    assert "runtimeClassName" not in given["spec"]


def test_the_pods_own_variables_and_their_order_stay() -> None:
    own = [{"name": "MODEL", "value": "m"}, {"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "compute,video"}]
    result = sized(pod("borrow", container(env=own)), ENV)

    assert environments(result.pod) == {"app": [*own, OURS[0]]}
    assert result.warnings == ()


def test_what_the_pod_says_itself_as_we_would_is_its_own() -> None:
    result = sized(pod("borrow", container(env=[*OURS])), ENV)

    assert environments(result.pod) == {"app": OURS}
    free = {**result.pod, "metadata": _without_class(result.pod)}
    released = admit(free, {}, Serving(index(ENV)), TODAY)
    assert isinstance(released, Released)
    assert environments(released.pod) == {"app": OURS}


@pytest.mark.parametrize("value", ["void", ""])
def test_a_container_that_keeps_libraries_out_is_told_so(value: str) -> None:
    result = sized(pod("borrow", container(env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": value}])), ENV)

    assert environments(result.pod)["app"][0]["value"] == value
    assert result.warnings == (
        "container app sets NVIDIA_VISIBLE_DEVICES to void or nothing: it gets no driver libraries",
    )


ALL = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
FROM = [{"name": "NVIDIA_VISIBLE_DEVICES", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]


@pytest.mark.parametrize(
    ("given", "way", "expected"),
    [
        pytest.param(
            pod("borrow", container("a"), container("b", env=ALL)),
            ENV,
            Deny(
                Reason.GPU_CONFLICT,
                "container 'b' sets NVIDIA_VISIBLE_DEVICES to 'all', which opens GPUs that nobody lent it; "
                "remove the variable",
            ),
            id="a container that shows itself every GPU",
        ),
        pytest.param(
            pod("borrow", initContainers=[container("fetch", env=FROM)]),
            RUNTIME,
            Deny(
                Reason.GPU_CONFLICT,
                "container 'fetch' sets NVIDIA_VISIBLE_DEVICES to a value that is not known here, which opens GPUs "
                "that nobody lent it; remove the variable",
            ),
            id="a value that the cluster finds out later",
        ),
        pytest.param(
            pod("borrow", runtimeClassName="gvisor"),
            RUNTIME,
            Deny(
                Reason.RUNTIME_CONFLICT,
                "the pod has runtimeClassName 'gvisor', and the GPU driver's libraries come by 'nvidia'; remove it",
            ),
            id="another runtime class",
        ),
        pytest.param(
            pod("borrow", annotations={CDI: '["nvidia.com/gpu=all"]'}),
            BY_CDI,
            Deny(
                Reason.GPU_CONFLICT,
                "annotation cdi-devices.nri.io/pod is '[\"nvidia.com/gpu=all\"]', and a pod that borrows gets "
                "'[\"nvidia.com/gpu=none\"]': libraries, and no GPU of its own; remove the annotation",
            ),
            id="a CDI device of its own",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(given: Mapping[str, Any], way: str, expected: Deny) -> None:
    assert answer(given, way) == expected


def test_a_class_on_another_runtime_cannot_lend_by_runtime_class() -> None:
    borrow_in_vm = "\n  - {name: borrow-vm, runtime: rund, gpu: {models: [T4], mode: on-demand}}\n"
    result = admit(
        pod("borrow-vm"), {}, Serving(compile_index(catalog(classes=borrow_in_vm), target(RUNTIME))), date(2026, 11, 23)
    )

    assert result == Deny(
        Reason.RUNTIME_CONFLICT,
        "class 'borrow-vm' has runtimeClassName 'rund', and the GPU driver's libraries come by 'nvidia'; "
        "name a class without a runtime, or ask the owner of 'test'",
    )


def test_the_runtime_class_that_the_pod_has_itself_is_kept() -> None:
    assert sized(pod("borrow", runtimeClassName="nvidia"), RUNTIME).pod["spec"]["runtimeClassName"] == "nvidia"
    assert sized(pod("borrow", runtimeClassName="gvisor"), ENV).pod["spec"]["runtimeClassName"] == "gvisor"


@pytest.mark.parametrize("way", [ENV, RUNTIME, BY_CDI], ids=["env", "runtimeClass", "cdi"])
def test_deciding_again_changes_nothing_and_a_pod_without_its_class_is_as_it_was(way: str) -> None:
    given = pod("borrow", container("a", env=[{"name": "MODEL", "value": "m"}]), initContainers=[container("fetch")])
    first = sized(given, way)

    assert jsonpatch.apply_patch(given, list(first.patch)) == first.pod
    assert sized(first.pod, way).patch == ()
    released = admit({**first.pod, "metadata": _without_class(first.pod)}, {}, Serving(index(way)), TODAY)
    assert isinstance(released, Released)
    assert released.pod["spec"] == given["spec"]
    assert CDI not in released.pod["metadata"]["annotations"]


def test_what_another_changed_since_is_its_own_word() -> None:
    first = sized(pod("borrow"), ENV).pod
    spec = first["spec"]
    changed = [{**OURS[0], "value": "void"}, OURS[1]]
    edited = {**first, "spec": {**spec, "containers": [{**spec["containers"][0], "env": changed}]}}

    result = sized(edited, ENV)

    assert environments(result.pod) == {"app": changed}
    assert [w for w in result.warnings if "NVIDIA" in w]


def test_the_class_name_of_the_runtime_stands_only_beside_what_reads_it() -> None:
    with pytest.raises(InvalidError) as caught:
        target(on("gpuLibraries: env, runtimeClassName: nvidia"))

    assert [problem.message for problem in caught.value.problems] == [
        "is for gpuLibraries: runtimeClass alone; write that beside it, or take it away"
    ]


def test_a_way_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidError) as caught:
        target(on("gpuLibraries: hostPath"))

    assert "gpuLibraries" in str(caught.value)


@pytest.mark.parametrize("env", [["A=1"], [{"value": "1"}], [None], "A", {"A": "1"}])
def test_variables_of_the_wrong_form_are_the_pods_fault(env: Any) -> None:
    refused = answer(pod("borrow", container(env=env)), ENV)

    assert isinstance(refused, Deny)
    assert refused.reason is Reason.INVALID_POD


def _without_class(given: Mapping[str, Any]) -> dict[str, Any]:
    annotations = {**given["metadata"]["annotations"], "podsla.io/class": "none"}
    return {**given["metadata"], "annotations": annotations}


def test_variables_are_ours_to_take_back_on_a_pod_that_is_no_borrower_any_more() -> None:
    first = sized(pod("borrow"), ENV).pod
    annotations = {**first["metadata"]["annotations"], "podsla.io/class": "plain"}
    again = admit(
        {**first, "metadata": {**first["metadata"], "annotations": annotations}}, {}, Serving(index(ENV)), TODAY
    )

    assert isinstance(again, Sized)
    assert environments(again.pod) == {"app": None}

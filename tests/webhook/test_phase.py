"""A container that is a GPU phase gets a sidecar that borrows, and a program in front of its command."""

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from catalog.dimension import MEMORY, VCPU
from catalog.problems import InvalidError
from tests.builders import review, workload
from tests.sample import TODAY, answer, container, index, pod, sized, target
from tests.strategies import Pod, assert_valid_resources, pods, qos, written
from tests.webhook.test_app import ask, patched
from webhook.admit import Released, Serving, Sized, admit
from webhook.decision import Deny, Reason

IMAGE = "registry.example/podsla:1"
GPU = "{resource: nvidia.com/gpu, modelLabel: m, models: {T4: [t4], A10: [a10]}"
ON = f"{{gpu: {GPU}, phaseImage: '{IMAGE}'}}}}"
CONTAINERS = f"{{resources: containers, gpu: {GPU}, phaseImage: '{IMAGE}'}}}}"
WITH_LIBRARIES = f"{{gpu: {GPU}, gpuLibraries: env, phaseImage: '{IMAGE}'}}}}"
KEY = "podsla.io/gpu-phase"
OURS = "podsla-gpu-phase"
FRONT = ["/run/podsla-gpu-phase/run", "--"]
MOUNT = {"name": OURS, "mountPath": "/run/podsla-gpu-phase"}

SIDECAR: dict[str, Any] = {
    "name": OURS,
    "image": IMAGE,
    "restartPolicy": "Always",
    "command": ["podsla-phase", "put", MOUNT["mountPath"], "python3", "-m", "podsla.phase", MOUNT["mountPath"]],
    "args": ["--container=infer", "--resource=nvidia.com/gpu", "--count=1", "--model=A10", "--model=T4"],
    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
    "startupProbe": {"exec": {"command": [FRONT[0], "there"]}, "periodSeconds": 1, "failureThreshold": 300},
    "volumeMounts": [MOUNT],
    "securityContext": {
        "runAsUser": 65532,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}


def phased(*containers: Mapping[str, Any], name: str = "borrow", phase: str = "infer", **spec: Any) -> dict[str, Any]:
    """A pod whose container `infer` is a phase; it is an init container between two others unless some are given."""
    annotations = {KEY: f"container={phase}", **spec.pop("annotations", {})}
    if not containers:
        phases = [container("fetch"), container("infer", command=["python", "infer.py"], args=["--batch=8"])]
        spec = {"initContainers": phases, **spec}
        containers = (container("report"),)
    return pod(name, *containers, annotations=annotations, **spec)


def parts(given: Mapping[str, Any]) -> dict[str, Any]:
    """By name, the containers of a pod, in the order in which they start."""
    spec = given["spec"]
    return {each["name"]: each for each in (*spec.get("initContainers", ()), *spec["containers"])}


def without_class(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same pod, which its owner takes out of podsla's hands."""
    annotations = {key: text for key, text in given["metadata"]["annotations"].items() if key != KEY}
    return {**given, "metadata": {**given["metadata"], "annotations": {**annotations, "podsla.io/class": "none"}}}


# --- what is written --------------------------------------------------------------------------------------------------


def test_all_of_it_as_it_stands_in_the_pod() -> None:
    given = phased()

    spec = sized(given, ON).pod["spec"]

    fetch, infer = given["spec"]["initContainers"]
    wrapped = {**infer, "command": [*FRONT, "python", "infer.py"], "volumeMounts": [{**MOUNT, "readOnly": True}]}
    assert spec["initContainers"] == [SIDECAR, fetch, wrapped]
    assert spec["volumes"] == [{"name": OURS, "emptyDir": {}}]
    (report,) = spec["containers"]
    assert report["resources"]["limits"] == {"podsla.io/gpu-seats": "1"}  # it is on demand without saying so
    assert "command" not in report


def test_every_operation_adds() -> None:
    """Nothing of the pod's own is written anew, so that no two webhooks undo one another."""
    own: dict[str, Any] = {"volumes": [{"name": "data", "emptyDir": {}}]}
    patch = sized(
        phased(container("infer", command=["a"], volumeMounts=[{"name": "data", "mountPath": "/d"}]), **own), ON
    ).patch

    assert {each["op"] for each in patch} == {"add"}
    paths = [each["path"] for each in patch]
    assert [p for p in paths if "command" in p] == ["/spec/containers/0/command/0", "/spec/containers/0/command/1"]
    assert {"/spec/initContainers", "/spec/volumes/-", "/spec/containers/0/volumeMounts/-"} <= {*paths}


def test_the_sidecar_comes_first_for_it_has_to_be_there_before_the_phase() -> None:
    patch = sized(phased(), ON).patch

    assert [each["path"] for each in patch if "initContainers" in each["path"]][:1] == ["/spec/initContainers/0"]


@pytest.mark.parametrize(
    "more", [{}, {"restartPolicy": "Always"}], ids=["an init container", "a container that runs beside others"]
)
def test_any_kind_of_container_can_be_a_phase(more: dict[str, Any]) -> None:
    given = phased(container("web"), initContainers=[container("infer", command=["a"], **more)])
    assert parts(sized(given, ON).pod)["infer"]["command"] == [*FRONT, "a"]


def test_a_main_container_among_others_can_be_a_phase() -> None:
    found = parts(sized(phased(container("web", command=["w"]), container("infer", command=["a"])), ON).pod)

    assert list(found) == [OURS, "web", "infer"]
    assert (found["web"]["command"], found["infer"]["command"]) == (["w"], [*FRONT, "a"])
    assert "volumeMounts" not in found["web"]


def test_what_it_costs_is_counted() -> None:
    plain, phase = (
        sized(pod("borrow", container("infer", command=["a"])), ON),
        sized(phased(container("infer", command=["a"])), ON),
    )

    more = [phase.place.demand[d.index] - plain.place.demand[d.index] for d in (VCPU, MEMORY)]
    assert more == [100, 64 << 20]


def test_a_pod_with_resources_of_its_own_pays_for_it_out_of_these() -> None:
    """Containers may not ask more than their pod has."""
    own = {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "500m", "memory": "256Mi"}}
    full = container("infer", requests=own["requests"], limits=own["limits"], command=["a"])
    found = sized(phased(full, resources=own), ON).pod

    assert parts(found)[OURS]["resources"] == {}
    assert_valid_resources(dict(found))


def test_no_driver_libraries_go_where_no_gpu_goes() -> None:
    found = parts(sized(phased(), WITH_LIBRARIES).pod)

    assert "env" not in found[OURS]
    assert [each["name"] for each in found["infer"]["env"]] == ["NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"]


@pytest.mark.parametrize("name", ["gpu", "any-gpu"])
def test_a_class_that_gives_a_gpu_for_life_lends_it_to_a_phase(name: str) -> None:
    found = sized(phased(name=name), ON).pod
    assert "nvidia.com/gpu" not in json.dumps([each.get("resources") for each in parts(found).values()])


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "on", "expected"),
    [
        pytest.param(
            phased(annotations={KEY: "infer"}),
            ON,
            Deny(
                Reason.INVALID_PHASE,
                "podsla.io/gpu-phase is 'infer'; write container=NAME, with one of: fetch, infer, report",
            ),
            id="another form",
        ),
        pytest.param(
            phased(annotations={KEY: "container=infer,container=fetch"}),
            ON,
            Deny(
                Reason.INVALID_PHASE,
                "podsla.io/gpu-phase is 'container=infer,container=fetch'; write container=NAME, with one of: "
                "fetch, infer, report",
            ),
            id="two of them",
        ),
        pytest.param(
            phased(phase="infre"),
            ON,
            Deny(Reason.INVALID_PHASE, "podsla.io/gpu-phase: the pod has no container 'infre'; did you mean infer?"),
            id="a typo",
        ),
        pytest.param(
            phased(phase="report"),
            ON,
            Deny(
                Reason.NO_COMMAND,
                "container 'report' leaves its command to its image, and podsla.io/gpu-phase stands in front of a "
                "command; write the image's entrypoint into the container's command",
            ),
            id="a command that only the image knows",
        ),
        pytest.param(
            phased(os={"name": "windows"}),
            ON,
            Deny(
                Reason.INVALID_PHASE,
                "podsla.io/gpu-phase: what stands in front of a phase's command runs on Linux only",
            ),
            id="Windows",
        ),
        pytest.param(
            phased(container("infer", command=["a"]), container(OURS, command=["b"])),
            ON,
            Deny(
                Reason.INVALID_PHASE,
                "podsla.io/gpu-phase adds a container podsla-gpu-phase, and the pod has another one of this name; "
                "rename it",
            ),
            id="the name is taken",
        ),
        pytest.param(
            phased(),
            f"{{gpu: {GPU}}}}}",
            Deny(
                Reason.NO_CONSUMER,
                "podsla.io/gpu-phase needs an image that borrows beside the container, and this target names none; "
                "set gpu.phaseImage of the target to podsla's image",
            ),
            id="a target without the image",
        ),
        pytest.param(
            phased(),
            "{consumers: []}",
            Deny(
                Reason.NO_CONSUMER,
                "class 'borrow' gives a GPU (A10, T4), and target 'test' has no name for it; "
                "add it to the target's gpu.models",
            ),
            id="a target without GPUs",
        ),
        pytest.param(
            phased(name="plain"),
            ON,
            Deny(
                Reason.NOT_TUNABLE,
                "class 'plain' names no GPU to borrow; classes that do: any-gpu, borrow, gpu",
            ),
            id="a class without a GPU",
        ),
        pytest.param(
            pod(None, container("infer", command=["a"]), annotations={KEY: "container=infer"}),
            ON,
            Deny(
                Reason.KEY_WITHOUT_CLASS,
                "podsla.io/gpu-phase has no effect without a class; add podsla.io/class, or remove it",
            ),
            id="no class",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(given: Mapping[str, Any], on: str, expected: Deny) -> None:
    assert answer(given, on) == expected


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [container("infer", command="python")]},
        {"containers": [container("infer", command=["a"], volumeMounts={"name": "x"})]},
        {"containers": [container("infer", command=["a"], volumeMounts=["x"])]},
        {"containers": [container("infer", command=["a"])], "volumes": ["x"]},
    ],
    ids=["a command that is text", "mounts that are a mapping", "a mount that is text", "a volume that is text"],
)
def test_parts_of_the_wrong_form_are_the_pods_fault(spec: dict[str, Any]) -> None:
    refused = answer({**phased(), "spec": spec}, ON)

    assert isinstance(refused, Deny)
    assert refused.reason is Reason.INVALID_POD


def test_an_image_that_is_no_name_is_refused_where_the_target_is_read() -> None:
    with pytest.raises(InvalidError, match="phaseImage"):
        target("{gpu: {resource: g, modelLabel: m, phaseImage: ''}}")


# --- over the wire ----------------------------------------------------------------------------------------------------


def test_over_the_wire_a_pod_is_patched_and_a_template_warned_of() -> None:
    serves: dict[str, Any] = {"serving": lambda: Serving(index(ON))}
    given = {**phased(), "metadata": {**phased()["metadata"], "namespace": "team-a"}}

    assert patched(given, ask(review(given), **serves)) == sized(given, ON).pod

    wrong = phased(phase="report")
    template = {"metadata": wrong["metadata"], "spec": wrong["spec"]}
    told = ask(review(workload("Job", template=template)), "/templates", **serves)
    assert told["allowed"]
    assert " ".join(told["warnings"]).startswith("podsla will refuse these pods (NoCommand): container 'report' leaves")
    refused = ask(review(wrong), **serves)
    assert (refused["allowed"], refused["status"]["reason"]) == (False, "NoCommand")


# --- called again -----------------------------------------------------------------------------------------------------


def test_what_others_did_to_it_meanwhile_stays() -> None:
    """LimitRange fills in, a mesh puts its own sidecar first, another engine wraps the command once more."""
    first = deepcopy(dict(sized(phased(), ON).pod))
    sidecar, fetch, infer = first["spec"]["initContainers"]
    sidecar["env"] = [{"name": "HTTPS_PROXY", "value": "x"}]
    infer["command"] = ["/argo/emissary", "--", *infer["command"]]
    first["spec"]["initContainers"] = [container("istio-proxy", restartPolicy="Always"), sidecar, fetch, infer]

    again = sized(first, ON)

    assert parts(again.pod)["infer"]["command"] == ["/argo/emissary", "--", *FRONT, "python", "infer.py"]
    assert parts(again.pod)[OURS]["env"] == sidecar["env"]
    assert [each["name"] for each in again.pod["spec"]["initContainers"]] == ["istio-proxy", OURS, "fetch", "infer"]


def test_another_container_becomes_the_phase() -> None:
    first = deepcopy(
        dict(sized(phased(container("a", command=["a"]), container("b", command=["b"]), phase="a"), ON).pod)
    )
    first["metadata"]["annotations"][KEY] = "container=b"

    found = parts(sized(first, ON).pod)

    assert (found["a"]["command"], found["b"]["command"]) == (["a"], [*FRONT, "b"])
    assert "volumeMounts" not in found["a"]
    assert found[OURS]["args"][0] == "--container=b"


def test_a_copy_whose_record_nobody_knows_any_more_keeps_its_sidecar_and_gets_no_second_one() -> None:
    """As a backup that is restored after many revisions."""
    first = deepcopy(dict(sized(phased(), ON).pod))
    first["metadata"]["annotations"]["podsla.io/record"] = "{}"

    again = sized(first, ON)

    assert again.pod["spec"]["initContainers"] == first["spec"]["initContainers"]
    assert again.pod["spec"]["volumes"] == first["spec"]["volumes"]
    assert sized(again.pod, ON).patch == ()


@st.composite
def phased_pods(draw: st.DrawFn) -> Pod:
    """Draw a pod, one of whose containers is a phase."""
    found = draw(pods(classes=("borrow", "any-gpu", "gpu")))
    every = [*(found["spec"].get("initContainers") or []), *found["spec"]["containers"]]
    chosen = draw(st.sampled_from(every))
    chosen["command"] = draw(st.lists(st.sampled_from(["a", "--", "/x/run", "$(B)"]), min_size=1, max_size=4))
    if draw(st.booleans()):
        chosen["volumeMounts"] = draw(st.sampled_from([None, [], [{"name": "e", "mountPath": "/e"}]]))
    found["metadata"]["annotations"][KEY] = f"container={chosen['name']}"
    found["metadata"]["annotations"].pop("podsla.io/min-pps", None)
    return found


on_either = st.sampled_from([ON, CONTAINERS, WITH_LIBRARIES])


def admitted(given: Pod, on: str) -> Sized:
    """Admit a pod; the example does not count where it gets no size."""
    result = answer(given, on)
    if not isinstance(result, Sized):
        reject()
    return result


@given(given=phased_pods(), on=on_either)
def test_the_patch_makes_the_pod_and_deciding_again_changes_nothing(given: Pod, on: str) -> None:
    first = admitted(given, on)

    assert written(jsonpatch.apply_patch(deepcopy(given), json.loads(json.dumps(first.patch)))) == written(first.pod)
    again = answer(deepcopy(dict(first.pod)), on)
    assert isinstance(again, Sized)
    assert (again.patch, again.place, again.again) == ((), first.place, True)


@given(given=phased_pods(), on=on_either)
def test_a_pod_that_names_no_class_any_more_is_as_it_was(given: Pod, on: str) -> None:
    first = admitted(given, on)
    released = admit(without_class(first.pod), {}, Serving(index(on)), TODAY)

    assert isinstance(released, Released)
    found, before = (
        parts(released.pod),
        parts({"spec": {**given["spec"], "initContainers": given["spec"].get("initContainers") or []}}),
    )
    assert list(found) == list(before)
    for name, each in before.items():
        assert found[name].get("command") == each.get("command")
        assert (found[name].get("volumeMounts") or []) == (each.get("volumeMounts") or [])
    assert (released.pod["spec"].get("volumes") or []) == (given["spec"].get("volumes") or [])


@given(given=phased_pods(), on=on_either)
def test_no_pod_gets_what_the_api_server_would_refuse_or_another_qos(given: Pod, on: str) -> None:
    found = dict(admitted(given, on).pod)

    assert_valid_resources(found)
    if qos(given) == "Guaranteed":
        assert qos(found) == "Guaranteed"

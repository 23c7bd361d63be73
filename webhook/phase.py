"""
A container that is a GPU phase: what the annotation asks, and what is written into the pod for it. Pure.

A native sidecar of podsla's image borrows for each run of the container, and a small static program that it puts into
a shared folder stands in front of the container's command: `podsla.phase` says how the two speak. A command that only
the image knows cannot be stood in front of.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from catalog.keys import GPU_PHASE, GPU_PHASE_CONTAINER
from catalog.model import SlaClass
from catalog.pod import Container, Kind, Subject
from catalog.problems import nearest
from catalog.target import TargetGpu
from webhook.compute import has_pod_level
from webhook.decision import Deny, Phase, Reason

Fields = Mapping[str, Any]

FOLDER: Final = "/run/podsla-gpu-phase"
FRONT: Final = (f"{FOLDER}/run", "--")
RESOURCES: Final = (("cpu", "100m"), ("memory", "64Mi"))  # it waits, mostly; Python itself takes half of the memory
USER: Final = 65532
_SYNTAX: Final = re.compile(r"container=([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)")


def read_phase(subject: Subject, text: str) -> str | Deny:
    """Find the container that is the phase, or what is wrong with it."""
    names = [container.name for container in subject.containers if container.name != GPU_PHASE_CONTAINER]
    matched = _SYNTAX.fullmatch(text)
    if matched is None:
        known = ", ".join(names)
        return Deny(Reason.INVALID_PHASE, f"{GPU_PHASE} is {text[:100]!r}; write container=NAME, with one of: {known}")
    name = matched[1]
    if name not in names:
        return Deny(Reason.INVALID_PHASE, f"{GPU_PHASE}: the pod has no container {name!r}; {nearest(name, names)}")
    if subject.windows:
        return Deny(Reason.INVALID_PHASE, f"{GPU_PHASE}: what stands in front of a phase's command runs on Linux only")
    taken = next((c for c in subject.containers if c.name == GPU_PHASE_CONTAINER), None)
    if taken is not None and taken.kind is not Kind.SIDECAR:
        message = f"{GPU_PHASE} adds a container {GPU_PHASE_CONTAINER}, and the pod has another one of this name"
        return Deny(Reason.INVALID_PHASE, f"{message}; rename it")
    if name not in subject.commands:
        message = f"container {name!r} leaves its command to its image, and {GPU_PHASE} stands in front of a command"
        return Deny(Reason.NO_COMMAND, f"{message}; write the image's entrypoint into the container's command")
    return name


def plan_phase(subject: Subject, container: str, sla_class: SlaClass, gpu: TargetGpu) -> Phase | Deny:
    """Say what a phase gets: the GPUs that its class lends, by a sidecar of the image that the target names."""
    if gpu.phase_image is None:
        message = f"{GPU_PHASE} needs an image that borrows beside the container, and this target names none"
        return Deny(Reason.NO_CONSUMER, f"{message}; set gpu.phaseImage of the target to podsla's image")
    count, models = (sla_class.gpu.count, sla_class.gpu.models) if sla_class.gpu else (1, ())
    if not gpu.spellings(models):
        models = ()  # placed by another way than the label that names models, which an attachment would be held to
    options = [f"--container={container}", f"--resource={gpu.resource}", f"--count={count}"]
    return Phase(
        container=container,
        image=gpu.phase_image,
        options=(*options, *(f"--model={model}" for model in models)),
        resources=() if has_pod_level(subject) else RESOURCES,  # else the sum could end above what the pod may have
        own=any(each.name == GPU_PHASE_CONTAINER for each in subject.containers),
    )


def beside(subject: Subject, phase: Phase | None) -> Subject:
    """Count the sidecar among the pod's containers: first, as it is written."""
    if phase is None or phase.own:
        return subject
    sidecar = Container(GPU_PHASE_CONTAINER, Kind.SIDECAR, phase.resources, phase.resources)
    return replace(subject, containers=(sidecar, *subject.containers))


def set_phase(spec: Fields, new: Phase | None, old: Phase | None) -> Fields:
    """Write a phase into a pod's spec: what stands there already stays, and what *old* alone wanted goes."""
    if new is None and old is None:
        return spec
    undo = old if old is not None and not old.own else None
    groups: dict[str, list[Any]] = {}
    for group in ("initContainers", "containers"):
        groups[group] = [_set_front(each, new, undo) for each in spec.get(group) or ()]
    groups["initContainers"] = _set_sidecar(groups["initContainers"], new, undo)
    groups["volumes"] = _set_named(spec.get("volumes"), _VOLUME, wanted=new is not None, goes=undo is not None)
    changed = {key: items for key, items in groups.items() if not _is_same(spec.get(key), items)}
    kept = {key: value for key, value in spec.items() if changed.get(key, True)}
    return {**kept, **{key: items for key, items in changed.items() if items}} if changed else spec


def _is_same(before: Any, after: list[Any]) -> bool:
    """Tell whether a list is as it was; one that is absent or null is as an empty one."""
    present = before or []
    return len(present) == len(after) and all(old is new for old, new in zip(present, after, strict=True))


def _set_front(container: Fields, new: Phase | None, undo: Phase | None) -> Fields:
    """Put the program in front of the command of the container that is the phase, and take it from any other."""
    name = container.get("name")
    wanted, goes = new is not None and name == new.container, undo is not None and name == undo.container
    if not (wanted or goes):
        return container
    command = list(container.get("command") or ())
    at = next((i for i in range(len(command)) if command[i : i + len(FRONT)] == list(FRONT)), None)
    if wanted and at is None:
        container = {**container, "command": [*FRONT, *command]}
    elif not wanted and at is not None:
        container = {**container, "command": command[:at] + command[at + len(FRONT) :]}
    mounts = _set_named(container.get("volumeMounts"), {**_MOUNT, "readOnly": True}, wanted=wanted, goes=goes)
    if _is_same(container.get("volumeMounts"), mounts):
        return container
    rest = {key: value for key, value in container.items() if key != "volumeMounts"}
    return {**container, "volumeMounts": mounts} if mounts else rest


def _set_sidecar(present: list[Any], new: Phase | None, undo: Phase | None) -> list[Any]:
    there = next((each for each in present if each.get("name") == GPU_PHASE_CONTAINER), None)
    if new is None:
        return [each for each in present if each is not there] if undo is not None else present
    if there is None:
        return [_sidecar(new), *present]
    if undo is None or new == undo:
        return present
    was, wanted = _sidecar(undo), _sidecar(new)
    ours = {key: wanted[key] for key in ("image", "args") if there.get(key) == was[key]}
    return [{**there, **ours} if each is there else each for each in present]


def _set_named(present: Any, thing: Fields, *, wanted: bool, goes: bool) -> list[Any]:
    """Add a thing at the end unless one of its name is there, or take that out."""
    items = list(present or ())
    there = [each for each in items if each.get("name") == thing["name"]]
    if wanted:
        return items if there else [*items, dict(thing)]
    return [each for each in items if each not in there] if goes else items


_MOUNT: Final = {"name": GPU_PHASE_CONTAINER, "mountPath": FOLDER}
_VOLUME: Final = {"name": GPU_PHASE_CONTAINER, "emptyDir": {}}


def _sidecar(phase: Phase) -> dict[str, Any]:
    """Write the container that borrows. It has started once the program can be executed in the shared folder."""
    resources = {"requests": dict(phase.resources), "limits": dict(phase.resources)} if phase.resources else {}
    probe = {"exec": {"command": [FRONT[0], "there"]}, "periodSeconds": 1, "failureThreshold": 300}
    return {
        "name": GPU_PHASE_CONTAINER,
        "image": phase.image,
        "restartPolicy": "Always",
        "command": ["podsla-phase", "put", FOLDER, "python3", "-m", "podsla.phase", FOLDER],
        "args": list(phase.options),
        "resources": resources,
        "startupProbe": probe,
        "volumeMounts": [dict(_MOUNT)],
        "securityContext": {
            "runAsUser": USER,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }

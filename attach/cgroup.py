"""
From the texts of /proc and the names of folders to the cgroup of a container. Pure.

Only a newline ends a line there, and only a space a field: of all that Unicode takes for either, no other is escaped.
Names are taken from the outermost level that has one: a container may make folders with any name below its own.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from attach.model import CgroupVersion, Target

_CONTAINER: Final = re.compile(r"(?:(?:cri-containerd|crio|docker|libpod)-)?([0-9a-f]{64})(?:\.scope)?")
_POD: Final = re.compile(r"pod([0-9a-f-]{32,36})|(?:[^/]+-)?kubepods(?:-[a-z]+)?-pod([0-9a-f_]{32,36})\.slice")
_RUNTIMES: Final = ("cri-containerd", "crio", "docker")
_QOS: Final = ("", "burstable", "besteffort")  # the guaranteed ones lie at the top


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted tree of cgroups that rules device access."""

    version: CgroupVersion
    mount: str


def ruling_hierarchy(mountinfo: str) -> Hierarchy | None:
    """
    Find in /proc/self/mountinfo the tree that rules device access; None: none is mounted.

    Where version 1 has the devices controller, the runtimes use that, whatever else is mounted.
    """
    seen: dict[str, CgroupVersion | None] = {}
    for line in mountinfo.removesuffix("\n").split("\n"):
        before, _, after = line.partition(" - ")
        mount = before.split(" ")[4]
        for covered in [each for each in seen if each == mount or each.startswith(mount.rstrip("/") + "/")]:
            del seen[covered]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            seen[mount] = CgroupVersion.V2
        elif kind == "cgroup" and "devices" in options.split(","):
            seen[mount] = CgroupVersion.V1
    for version in (CgroupVersion.V1, CgroupVersion.V2):
        for mount, found in seen.items():
            if found is version:
                return Hierarchy(version, mount)
    return None


def path_of(proc_cgroup: str, version: CgroupVersion) -> str | None:
    """Read from /proc/PID/cgroup where the process is in the tree that rules devices; None: it is in no such tree."""
    for line in proc_cgroup.removesuffix("\n").split("\n"):
        number, controllers, path = line.split(":", 2)
        rules = number == "0" if version is CgroupVersion.V2 else "devices" in controllers.split(",")
        if rules:
            return path
    return None


def container_id_in(path: str) -> str:
    """Name the container whose cgroup, or a folder of it, this is; "" for none."""
    for part in path.split("/"):
        if match := _CONTAINER.fullmatch(part):
            return match[1]
    return ""


def pod_uid_in(path: str) -> str:
    """Name the pod by its UID; "" for none. A static pod's has no dashes."""
    for part in path.split("/"):
        if _CONTAINER.fullmatch(part):
            return ""
        if match := _POD.fullmatch(part):
            return match[1] or match[2].replace("_", "-")
    return ""


def belongs_to(path: str, target: Target) -> bool:
    """Say whether this is the very container's cgroup: its folder, in its pod's."""
    last = path.rstrip("/").rpartition("/")[2]
    return (
        _CONTAINER.fullmatch(last) is not None
        and container_id_in(path) == target.container_id
        and pod_uid_in(path) == target.uid
    )


def unit_of(path: str) -> str:
    """Name the systemd unit that a container's cgroup is; "" where the runtime makes plain folders."""
    last = path.rstrip("/").rpartition("/")[2]
    return last if last.endswith(".scope") else ""


def usual_places(target: Target) -> Iterator[str]:
    """Name the folders where kubelet and runtimes put such a container, each driver's, by QoS class."""
    escaped = target.uid.replace("-", "_")
    for qos in _QOS:
        yield "/".join(part for part in ("kubepods", qos, f"pod{target.uid}", target.container_id) if part)
        slices = ["kubepods.slice", *([f"kubepods-{qos}.slice"] if qos else [])]
        pod = f"kubepods-{qos}-pod{escaped}.slice" if qos else f"kubepods-pod{escaped}.slice"
        for runtime in _RUNTIMES:
            yield "/".join([*slices, pod, f"{runtime}-{target.container_id}.scope"])

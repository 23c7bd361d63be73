"""Names of cgroups, and which tree of them rules devices."""

import pytest

from attach.cgroup import Hierarchy, belongs_to, container_id_in, path_of, pod_uid_in, ruling_hierarchy, usual_places
from attach.model import CgroupVersion, Target

CID = "0123456789abcdef" * 4
OTHER = "f" * 64
UID = "12345678-1234-1234-1234-123456789abc"
UID_ = UID.replace("-", "_")
WEB = Target("default", "web", UID, CID)
SLICES = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice"
V1, V2 = CgroupVersion


@pytest.mark.parametrize(
    ("path", "container_id", "pod_uid", "is_it"),
    [
        pytest.param(f"/kubepods/burstable/pod{UID}/{CID}", CID, UID, True, id="folders"),
        pytest.param(f"/kubepods/pod{UID}/{CID}", CID, UID, True, id="folders, guaranteed"),
        pytest.param(f"/my/root/kubepods/besteffort/pod{UID}/{CID}", CID, UID, True, id="folders, below another root"),
        pytest.param(f"{SLICES}/cri-containerd-{CID}.scope", CID, UID, True, id="systemd, containerd"),
        pytest.param(f"{SLICES}/crio-{CID}.scope", CID, UID, True, id="systemd, CRI-O"),
        pytest.param(
            f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_}.slice/cri-containerd-{CID}.scope",
            CID,
            UID,
            True,
            id="systemd, below another root",
        ),
        pytest.param(f"{SLICES}/crio-{CID}.scope/container", CID, UID, False, id="crun's folder inside its scope"),
        pytest.param(f"{SLICES}/crio-conmon-{CID}.scope", "", UID, False, id="CRI-O's monitor is no container"),
        pytest.param(f"/kubepods/pod{UID}", "", UID, False, id="the pod's own"),
        pytest.param(f"/kubepods/burstable/pod{UID}/{OTHER}", OTHER, UID, False, id="another container of the pod"),
        pytest.param(f"/system.slice/{CID}", CID, "", False, id="in no pod"),
        pytest.param(f"/kubepods/pod{UID}/{OTHER}/x/{CID}", OTHER, UID, False, id="a folder that a container made"),
        pytest.param(f"/{OTHER}/pod{UID}/{CID}", OTHER, "", False, id="a pod's name below a container is no pod's"),
        pytest.param("/", "", "", False, id="the root"),
        pytest.param("", "", "", False, id="nothing"),
        pytest.param(f"/kubepods/pod{UID}/{CID[:-1]}", "", UID, False, id="an id that is too short"),
        pytest.param(
            "/kubepods/pod" + "a" * 32 + f"/{CID}", CID, "a" * 32, False, id="a static pod's UID has no dashes"
        ),
    ],
)
def test_whose_cgroup_a_path_is(path: str, container_id: str, pod_uid: str, *, is_it: bool) -> None:
    assert (container_id_in(path), pod_uid_in(path), belongs_to(path, WEB)) == (container_id, pod_uid, is_it)


def test_every_usual_place_is_the_containers_own() -> None:
    places = [f"/{place}" for place in usual_places(WEB)]
    assert len(set(places)) == len(places) == 12
    assert all(belongs_to(place, WEB) for place in places)


ROOT = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
TMPFS = "30 20 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
DEVICES = "31 30 0:26 / /sys/fs/cgroup/devices rw shared:9 - cgroup cgroup rw,devices\n"
MEMORY = "32 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
UNIFIED = "33 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
NO_LINE_ENDS = ("\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028")  # but str.splitlines says that they do
PURE = "30 20 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("mountinfo", "expected"),
    [
        pytest.param(ROOT + PURE, Hierarchy(V2, "/sys/fs/cgroup"), id="version 2 alone"),
        pytest.param(ROOT + TMPFS + MEMORY + DEVICES, Hierarchy(V1, "/sys/fs/cgroup/devices"), id="version 1 alone"),
        pytest.param(
            ROOT + TMPFS + DEVICES + UNIFIED,
            Hierarchy(V1, "/sys/fs/cgroup/devices"),
            id="both: devices are version 1's",
        ),
        pytest.param(
            ROOT + TMPFS + MEMORY + UNIFIED, Hierarchy(V2, "/sys/fs/cgroup/unified"), id="no devices in version 1"
        ),
        pytest.param(
            ROOT + TMPFS + DEVICES + PURE, Hierarchy(V2, "/sys/fs/cgroup"), id="version 2 mounted over version 1"
        ),
        pytest.param(ROOT, None, id="none"),
    ],
)
def test_which_tree_rules_devices(mountinfo: str, expected: Hierarchy | None) -> None:
    assert ruling_hierarchy(mountinfo) == expected


@pytest.mark.parametrize("character", NO_LINE_ENDS, ids=ascii)
def test_no_name_of_what_is_mounted_is_a_line_or_a_field_of_its_own(character: str) -> None:
    """A pod's subPath is in its node's list of mounts, under the name that it chose."""
    mounted = f"29 20 8:1 /sub{character}path /var/lib/kubelet/sub{character}path rw - ext4 /dev/sda1 rw\n"
    assert ruling_hierarchy(ROOT + mounted + PURE) == Hierarchy(V2, "/sys/fs/cgroup")


@pytest.mark.parametrize(
    ("text", "version", "expected"),
    [
        pytest.param("5:devices:/a\n0::/b\n", V1, "/a", id="version 1"),
        pytest.param("5:devices:/a\n0::/b\n", V2, "/b", id="version 2 beside version 1"),
        pytest.param("5:cpu,devices:/a:b\n", V1, "/a:b", id="several controllers in one tree, a colon in the path"),
        pytest.param("4:memory:/a\n", V1, None, id="no such tree"),
    ],
)
def test_where_a_process_is(text: str, version: CgroupVersion, expected: str | None) -> None:
    assert path_of(text, version) == expected


@pytest.mark.parametrize("version", CgroupVersion)
@pytest.mark.parametrize("character", NO_LINE_ENDS, ids=ascii)
def test_no_name_of_a_cgroup_puts_a_process_elsewhere(character: str, version: CgroupVersion) -> None:
    """A container may give cgroups below its own any name; the kernel takes none with a newline."""
    text = f"9:pids:/a/x{character}5:devices:/b/x{character}0::/b\n5:devices:/a\n0::/a\n"
    assert path_of(text, version) == "/a"

"""Device nodes in containers of all kinds: what the image, the pod and the runtime make of /dev."""

import ctypes
import errno
import os
import signal
import stat
from pathlib import Path

import pytest

from attach.errors import Gone, Refused
from attach.model import Access, Container, DeviceNode, NodeState, Process, Target
from attach.processes import HostProcesses
from tests.attach.contract import attach, detach, found
from tests.attach.node.containers import GROUP, USER, new_target
from tests.attach.node.world import RealWorld
from tests.waiting import eventually


def test_an_image_with_one_file_in_it_is_enough(world: RealWorld) -> None:
    """Case 19: no shell, no mknod."""
    gpu, web = world.devices[0], world.start()
    assert {path.name for path in web.inner.host_path("/").iterdir()} == {
        "dev", "proc", "sys", "ctl", "tmp", "workload",
    }  # fmt: skip
    attach(world, found(world, web), gpu)
    assert web.opens(gpu.path) == 0


def test_a_read_only_root_file_system_is_no_hindrance(world: RealWorld) -> None:
    """Case 20."""
    gpu, web = world.devices[0], world.start(read_only=True)
    container = found(world, web)
    attach(world, container, gpu)
    assert web.opens(gpu.path) == 0
    detach(world, container, gpu)
    assert web.opens(gpu.path) == errno.ENOENT


def test_a_dev_that_is_mounted_read_only_is_refused_by_name(world: RealWorld) -> None:
    """Case 20, of /dev itself."""
    gpu, web = world.devices[0], world.start()
    container = found(world, web)
    remount_dev_read_only(web.inner.pid)
    with pytest.raises(Refused) as refused:
        world.nodes.show(container, gpu)
    assert refused.value.reason == "DevReadOnly"
    assert world.nodes.state(container, gpu) is NodeState.ABSENT


def remount_dev_read_only(pid: int) -> None:
    """Make a container's /dev read-only, from a child that enters its mount namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
        read_only_remount = 1 | 32
        done = libc.setns(namespace, 0x20000) or libc.mount(b"none", b"/dev", None, read_only_remount, None)
        os._exit(1 if done else 0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_user_namespace_is_served_or_refused_by_name(world: RealWorld) -> None:
    """Case 21: a runtime that mounts /dev inside the namespace leaves no way for a node of the host."""
    gpu, web = world.devices[0], world.start(user_namespace=True)
    container = found(world, web)
    try:
        attach(world, container, gpu)
    except Refused as refused:
        assert refused.reason == "UserNamespace"  # noqa: PT017 - either is right; a node that does not open is not
        assert world.nodes.state(container, gpu) is NodeState.ABSENT
    else:
        assert (web.opens(gpu.path), world.nodes.access(container, gpu)) == (0, Access.OPENS)


def test_a_parent_that_is_a_symlink_leads_nowhere(world: RealWorld) -> None:
    """Case 23: a folder of /dev that points to a path of the host."""
    web = world.start()
    container = found(world, web)
    capability = DeviceNode("/dev/gpu-caps/cap1", world.devices[0].major, world.devices[0].minor)
    outside = world.runtime.machine.folder / "outside"
    outside.mkdir(exist_ok=True)
    web.inner.host_path("/dev/gpu-caps").symlink_to(outside)
    with pytest.raises(Refused) as refused:
        world.nodes.show(container, capability)
    world.nodes.hide(container, capability)

    assert refused.value.reason == "PathLeadsElsewhere"
    assert world.nodes.state(container, capability) is NodeState.FOREIGN
    assert list(outside.iterdir()) == []


def test_a_dev_that_is_a_symlink_leads_nowhere(world: RealWorld, tmp_path: Path) -> None:
    """Case 23: the image's /dev itself, with no mount over it; a process with such a root stands for the container."""
    gpu, container = world.devices[0], found(world, world.start())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "dev").symlink_to("/elsewhere")
    child = os.fork()
    if child == 0:
        os.chroot(tmp_path)
        signal.pause()
    try:
        eventually(lambda: os.readlink(f"/proc/{child}/root") == str(tmp_path))
        ticks = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19])
        linked = Container(container.target, Process(child, ticks), container.cgroup)
        with pytest.raises(Refused) as refused:
            world.nodes.show(linked, gpu)
        assert refused.value.reason == "PathLeadsElsewhere"
        assert list((tmp_path / "elsewhere").iterdir()) == []
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("what", ["all of /dev", "one node"])
def test_a_node_of_the_host_is_recognised_and_never_removed(world: RealWorld, what: str) -> None:
    """Case 24: a pod with a hostPath volume at /dev, or at one node of it."""
    gpu = world.devices[0]
    host = Path("/dev") / f"podsla-attach-test-{os.getpid()}"
    os.mknod(host, 0o666 | stat.S_IFCHR, gpu.rdev)
    try:
        whole = {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "rw"]}
        one = {"destination": "/dev/gpu0", "type": "bind", "source": str(host), "options": ["bind", "rw"]}
        web = world.start(dev_mount=whole) if what == "all of /dev" else world.start(mounts=[one])
        node = DeviceNode(str(host) if what == "all of /dev" else "/dev/gpu0", gpu.major, gpu.minor)
        container = found(world, web)
        assert world.nodes.state(container, node) is NodeState.HOST
        world.nodes.show(container, node)
        world.nodes.hide(container, node)
        assert host.exists()
        assert world.nodes.state(container, node) is NodeState.HOST
    finally:
        host.unlink()


def test_a_tree_that_lies_elsewhere_is_looked_through_once(world: RealWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the kubelet runs in a container: the tests' own tree is below a folder of theirs."""
    (web, other), processes = (world.start(), world.start()), HostProcesses(world.hierarchy)
    container, beside = processes.find(web.target), found(world, other)
    monkeypatch.setattr("attach.processes.belongs_to", lambda *_: pytest.fail("it was looked through again"))

    assert container is not None
    assert processes.find(web.target) == container
    assert processes.find(other.target) == beside


def test_a_process_id_that_came_round_again_is_not_the_container(world: RealWorld) -> None:
    """Case 26."""
    gpu, web = world.devices[0], world.start()
    container = found(world, web)
    later = Container(container.target, Process(container.init.pid, container.init.start_ticks + 1), container.cgroup)
    for step in (world.nodes.state, world.nodes.show, world.nodes.access):
        with pytest.raises(Gone):
            step(later, gpu)
    world.nodes.hide(later, gpu)
    assert not world.processes.signal(later.init, web.target.uid, 9)
    assert world.nodes.state(container, gpu) is NodeState.ABSENT


def test_one_of_two_containers_of_a_pod_gets_the_device(world: RealWorld) -> None:
    """Case 27."""
    gpu, web = world.devices[0], world.start()
    sidecar = world.start(Target("default", "web", web.target.uid, new_target().container_id))
    world.nodes.show(found(world, sidecar), gpu)
    attach(world, found(world, web), gpu)
    assert (web.opens(gpu.path), sidecar.opens(gpu.path)) == (0, errno.EPERM)


def test_a_container_that_joins_the_pod_later_gets_nothing(world: RealWorld) -> None:
    """Case 28: an ephemeral container, as one for debugging, has a cgroup of its own."""
    gpu, web = world.devices[0], world.start()
    attach(world, found(world, web), gpu)
    joined = world.start(Target("default", "web", web.target.uid, new_target().container_id))
    world.nodes.show(found(world, joined), gpu)
    attach(world, found(world, web), gpu)
    assert (web.opens(gpu.path), joined.opens(gpu.path)) == (0, errno.EPERM)


def test_a_container_in_a_sandbox_of_its_own_kernel_is_refused(world: RealWorld) -> None:
    """Case 29: gVisor's process has the container's cgroup, and what is behind it can't be given a device."""
    program = world.runtime.root / "runsc-sandbox"
    if not program.exists():
        program.hardlink_to(world.runtime.root / "workload")
    try:
        web = world.start(program="/runsc-sandbox")
        with pytest.raises(Refused) as refused:
            world.processes.find(web.target)
        assert refused.value.reason == "SandboxedRuntime"
    finally:
        program.unlink()


@pytest.mark.parametrize(
    ("mode", "user", "group", "opens"),
    [
        pytest.param(0o600, 0, 0, False, id="root's alone"),
        pytest.param(0o600, USER, 0, True, id="its user's"),
        pytest.param(0o660, 0, USER, True, id="its group's"),
        pytest.param(0o660, 0, GROUP, True, id="another group's that it is in"),
        pytest.param(0o660, 0, GROUP + 1, False, id="a group's that it is not in"),
    ],
)
def test_it_is_opened_as_the_user_and_groups_of_the_container_may(
    engine: RealWorld, mode: int, user: int, group: int, *, opens: bool
) -> None:
    gpu, web = engine.devices[0], engine.start()
    container = found(engine, web)
    attach(engine, container, gpu)
    os.chown(web.inner.host_path(gpu.path), user, group)
    web.inner.host_path(gpu.path).chmod(mode)
    seen = web.opens(gpu.path), engine.nodes.access(container, gpu)
    assert seen == ((0, Access.OPENS) if opens else (errno.EACCES, Access.FAILS))


@pytest.mark.parametrize("name", ["a b", "a\rb", "a\x1cb", "a\u2028b", "\udcff"], ids=ascii)
def test_no_name_that_a_container_gives_a_cgroup_of_its_own_misleads_the_verification(
    engine: RealWorld, name: str
) -> None:
    """The first process of the container is in it; the child that opens devices has to go there, and answer once."""
    gpu, web, other = engine.devices[0], engine.start(), engine.start()
    container, inner = found(engine, web), Path(found(engine, web).cgroup.path, name)
    inner.mkdir()
    (inner / "cgroup.procs").write_text(str(container.init.pid))
    attach(engine, container, gpu)

    assert found(engine, web) == container
    seen = [engine.nodes.access(each, gpu) for each in (container, found(engine, other))]
    assert seen == [Access.OPENS, Access.MISSING]


def test_the_helper_that_opens_devices_is_replaced_when_it_is_killed(world: RealWorld) -> None:
    gpu, web = world.devices[0], world.start()
    container = found(world, web)
    attach(world, container, gpu)
    assert world.nodes.access(container, gpu) is Access.OPENS
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    (opener,) = [pid for pid in children if b"opener.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(opener), 9)
    assert world.nodes.access(container, gpu) is Access.OPENS
    members = Path(container.cgroup.path, "cgroup.procs").read_text().split()
    assert members == [str(container.init.pid)]

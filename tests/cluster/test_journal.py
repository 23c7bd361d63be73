"""What the launcher writes down before it does it, and takes back whatever happened in between."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.cluster import network
from tests.cluster.network import ip
from tests.cluster.processes import is_alive, start, start_ticks, stop, wait_ready
from tests.cluster.profile import Profile
from tests.cluster.state import (
    Cgroup,
    Cluster,
    ClusterError,
    Command,
    Link,
    Mount,
    Process,
    Resource,
    Route,
    Tree,
    create_folder,
)
from tests.cluster.undo import undo
from tests.waiting import eventually

ROOT: Final = Path(__file__).resolve().parents[2]
SLEEP: Final = ["sleep", "600"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes mounts, links and cgroups: needs root")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster's folder with nothing in it, and at the end no process of it."""
    made = Cluster("test", Profile(), tmp_path / "test", "127.0.0.1", {"kube-apiserver": 1})
    create_folder(made)
    yield made
    undo(made.journal)


def test_what_was_made_is_read_in_order(cluster: Cluster) -> None:
    """Every kind comes back as it was written."""
    made: list[Resource] = [
        Process(1, 2, "etcd"),
        Mount("/a b"),
        Link("l"),
        Route("10.0.0.0/8"),
        Cgroup("/c"),
        Tree("/t"),
        Command(("true", "x y")),
    ]
    for each in made:
        cluster.journal.record(each)

    assert cluster.journal.read() == made

    cluster.journal.keep([])


def test_a_line_that_was_cut_off_never_had_its_effect(cluster: Cluster) -> None:
    """Lines come before effects, so half a line is nothing to take back."""
    cluster.journal.record(Link("whole"))
    with cluster.journal.path.open("a") as journal:
        journal.write('{"boot": "x", "kind": "li')

    assert cluster.journal.read() == [Link("whole")]

    cluster.journal.keep([])


def test_after_a_boot_only_files_are_left(cluster: Cluster) -> None:
    """Pids and links mean something else by then."""
    cluster.journal.record(Tree("/t"))
    cluster.journal.record(Process(1, 2, "etcd"))
    entries = [json.loads(line) | {"boot": "before"} for line in cluster.journal.path.read_text().splitlines()]
    cluster.journal.path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))

    assert cluster.journal.read() == [Tree("/t")]

    cluster.journal.keep([])


@pytest.mark.cluster
def test_undo_ends_what_was_started_as_often_as_it_is_asked(cluster: Cluster) -> None:
    """The second time there is nothing to do."""
    process = start(cluster, "sleep", SLEEP)
    assert is_alive(process)

    undo(cluster.journal)
    undo(cluster.journal)

    assert not is_alive(process)
    assert cluster.journal.read() == []


@pytest.mark.cluster
def test_a_later_process_with_the_same_pid_is_left_alone(cluster: Cluster) -> None:
    """A pid alone is nobody's name."""
    with subprocess.Popen(SLEEP) as bystander:
        ticks = start_ticks(bystander.pid)
        assert ticks is not None
        cluster.journal.record(Process(bystander.pid, ticks - 1, "etcd"))

        undo(cluster.journal)

        assert bystander.poll() is None
        assert cluster.journal.read() == []
        bystander.kill()


@pytest.mark.cluster
def test_a_process_that_ignores_term_is_killed(cluster: Cluster) -> None:
    """No component can keep a cluster from going down."""
    deaf = start(cluster, "deaf", ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"])
    wait_ready(cluster, "it is deaf", lambda: "deaf" in cluster.log("deaf").read_text(), deaf)

    stop(deaf, grace_s=0.2)

    assert not is_alive(deaf)


@pytest.mark.cluster
def test_a_launcher_that_dies_before_it_has_written_starts_nothing(cluster: Cluster) -> None:
    """The program waits for its line in the journal, and ends with the launcher that owes it."""
    trace = cluster.folder / "ran"
    crashing = f"""
import os, signal
from pathlib import Path
from tests.cluster import processes, state
made = state.Cluster("test", None, Path({str(cluster.folder)!r}), "", {{}})
def die(journal, made):
    Path({str(cluster.folder / "pid")!r}).write_text(str(made.pid))
    os.kill(os.getpid(), signal.SIGKILL)
state.Journal.record = die
processes.start(made, "touch", ["touch", {str(trace)!r}])
"""
    died = subprocess.run([sys.executable, "-c", crashing], cwd=ROOT, check=False)
    pid = int((cluster.folder / "pid").read_text())

    eventually(lambda: start_ticks(pid) is None, "the shell at the gate has ended")
    assert died.returncode == -signal.SIGKILL
    assert not trace.exists()


@pytest.mark.cluster
def test_a_process_that_ends_early_is_reported_with_the_end_of_its_log(cluster: Cluster) -> None:
    """Nobody has to look for the log to see why."""
    process = start(cluster, "etcd", ["sh", "-c", "echo first; echo cannot listen: port 2379 is taken; exit 3"])

    with pytest.raises(ClusterError) as caught:
        wait_ready(cluster, "etcd answers", lambda: False, process)

    assert str(caught.value) == (
        f"etcd answers: etcd ended; the end of {cluster.log('etcd')}:\n  first\n  cannot listen: port 2379 is taken"
    )


def test_a_wait_says_what_was_not_so_and_why(cluster: Cluster) -> None:
    """The probe's own error is in the message."""

    def refused() -> bool:
        raise ConnectionRefusedError("connection refused")

    with pytest.raises(ClusterError) as caught:
        wait_ready(cluster, "etcd answers", refused, deadline_s=0.1)

    assert str(caught.value) == "etcd answers: not so within 0 s (connection refused)"


def test_what_cannot_be_taken_back_is_named_and_tried_again(cluster: Cluster) -> None:
    """The rest goes, and a later call finishes the work."""
    good, key = cluster.folder / "good", cluster.folder / "key"
    good.touch()
    blocked = Command(("sh", "-c", f"test -e {key} || {{ echo no key >&2; exit 1; }}"))
    for made in (Tree(str(good)), blocked):
        cluster.journal.record(made)

    with pytest.raises(ClusterError) as caught:
        undo(cluster.journal)
    assert str(caught.value) == f"cannot take back:\n  {blocked}: exit code 1: no key"
    assert not good.exists()
    assert cluster.journal.read() == [blocked]

    key.touch()
    undo(cluster.journal)
    assert cluster.journal.read() == []


def test_a_folder_outside_is_removed_and_a_link_to_one_is_not_followed(cluster: Cluster, tmp_path: Path) -> None:
    """Only what was made goes."""
    outside, kept = tmp_path / "outside", tmp_path / "kept"
    for folder in (outside, kept):
        folder.mkdir()
        (folder / "file").touch()
    (tmp_path / "link").symlink_to(kept)
    for name in ("outside", "link", "never-made"):
        cluster.journal.record(Tree(str(tmp_path / name)))

    undo(cluster.journal)

    assert not outside.exists()
    assert not (tmp_path / "link").is_symlink()
    assert (kept / "file").exists()


def test_the_bridge_of_another_cluster_is_refused_and_never_written_down(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the journal is taken away, so what is another's must not get there."""
    monkeypatch.setattr(network, "BRIDGE", "lo")  # a link that every machine has

    with pytest.raises(ClusterError) as caught:
        network.create_bridge(cluster)

    assert str(caught.value) == (
        "network link lo exists: a machine holds one cluster with real nodes. See `python -m tests.cluster list`, "
        "and take that one down; if none is listed: `ip link delete lo`"
    )
    assert cluster.journal.read() == []


@as_root
@pytest.mark.nodes
def test_mounts_links_routes_and_cgroups_go_with_what_is_in_them(cluster: Cluster) -> None:
    """In reverse order: the mount inside the mount, the process in the cgroup."""
    outer, group = cluster.folder / "m n t", Path("/sys/fs/cgroup/pids/podsla-test-journal")
    if not group.parent.is_dir():
        group = Path("/sys/fs/cgroup/podsla-test-journal")
    link, route = "podsla-test0", "198.51.100.0/24"
    for made in (Mount(str(outer)), Link(link), Route(route), Cgroup(str(group))):
        cluster.journal.record(made)
    outer.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "podsla-test", outer], check=True)
    (outer / "inner").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "podsla-test", outer / "inner"], check=True)
    ip("link", "add", link, "type", "bridge")
    ip("link", "set", link, "up")
    ip("route", "add", route, "dev", link)
    (group / "child").mkdir(parents=True)
    with subprocess.Popen(SLEEP) as member:
        (group / "child" / "cgroup.procs").write_text(str(member.pid))

        undo(cluster.journal)

        assert member.wait(timeout=10) == -signal.SIGKILL
    assert not group.exists()
    assert not Path(f"/sys/class/net/{link}").exists()
    assert "podsla-test" not in Path("/proc/self/mountinfo").read_text()
    assert route not in subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout


@as_root
@pytest.mark.nodes
def test_a_folder_with_a_mount_in_it_is_kept(cluster: Cluster) -> None:
    """What is mounted belongs to someone else, and goes with the folder otherwise."""
    folder = cluster.folder / "tree"
    inner = folder / "mounted"
    inner.mkdir(parents=True)
    cluster.journal.record(Tree(str(folder)))
    subprocess.run(["mount", "-t", "tmpfs", "podsla-test", inner], check=True)
    try:
        (inner / "file").touch()
        with pytest.raises(ClusterError) as caught:
            undo(cluster.journal)
        assert (inner / "file").exists()
    finally:
        subprocess.run(["umount", inner], check=True)

    kept = f"{folder} is kept, since {inner} is mounted in it; unmount, then run down again"
    assert str(caught.value) == f"cannot take back:\n  {Tree(str(folder))}: {kept}"
    undo(cluster.journal)
    assert not folder.exists()


@as_root
@pytest.mark.nodes
def test_what_was_written_down_and_never_made_is_no_error(cluster: Cluster) -> None:
    """A crash between the line and its effect leaves a line only."""
    never: list[Resource] = [
        Mount(str(cluster.folder / "never")),
        Link("podsla-never0"),
        Route("203.0.113.0/24"),
        Cgroup("/sys/fs/cgroup/pids/podsla-never"),
    ]
    for made in never:
        cluster.journal.record(made)

    undo(cluster.journal)

    assert cluster.journal.read() == []

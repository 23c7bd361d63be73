"""Whole clusters: brought up, crashed, side by side, as kind, and gone."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from pytest_kind import KindCluster

import tests.cluster.__main__ as launcher_cli
from tests.cluster.api import Admin
from tests.cluster.lifecycle import is_up
from tests.cluster.processes import is_alive
from tests.cluster.state import Cluster, Process, load_cluster
from tests.waiting import eventually

ROOT: Final = Path(__file__).resolve().parents[2]
KIND: Final = ROOT / "tests" / "cluster" / "kind"
KUBECTL: Final = ROOT / "tests" / "cluster" / "kubectl"
UP_S: Final = 900  # the first run of all builds the programs

pytestmark = pytest.mark.cluster


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder of the test's own; at its end every cluster in it goes down and no process of it is left."""
    monkeypatch.setenv("PODSLA_STATE", str(tmp_path))
    yield tmp_path
    launch("down", "--all")
    assert processes_of(tmp_path) == []


def command(*arguments: str) -> list[str]:
    """The launcher's command line."""
    return [sys.executable, "-m", "tests.cluster", *arguments]


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the launcher as people do."""
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False, timeout=UP_S)


def up(name: str, profile: str = "control-plane") -> Cluster:
    """Bring a cluster up by the command line."""
    done = launch("up", "--name", name, "--profile", profile)
    assert done.returncode == 0, done.stderr
    cluster = load_cluster(name)
    assert cluster is not None
    assert done.stdout == f"export KUBECONFIG={cluster.kubeconfig}\n"
    return cluster


def processes_of(state: Path) -> list[str]:
    """The command lines of all processes that work in the state folder, whoever started them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            where = os.readlink(folder / "cwd")
        except OSError:  # it ended meanwhile
            continue
        if where.startswith(f"{state}/"):
            found.append(line)
    return found


def journalled(cluster: Cluster) -> list[Process]:
    """The processes of a cluster, in the order in which they began."""
    return [made for made in cluster.journal.read() if isinstance(made, Process)]


def test_a_cluster_comes_up_takes_pods_and_goes_without_a_trace(state: Path) -> None:
    """Up, a pod on a simulated node, down, down again."""
    cluster = up("one", "control-plane+kwok=3")
    admin = Admin(cluster)
    pod = {
        "metadata": {"name": "probe"},
        "spec": {"containers": [{"name": "main", "image": "registry.invalid/never-pulled"}]},
    }
    admin.create("/api/v1/namespaces/default/pods", pod)

    def running() -> bool:
        return bool(admin.get("/api/v1/namespaces/default/pods/probe")["status"]["phase"] == "Running")

    eventually(running, "the pod runs")
    names = [process.name for process in journalled(cluster)]
    assert names == ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"]
    assert launch("list").stdout.split()[4:7] == ["one", "up", "control-plane+kwok=3"]

    first, second = launch("down", "--name", "one"), launch("down", "--name", "one")
    assert (first.returncode, first.stderr) == (0, "stopping what is left of one\ncluster one is down\n")
    assert (second.returncode, second.stderr) == (0, "there is no cluster one; nothing to do\n")
    assert processes_of(state) == []
    assert not cluster.folder.exists()


@pytest.mark.usefixtures("state")
def test_a_kwok_node_gives_pods_what_is_published_in_its_capacity_and_takes_it_back() -> None:
    """As a kubelet does; the scheduler reads allocatable only."""
    cluster = up("one", "control-plane+kwok=1")
    admin, path = Admin(cluster), "/api/v1/nodes/ecs-c7-2xlarge-0"
    before = admin.get(path)["status"]["allocatable"]

    def publish(**figures: str | None) -> None:
        named = {f"podsla.io/{name.replace('_', '-')}": figure for name, figure in figures.items()}
        patch = json.dumps({"status": {"capacity": named}})
        done = subprocess.run(
            [KUBECTL, "patch", "node", "ecs-c7-2xlarge-0", "--subresource=status", "--type=merge", f"--patch={patch}"],
            env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def allocatable() -> Any:
        return admin.get(path)["status"]["allocatable"]

    publish(pps="1500001", disk_iops="47500")
    both = before | {"podsla.io/pps": "1500001", "podsla.io/disk-iops": "47500"}
    eventually(lambda: allocatable() == both, "allocatable has both")

    publish(pps="1000001", disk_iops=None)
    eventually(lambda: allocatable() == before | {"podsla.io/pps": "1000001"}, "one is lowered and one is gone")


def heed_interrupts() -> None:
    """Take SIGINT for what it is, also where these tests run in a shell's background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_half_way(how: signal.Signals) -> tuple[Cluster, list[Process], int]:
    """Bring a cluster up, and end the launcher once etcd and kube-apiserver have begun."""
    argv = command("up", "--name", "one", "--profile", "control-plane")
    with subprocess.Popen(argv, cwd=ROOT, preexec_fn=heed_interrupts) as launcher:

        def half_way() -> tuple[Cluster, list[Process]] | None:
            begun = load_cluster("one")
            return (begun, journalled(begun)) if begun is not None and len(journalled(begun)) == 2 else None

        found = eventually(half_way, "etcd and kube-apiserver have begun", UP_S)
        assert found is not None
        launcher.send_signal(how)
    return *found, launcher.returncode


def test_a_launcher_killed_half_way_is_cleaned_up_by_the_next(state: Path) -> None:
    """Nothing of the first try lives on, and the second comes up."""
    crashed, left, returned = end_half_way(signal.SIGKILL)
    assert returned == -signal.SIGKILL
    assert all(map(is_alive, left))
    assert not is_up(crashed)

    cluster = up("one")

    assert not any(map(is_alive, left))
    assert is_up(cluster)
    assert len(processes_of(state)) == 4


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "a cancelled job"])
def test_a_launcher_told_to_end_half_way_takes_back_what_it_began(how: signal.Signals, state: Path) -> None:
    """Nobody has to come after it."""
    cluster, begun, returned = end_half_way(how)

    assert returned == 1
    assert not any(map(is_alive, begun))
    assert processes_of(state) == []
    assert not is_up(cluster)


@pytest.mark.usefixtures("state")
def test_a_cluster_that_lost_a_process_is_made_anew_and_a_whole_one_is_kept() -> None:
    """`up` ends in a cluster that works, and disturbs none that does."""
    first = up("one")
    begun = journalled(first)
    assert journalled(up("one")) == begun

    os.kill(begun[1].pid, signal.SIGKILL)
    eventually(lambda: not is_up(first), "the API server is gone")
    renewed = up("one")

    assert is_up(renewed)
    assert not any(map(is_alive, begun))


@pytest.mark.usefixtures("state")
def test_a_cluster_is_not_turned_into_another() -> None:
    """A running cluster with another profile is someone's."""
    up("one")

    other = launch("up", "--name", "one", "--profile", "control-plane+unlimited")

    assert other.returncode == 1
    assert other.stderr == (
        "Error: cluster 'one' is up with profile control-plane, not control-plane+unlimited; "
        "take it down first, or choose another name\n"
    )


@pytest.mark.usefixtures("state")
def test_two_control_planes_run_side_by_side() -> None:
    """Ports of their own, objects of their own, and one goes without the other."""
    one, two = up("one"), up("two", "control-plane+unlimited")
    Admin(one).create("/api/v1/namespaces", {"metadata": {"name": "only-in-one"}})

    assert not set(one.ports.values()) & set(two.ports.values())
    assert Admin(one).answers(f"{one.server}/api/v1/namespaces/only-in-one")
    assert not Admin(two).answers(f"{two.server}/api/v1/namespaces/only-in-one")

    assert launch("down", "--name", "one").returncode == 0
    assert is_up(two)
    assert Admin(two).answers(f"{two.server}/readyz")


def test_a_component_that_does_not_start_is_named_and_its_log_kept(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came up before it is stopped."""
    broken = state / "broken-scheduler"
    broken.write_text("#!/bin/sh\necho the scheduler is broken\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("TEST_ASSET_KUBE_SCHEDULER", str(broken))

    failed = launch("up", "--name", "one", "--profile", "control-plane")

    log = state / "clusters" / "one" / "log"
    assert failed.returncode == 1
    assert failed.stderr.endswith(
        f"Error: kube-scheduler is healthy: kube-scheduler ended; the end of {log / 'kube-scheduler.log'}:\n"
        f"  the scheduler is broken\n"
        f"cluster 'one' is stopped; its logs are in {log}\n"
    )
    assert processes_of(state) == []
    assert launch("logs", "--name", "one", "kube-scheduler").stdout == "the scheduler is broken\n"


@pytest.mark.usefixtures("state")
def test_logs_and_objects_can_be_collected(tmp_path: Path) -> None:
    """All logs, every kind of object, no Secret."""
    cluster = up("one")
    secret = {"metadata": {"name": "password"}, "stringData": {"word": "a-secret-word"}}
    Admin(cluster).create("/api/v1/namespaces/default/secrets", secret)
    folder = tmp_path / "collected"

    done = launch("collect", "--name", "one", str(folder))

    texts = {path.relative_to(folder): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert done.returncode == 0, done.stderr
    assert {"etcd.log", "kube-apiserver.log", "audit.jsonl"} <= {path.name for path in texts}
    assert "kube-root-ca.crt" in texts[Path("configmaps.yaml")]
    assert not any("a-secret-word" in text for text in texts.values())


def test_pytest_kind_takes_the_launcher_for_kind(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class creates, finds again, uses and deletes a cluster by kind's own sub-commands."""
    monkeypatch.chdir(tmp_path)  # pytest-kind writes .pytest-kind where it is
    monkeypatch.setenv("PODSLA_CLUSTER_PROFILE", "control-plane+kwok=2")
    kind = KindCluster("by-kind", kind_path=KIND, kubectl_path=KUBECTL)

    kind.create()
    again = KindCluster("by-kind", kind_path=KIND, kubectl_path=KUBECTL)
    again.create()

    cluster = load_cluster("by-kind")
    assert cluster is not None
    assert str(cluster.profile) == "control-plane+kwok=2"
    assert again.kubectl("get", "nodes", "--output=name").split() == ["node/ecs-c7-2xlarge-0", "node/ecs-g7-4xlarge-0"]
    assert again.api.get(url="/namespaces/default").json()["status"]["phase"] == "Active"

    again.delete()
    listed = subprocess.run([KIND, "get", "clusters"], capture_output=True, text=True, check=True)
    assert (listed.stdout, listed.stderr) == ("", "No kind clusters found.\n")
    assert processes_of(state) == []


@pytest.mark.usefixtures("state")
def test_the_audit_log_has_our_own_calls_and_how_pods_were_admitted() -> None:
    """From it the least privileges are derived; anybody else's calls stay out."""
    cluster = up("one", "control-plane+kwok=1")
    admin = Admin(cluster)
    admin.create("/api/v1/namespaces", {"metadata": {"name": "podsla-system"}})
    pod = {"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "main", "image": "x"}]}}
    admin.create("/api/v1/namespaces/default/pods", pod)
    admin.create("/api/v1/namespaces/podsla-system/serviceaccounts", {"metadata": {"name": "podsla-controller"}})
    kubectl = [str(KUBECTL), f"--kubeconfig={cluster.kubeconfig}", "--namespace=podsla-system"]
    token = subprocess.run(
        [*kubectl, "create", "token", "podsla-controller"], capture_output=True, text=True, check=True
    )
    anonymous = {key: value for key, value in json.loads(cluster.kubeconfig.read_text()).items() if key != "users"}
    own = cluster.folder / "controller.kubeconfig"
    own.write_text(json.dumps(anonymous | {"users": [{"name": "one", "user": {"token": token.stdout}}]}))
    asked = [str(KUBECTL), f"--kubeconfig={own}", "--namespace=podsla-system", "get", "leases"]
    refused = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert "Forbidden" in refused.stderr

    lines = (cluster.folder / "log" / "audit.jsonl").read_text().splitlines()
    events = [event for line in lines if "objectRef" in (event := json.loads(line))]  # discovery is of no object
    ours = {event["objectRef"].get("resource") for event in events if "podsla-system" in event["user"]["username"]}
    others = [event for event in events if "podsla-system" not in event["user"]["username"]]
    assert "leases" in ours
    assert {(event["verb"], event["objectRef"]["resource"]) for event in others} == {("create", "pods")}
    assert "probe" in {event["objectRef"].get("name") for event in others}


@contextmanager
def taking_back(report: Callable[[str], None]) -> Iterator[None]:
    """Say that what was begun is taken back, while what ended it is on its way."""
    try:
        yield
    finally:
        report("stopping what is left")


def test_an_interrupt_that_python_passed_over_is_heeded_at_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amid a finalizer it is ignored; what takes back what was begun is not interrupted again."""
    told, said = threading.Event(), list[str]()
    monkeypatch.setattr(launcher_cli, "_told_to_end", told)
    report = launcher_cli._heed(said.append)
    report("etcd")
    told.set()
    with pytest.raises(KeyboardInterrupt), taking_back(report):
        report("kube-apiserver")
    assert said == ["etcd", "stopping what is left"]

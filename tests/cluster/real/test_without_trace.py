"""The end: nodes go down with pods on them, and come half-way up and are cleaned away, and nothing of either stays."""

import signal
import subprocess
import sys

import pytest

from tests.cluster.install import ROOT
from tests.cluster.leftovers import leftovers
from tests.cluster.lifecycle import down
from tests.cluster.real.conftest import NAME, PROFILE
from tests.cluster.state import Cluster, Process, load_cluster
from tests.waiting import eventually

pytestmark = pytest.mark.nodes


@pytest.fixture(autouse=True)
def _not_kept(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("keep_cluster"):
        pytest.skip("--keep-cluster was given")


def test_nothing_is_left_after_down(cluster: Cluster, before: frozenset[str]) -> None:
    """No process, mount, link, route, cgroup, chain or file."""
    down(cluster.name, print)

    assert leftovers(before) == []


def test_nothing_is_left_of_nodes_whose_launcher_was_killed(before: frozenset[str]) -> None:
    """Killed with the machine's processes begun and neither node ready."""
    command = [sys.executable, "-m", "tests.cluster", "up", "--name", NAME, "--profile", PROFILE]
    with subprocess.Popen(command, cwd=ROOT) as launcher:

        def begun() -> bool:
            cluster = load_cluster(NAME)
            entries = cluster.journal.read() if cluster else []
            return {"kubelet", "qemu"} <= {entry.name for entry in entries if isinstance(entry, Process)}

        try:
            eventually(begun, "kubelet and virtual machine have begun", 300.0)
        finally:
            launcher.send_signal(signal.SIGKILL)

    down(NAME, print)

    assert leftovers(before) == []

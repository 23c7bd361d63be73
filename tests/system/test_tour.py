"""The README's tour of a cluster, typed in line by line: what it says is there, and `make cluster-down` leaves none."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from catalog.dimension import MEMORY, NIC_QUEUES, PPS, VCPU
from kube.api import Api
from kube.kinds import NODES, PODS
from tests.cluster.install import ROOT
from tests.cluster.leftovers import snapshot
from tests.cluster.lifecycle import clusters, down
from tests.cluster.state import load_cluster
from tests.system.test_mission import ask, holders
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

NAME: Final = "podsla-tour"
SECTION: Final = re.compile(r"^## The same in a cluster\n.*?^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LOOK: Final = "kubectl -n edge get pods"
PLACED: Final = "kubectl -n edge rollout status deployment/edge-gateway --timeout=60s\n"  # a person takes a moment too
DOWN: Final = "make cluster-down\n"
# The floors of net-intensive, and what manifests/examples/edge-gateway.yaml asks beyond them.
WANTED: Final = ask({VCPU: 3200, MEMORY: 6400 << 20, PPS: 1_500_000, NIC_QUEUES: 4})


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody with a state folder of their own, who names no cluster yet."""
    monkeypatch.setenv("PODSLA_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("NAME", NAME)
    for name in ("KUBECONFIG", "PROFILE", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"):  # of `make test`
        monkeypatch.delenv(name, raising=False)
    yield dict(os.environ)
    if load_cluster(NAME) is not None:
        down(NAME, print)


def run(script: str, env: dict[str, str]) -> str:
    """Type lines into one shell; every one must end well."""
    argv = ["bash", "-e", "-c", script]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def processes() -> list[str]:
    """What runs out of the state folder."""
    return [line for line in snapshot() if line.startswith("process ")]


def test_the_tour_of_a_cluster_places_the_pods_and_leaves_no_process(typed: dict[str, str]) -> None:
    section = SECTION.search((ROOT / "README.md").read_text())
    assert section is not None, "the README has no tour of a cluster"
    block = section.group(1)
    assert LOOK in block
    assert block.endswith(DOWN)

    told = run(block.removesuffix(DOWN).replace(LOOK, PLACED + LOOK), typed)

    cluster = load_cluster(NAME)
    assert cluster is not None
    api = Api.connect(cluster.kubeconfig)
    will_do = holders({node["metadata"]["name"]: node for node in api.list(NODES)}, WANTED)
    pods = list(api.list(PODS, "edge", labelSelector="app=edge-gateway"))
    assert (len(pods) > 0, 0 < len(will_do) < 12) == (True, True)
    assert {pod["spec"].get("nodeName") for pod in pods} <= will_do
    assert all(pod["metadata"]["name"] in told for pod in pods)
    assert processes()

    run(DOWN, typed)

    eventually(lambda: not processes(), "every process of the cluster is gone")
    assert list(clusters()) == []

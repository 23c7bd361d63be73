"""The README's tour of a cluster, typed in line by line: what it says is there, and `make cluster-down` leaves none."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from catalog.dimension import MEMORY, NIC_QUEUES, PPS, VCPU
from kube.api import Api
from kube.kinds import NODES, PODS
from tests.cluster.install import ROOT
from tests.cluster.lifecycle import clusters
from tests.cluster.state import load_cluster
from tests.system.test_mission import ask, holders
from tests.system.typed import processes, run, typist
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
    """The environment of somebody who begins."""
    with typist(monkeypatch, tmp_path, NAME) as env:
        yield env


def test_the_tour_of_a_cluster_places_the_pods_and_leaves_no_process(typed: dict[str, str]) -> None:
    section = SECTION.search((ROOT / "README.md").read_text())
    assert section is not None, "the README has no tour of a cluster"
    block = section.group(1)
    assert LOOK in block
    assert block.endswith(DOWN)

    told = run(block.removesuffix(DOWN).replace(LOOK, PLACED + LOOK), typed, ROOT)

    cluster = load_cluster(NAME)
    assert cluster is not None
    api = Api.connect(cluster.kubeconfig)
    will_do = holders({node["metadata"]["name"]: node for node in api.list(NODES)}, WANTED)
    pods = list(api.list(PODS, "edge", labelSelector="app=edge-gateway"))
    assert (len(pods) > 0, 0 < len(will_do) < 12) == (True, True)
    assert {pod["spec"].get("nodeName") for pod in pods} <= will_do
    assert all(pod["metadata"]["name"] in told for pod in pods)
    assert processes()

    run(DOWN, typed, ROOT)

    eventually(lambda: not processes(), "every process of the cluster is gone")
    assert list(clusters()) == []

"""
The README's tour of a borrowed GPU, typed in line by line: one phase of three has it, and gives it back.

It makes this machine a node, which one cluster at a time can: it stands behind `tests/cluster/real`, whose own is down
by then.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from attach.api import Attachment, Type, parse_attachment
from kube.api import Api
from kube.kinds import GPU_ATTACHMENTS
from tests.cluster.install import ROOT
from tests.cluster.lifecycle import clusters
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.needs import absent, need_real_nodes
from tests.cluster.state import load_cluster
from tests.system.typed import processes, run, typist
from tests.waiting import eventually

pytestmark = pytest.mark.nodes

NAME: Final = "podsla-tour-gpu"
BLOCK: Final = re.compile(r"^```sh\n(eval [^\n]* GPUS=1\)\".*?)^```$", re.DOTALL | re.MULTILINE)
DOWN: Final = "make cluster-down\n"
PHASES: Final = ["infer: the GPU opens", "postprocess: the GPU does not open", "preprocess: the GPU does not open"]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody who begins, on a machine that is no node."""
    need_real_nodes()
    if held := [cluster.name for cluster in clusters() if cluster.profile.real]:
        absent(f"this machine is a node of {', '.join(held)}; make cluster-down NAME={held[0]}")
    with typist(monkeypatch, tmp_path, NAME) as env:
        yield env


def test_the_tour_of_a_borrowed_gpu_lends_it_to_one_phase_and_leaves_no_process(typed: dict[str, str]) -> None:
    found = BLOCK.search((ROOT / "README.md").read_text())
    assert found is not None, "the README has no tour of a borrowed GPU"
    block = found.group(1)
    assert block.endswith(DOWN)

    told = run(block.removesuffix(DOWN), typed, ROOT)

    assert sorted(line for line in told.splitlines() if ": the GPU " in line) == PHASES
    assert re.search(rf"^{HOST} GPU-{HOST}-0 .*A", told, re.MULTILINE), told
    assert re.search(r"^A  default/score-\S+  pod score-\S+  waited .+, held .+", told, re.MULTILINE), told
    eventually(lambda: [one.status.has(Type.RELEASED) for one in lent()] == [True], "it is given back")
    assert [one.spec.container for one in lent()] == ["infer"]
    assert processes()

    run(DOWN, typed, ROOT)

    eventually(lambda: not processes(), "every process of the cluster is gone")
    assert list(clusters()) == []


def lent() -> list[Attachment]:
    """List the attachments of the tour."""
    cluster = load_cluster(NAME)
    assert cluster is not None
    return [parse_attachment(each) for each in Api.connect(cluster.kubeconfig).list(GPU_ATTACHMENTS, "default")]

"""What is left of all of it, and which rights it took."""

import json
from typing import Any

import pytest

from kube.kinds import GPU_ATTACHMENTS
from tests.cluster.gpus import AGENTS
from tests.cluster.real.borrow import ENDS, MOVES_S, Gpus
from tests.cluster.state import Cluster
from tests.system.rights import check_least, granted, used
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes


def test_nothing_is_left_of_it(installed: User, gpus: Gpus) -> None:
    """Every attachment has ended and says why, no placeholder runs, and no node has anything of any."""
    ended = [each["status"]["conditions"] for each in installed.api.list(GPU_ATTACHMENTS)]

    assert ended
    assert all(any(c["status"] == "True" and c["type"] in ENDS and c["reason"] for c in each) for each in ended)
    placeholders = ("get", "pods", "-A", "-l", "podsla.io/placeholder", "--field-selector=status.phase=Running")
    eventually(lambda: not installed.kubectl(*placeholders, "-o", "name").stdout, "placeholders have ended", MOVES_S)
    for node in gpus:
        eventually(lambda at=node: left_on(installed, at) == [], f"node {node} has nothing of any", MOVES_S)  # type: ignore[misc]


def left_on(user: User, node: str) -> list[Any]:
    """What the agent of a node has in its journal, and who has a device open in a pod."""
    which = ("-l", "app.kubernetes.io/name=podsla-agent", f"--field-selector=spec.nodeName={node}", "-o", "name")
    agent = user.kubectl("-n", AGENTS, "get", "pods", *which).stdout.strip()
    inspect = ("podsla", "gpu", "inspect", f"--inventory=/gpus/{node}.yaml", "-o", "json")
    told = user.kubectl("-n", AGENTS, "exec", agent, "--", *inspect)
    assert told.returncode == 0, told.stderr
    seen = json.loads(told.stdout)
    holders = [holder for device in seen["devices"] for holder in device["holders"]]
    return [*seen["attachments"], *(holder for holder in holders if holder["podUID"])]


@pytest.mark.usefixtures("gpus")
def test_every_right_of_the_agent_was_used_above_and_no_other(installed: User, cluster: Cluster) -> None:
    """From the audit log of what the tests before made it do."""
    rights = granted(installed, AGENTS)

    assert {right.account for right in rights} == {"podsla-agent"}
    check_least(rights, used(cluster, AGENTS))

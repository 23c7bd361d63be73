"""What is left of all of it, and which rights it took."""

import pytest

from kube.kinds import GPU_ATTACHMENTS
from tests.cluster.gpus import AGENTS
from tests.cluster.real.borrow import (
    MOVES_S,
)
from tests.cluster.state import Cluster
from tests.system.rights import check_least, granted, used
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes


@pytest.mark.usefixtures("gpus")
def test_nothing_is_left_of_it(installed: User) -> None:
    """Every attachment has ended, and no placeholder runs."""
    ended = [each["status"]["conditions"] for each in installed.api.list(GPU_ATTACHMENTS)]

    assert ended
    assert all(any((c["type"], c["status"]) == ("Released", "True") for c in each) for each in ended)
    running = (
        "get",
        "pods",
        "-A",
        "-l",
        "podsla.io/placeholder",
        "--field-selector=status.phase=Running",
        "-o",
        "name",
    )
    eventually(lambda: not installed.kubectl(*running).stdout, "placeholders have ended by themselves", MOVES_S)


@pytest.mark.usefixtures("gpus")
def test_every_right_of_the_agent_was_used_above_and_no_other(installed: User, cluster: Cluster) -> None:
    """From the audit log of what the tests before made it do."""
    rights = granted(installed, AGENTS)

    assert {right.account for right in rights} == {"podsla-agent"}
    check_least(rights, used(cluster, AGENTS))

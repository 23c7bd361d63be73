"""Several GPUs at once on a real node: all of them, or none."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.cluster.gpus import offering, stand_ins
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.borrow import (
    create_attachment,
    lend,
    make_namespace,
    opens,
    remove_namespaces,
    run_borrower,
    take_back,
    wait_condition,
    wait_reason,
)
from tests.cluster.state import Cluster
from tests.system.user import User

pytestmark = pytest.mark.nodes

BOTH_OPEN, NEITHER = ["opens"] * 2, ["denied"] * 2


@pytest.fixture(scope="module")
def devices(installed: User, cluster: Cluster) -> Iterator[Sequence[dict[str, Any]]]:
    """Two devices of this machine."""
    found = stand_ins(HOST)[:2]
    with offering(cluster, {HOST: found}):
        yield found
        remove_namespaces(installed)


def test_who_asks_for_two_has_neither_while_one_of_them_is_lent(
    installed: User, devices: Sequence[dict[str, Any]]
) -> None:
    where = make_namespace(installed, "several")
    for pod in ("one", "both"):
        run_borrower(installed, pod, HOST, where)

    def open_in(pod: str) -> list[str]:
        return [opens(installed, pod, each, where) for each in devices]

    lend(installed, "one", "one", HOST, where)
    create_attachment(installed, "both", "both", where, count=2)
    wait_reason(installed, "both", "Queued", where)
    assert sorted(open_in("one")) == ["denied", "opens"]
    assert open_in("both") == NEITHER

    take_back(installed, "one", where)

    wait_condition(installed, "both", "Attached", where)
    assert (open_in("one"), open_in("both")) == (NEITHER, BOTH_OPEN)
    take_back(installed, "both", where)
    assert open_in("both") == NEITHER

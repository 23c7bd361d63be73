"""Ways to ask on a real node, beside those of the jobs: from a shell in the pod, in code by blocks, from outside."""

from typing import Any, Final, NamedTuple

import pytest

from kube.api import Object
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.borrow import CONTAINER, Gpus, attempt, let_borrow, make_namespace, opens
from tests.cluster.real.phases import lent
from tests.cluster.real.pods import create_pod, run_in, wait_running
from tests.system.user import User

pytestmark = pytest.mark.nodes

POD: Final = "asker"
BLOCKS: Final = """
import asyncio, sys
from podsla import gpu

attempt = ["sh", "-c", sys.argv[1]]

async def in_turn():
    async with gpu.borrow(timeout=120) as lent:
        await lent.arun(attempt)

with gpu.borrow(timeout=120) as lent:
    lent.run(attempt)
asyncio.run(in_turn())
"""


class Asker(NamedTuple):
    """A pod that may borrow, of two containers; what asks runs in the second one, `worker`."""

    user: User
    namespace: str
    gpu: Object

    def run(self, *argv: str) -> str:
        """Run a program in it."""
        return run_in(self.user, POD, *argv, namespace=self.namespace, container="worker")

    def opens(self, container: str = "worker") -> str:
        """Try to open the device in one of its containers."""
        return opens(self.user, POD, self.gpu, self.namespace, container)

    def podsla(self, *argv: str) -> str:
        """Run podsla outside of it, as a person with a kubeconfig."""
        done = self.user.podsla("gpu", *argv, "-n", self.namespace)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def asker(installed: User, gpus: Gpus) -> Asker:
    where = make_namespace(installed, "ways")
    let_borrow(installed, where)
    second: dict[str, Any] = {"name": "worker", "imagePullPolicy": "Never", **CONTAINER}
    main = {"name": "main", "imagePullPolicy": "Never", **CONTAINER}
    create_pod(installed, POD, HOST, CONTAINER, where, containers=[main, second])
    wait_running(installed, POD, where)
    return Asker(installed, where, gpus[HOST][0])


def test_a_command_has_it_in_its_own_container_and_gives_it_back_when_it_is_killed_too(asker: Asker) -> None:
    """Nothing says which container it is: the kubelet's mounts name it."""
    script = f'{attempt(asker.gpu)}; echo "$CUDA_VISIBLE_DEVICES"'
    assert asker.run("podsla", "gpu", "run", "--", "sh", "-c", script).split() == ["opens", asker.gpu["uuid"]]
    assert asker.opens() == "denied"

    killed = f"podsla gpu run -- sh -c '{attempt(asker.gpu)}; kill -KILL $$'; echo \"$?\""
    assert asker.run("sh", "-c", killed).split() == ["opens", "137"]
    assert asker.opens() == "denied"
    assert {one.spec.container for one in lent(asker.user, asker.namespace)} == {"worker"}


def test_blocks_have_it_one_after_the_other(asker: Asker) -> None:
    """The second is asynchronous."""
    assert asker.run("python3", "-c", BLOCKS, attempt(asker.gpu)).split() == ["opens", "opens"]
    assert asker.opens() == "denied"


def test_a_person_attaches_it_from_outside_and_takes_it_back(asker: Asker) -> None:
    """To the container that is named, and no other."""
    asker.podsla("attach", POD, "--container", "worker", "--name", "by-hand")
    assert (asker.opens(), asker.opens("main")) == ("opens", "denied")
    assert "by-hand" in asker.podsla("list")

    asker.podsla("detach", "by-hand")
    asker.podsla("wait", "by-hand", "--for", "released")

    assert asker.opens() == "denied"

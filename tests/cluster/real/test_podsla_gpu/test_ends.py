"""How attachments end on a real node otherwise than given back: quarantined, released by force, failed."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from kube.api import Object
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.borrow import (
    CONTAINER,
    MOVES_S,
    Gpus,
    create_attachment,
    has_condition,
    lend,
    make_namespace,
    opens,
    read,
    release,
    take_back,
    wait_condition,
    wait_reason,
    why_released,
)
from tests.cluster.real.pods import create_pod, wait_running
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes

NAMES: Final = ("doubtful", "after-doubtful", "forced-end")


@pytest.fixture(autouse=True)
def given_back(installed: User) -> Iterator[None]:
    """Take back what a test that fails leaves: all others would wait for it."""
    yield
    installed.kubectl("delete", "gpuattachments", "--ignore-not-found", "--timeout=60s", *NAMES)


@contextmanager
def open_outside(gpu: Object) -> Iterator[None]:
    """Have a device open on this machine in no pod, as somebody has who debugs there."""
    node = f"/dev/{gpu['uuid']}"
    os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(gpu["major"], gpu["minor"]))
    try:
        fd = os.open(node, os.O_RDWR | os.O_NONBLOCK)
        try:
            yield
        finally:
            os.close(fd)
    finally:
        os.unlink(node)


def test_one_that_somebody_else_has_open_is_quarantined_until_it_is_seen_closed(
    installed: User, gpus: Gpus, borrower: str, rival: str
) -> None:
    """It is nobody's, and the next one waits; three looks find it closed, and it is handed on."""
    (gpu,) = gpus[HOST]
    lend(installed, "doubtful", borrower, HOST)
    create_attachment(installed, "after-doubtful", rival)
    with open_outside(gpu):
        release(installed, "doubtful")
        wait_condition(installed, "doubtful", "Quarantined")
        wait_reason(installed, "doubtful", "DeviceBusy")
        assert (opens(installed, borrower, gpu), opens(installed, rival, gpu)) == ("denied", "denied")

    wait_condition(installed, "doubtful", "Released")
    wait_condition(installed, "after-doubtful", "Attached")
    assert (opens(installed, borrower, gpu), opens(installed, rival, gpu)) == ("denied", "opens")
    take_back(installed, "after-doubtful")


def test_a_quarantine_ends_by_force_on_the_word_of_an_administrator(installed: User, gpus: Gpus, borrower: str) -> None:
    """Though it is open still, and of that nobody is told twice."""
    (gpu,) = gpus[HOST]
    lend(installed, "forced-end", borrower, HOST)
    with open_outside(gpu):
        release(installed, "forced-end")
        wait_condition(installed, "forced-end", "Quarantined")

        done = installed.podsla("gpu", "release", "forced-end", "--force")

        assert done.returncode == 0, done.stderr
        wait_condition(installed, "forced-end", "Released")
        assert why_released(installed, "forced-end")
    assert opens(installed, borrower, gpu) == "denied"


def test_one_for_a_container_that_may_open_everything_fails(installed: User, gpus: Gpus) -> None:
    """Access could not be taken back from it; nothing is left reserved."""
    where = make_namespace(installed, "privileged")
    create_pod(installed, "mighty", HOST, {**CONTAINER, "securityContext": {"privileged": True, "runAsUser": 0}}, where)
    wait_running(installed, "mighty", where)

    create_attachment(installed, "too-mighty", "mighty", where)

    told = wait_condition(installed, "too-mighty", "Failed", where)
    (why,) = (each for each in told["status"]["conditions"] if (each["type"], each["status"]) == ("Failed", "True"))
    assert why["reason"] in ("AllDevicesAllowed", "AlreadyAllowed"), why
    assert not has_condition(told, "Attached")
    eventually(lambda: not read(installed, "too-mighty", where).finalized, "nothing is reserved for it", MOVES_S)

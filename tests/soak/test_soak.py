"""`make soak`, cut short: everything that can happen, once, in random order; and an idle connection meanwhile."""

import random
import select
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Final

import pytest

from tests.soak.events import events, left_out
from tests.soak.report import lines
from tests.soak.soak import PER_S, soak
from tests.soak.stand import WAIT_S, Stand
from tests.webhook.test_lifecycle import running
from tests.webhook.test_server import body_of, post, size_of

pytestmark = pytest.mark.cluster

POOL_S: Final = 90.0  # for which the API server keeps an idle connection


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[tuple[bool, str]]]:
    """A connection to another server: whether it was closed while nothing came on it, and what is answered then."""
    with (
        running(tmp_path_factory.mktemp("idle"), "{}") as server,
        closing(server.connect()) as connection,
        ThreadPoolExecutor(1) as beside,
    ):

        def wait() -> tuple[bool, str]:
            post(connection, body_of())
            assert connection.sock is not None
            closed, _, _ = select.select([connection.sock], [], [], POOL_S + 5.0)
            return bool(closed), size_of(post(connection, body_of()))

        yield beside.submit(wait)


@pytest.mark.usefixtures("idle")
def test_whatever_happens_no_planned_event_fails_a_pod_and_no_pod_goes_without_its_size(made: Stand) -> None:
    """A replica that is killed takes the calls with it that were under way or sent before its endpoint left."""
    seed = random.SystemRandom().randrange(10_000)
    said: list[str] = [f"seed {seed}"]
    told = soak(made, 60.0, seed, events(20.0), said.append)
    text = "\n".join([*said, *lines(told), *left_out()])
    print(text)

    assert sum(not one.failed for one in told.made) > 60 * PER_S / 2, text
    assert told.failed(planned=True) == [], text
    assert told.unmutated == 0, text
    assert told.unpublished == set(), text
    assert told.revisions, text
    assert told.grew == [], text
    assert told.wrong == [], text
    assert len(told.failed(planned=False)) <= PER_S * 10, text


def test_row_24_an_idle_connection_is_kept_for_longer_than_the_api_server_keeps_it(
    idle: Future[tuple[bool, str]],
) -> None:
    """Else a pod would be sent on one that is being closed, and nobody repeats it. It waits while the soak goes on."""
    assert idle.result(POOL_S + WAIT_S) == (False, "medium")

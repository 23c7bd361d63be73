"""Who may take a Lease, and when: by observed change alone, never by comparing clocks of two machines."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
import urllib3

from kube.api import CONNECT_TIMEOUT_S, Api
from kube.lease import READ_TIMEOUT_S, Election, Seen, Terms, claim, see

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WHEN = "2026-11-23T12:00:00.000000Z"


def lease(holder: str, renewed: str = "earlier") -> dict[str, Any]:
    return {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15, "leaseTransitions": 3}


@pytest.mark.parametrize(
    ("spec", "seen_since_s", "expected"),
    [
        pytest.param({}, 100.0, {"holderIdentity": "me", "leaseTransitions": 0}, id="no lease yet: taken"),
        pytest.param(lease(""), 100.0, {"holderIdentity": "me", "leaseTransitions": 4}, id="given up: taken at once"),
        pytest.param(lease("me"), 0.0, {"holderIdentity": "me", "leaseTransitions": 3}, id="held by me: renewed"),
        pytest.param(lease("other"), 85.1, None, id="held by another, seen alive 14.9 s ago: left alone"),
        pytest.param(
            lease("other"),
            85.0,
            {"holderIdentity": "me", "leaseTransitions": 4},
            id="held by another, unchanged for all of its 15 s: taken",
        ),
        pytest.param(
            lease("other", "2099-01-01T00:00:00.000000Z"),
            10.0,
            {"holderIdentity": "me", "leaseTransitions": 4},
            id="a holder whose clock is ahead gains nothing by it",
        ),
    ],
)
def test_claim(spec: dict[str, Any], seen_since_s: float, expected: dict[str, Any] | None) -> None:
    seen = Seen(("", ""), seen_since_s)

    wanted = claim(spec, "me", seen, 100.0, NOW)

    if expected is None:
        assert wanted is None
    else:
        assert wanted is not None
        assert {key: wanted[key] for key in expected} == expected
        assert wanted["renewTime"] == WHEN


def test_a_renewal_counts_from_when_it_is_seen() -> None:
    """
    The same lease keeps its first sighting; a renewed one starts anew.

    Seen to fail where every look counts as a renewal.
    """
    first = see(lease("other", "a"), None, 10.0)

    assert see(lease("other", "a"), first, 20.0) == first
    assert see(lease("other", "b"), first, 20.0).since_s == 20.0


class Server:
    """
    A client of the Kubernetes client's form, to an API server that keeps one Lease, and a clock that it moves.

    Attributes:
        takes_s: How long an answer takes.
        hangs: It takes the next calls and does not answer them.
        look: Called at every half second of such a call.
    """

    def __init__(self) -> None:
        self.now_s, self.takes_s, self.hangs, self.lease = 100.0, 0.0, False, dict[str, Any]()
        self.look: Callable[[], None] = lambda: None
        self.rest_client = SimpleNamespace(pool_manager=self)

    def param_serialize(self, method: str, path: str, **_: Any) -> tuple[Any, ...]:
        return method, path, {}, None, None

    def request(self, method: str, _url: str, *, body: bytes | None, timeout: urllib3.Timeout, **_: Any) -> Any:
        if self.hangs:
            assert isinstance(timeout.read_timeout, float)
            assert isinstance(timeout.connect_timeout, float)
            for _half in range(round(2 * (timeout.connect_timeout + timeout.read_timeout))):
                self.now_s += 0.5
                self.look()
            raise urllib3.exceptions.HTTPError("timed out")
        self.now_s += self.takes_s
        if method == "GET":
            return SimpleNamespace(status=200 if self.lease else 404, data=json.dumps(self.lease).encode())
        self.lease = json.loads(body or b"")
        return SimpleNamespace(status=200, data=body)


def election(server: Server) -> Election:
    return Election(Api(cast(Any, server)), "home", "lease", "me", clock=lambda: server.now_s)


def test_leading_ends_while_a_renewal_hangs_and_before_anybody_else_may_take_the_lease() -> None:
    """Seen to fail where no clock ends it, and where it lasts for as long as others wait."""
    server = Server()
    elected = election(server)
    elected.try_once()
    won_s, seen = server.now_s, list[tuple[float, bool]]()
    server.hangs = True
    server.look = lambda: seen.append((server.now_s - won_s, elected.leading))

    while server.now_s < won_s + Terms().duration_s:
        server.now_s += Terms().retry_s
        elected.try_once()

    assert seen[0] == (2.5, True), "a call that hangs takes nothing away yet"
    assert {leads for after_s, leads in seen if after_s < Terms().deadline_s} == {True}
    assert {leads for after_s, leads in seen if after_s >= Terms().deadline_s} == {False}
    assert any(leads is False and after_s < Terms().duration_s for after_s, leads in seen), "others still wait"


def test_a_renewal_counts_from_when_it_was_sent() -> None:
    """
    Its answer took three seconds; whoever saw the lease renewed saw it no earlier than it was sent.

    Seen to fail where it counts from its answer.
    """
    server = Server()
    elected = election(server)
    server.takes_s, sent_s = 1.5, server.now_s
    elected.try_once()
    assert (server.now_s - sent_s, elected.leading) == (3.0, True)

    server.now_s = sent_s + Terms().deadline_s

    assert not elected.leading


def test_a_try_that_hangs_leaves_time_for_another_before_the_holder_stops_and_that_is_before_others_may_begin() -> None:
    terms = Terms()

    assert CONNECT_TIMEOUT_S + READ_TIMEOUT_S + terms.retry_s < terms.deadline_s < terms.duration_s


def test_calls_of_an_election_are_given_up_that_early() -> None:
    server = Server()
    server.hangs, began_s = True, server.now_s

    election(server).try_once()

    assert server.now_s - began_s <= CONNECT_TIMEOUT_S + READ_TIMEOUT_S

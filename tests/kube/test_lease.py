"""Who may take a Lease, and when: by observed change alone, never by comparing clocks of two machines."""

from datetime import UTC, datetime
from typing import Any

import pytest

from kube.lease import Seen, claim, see

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
    """The same lease keeps its first sighting; a renewed one starts anew."""
    first = see(lease("other", "a"), None, 10.0)

    assert see(lease("other", "a"), first, 20.0) == first
    assert see(lease("other", "b"), first, 20.0).since_s == 20.0

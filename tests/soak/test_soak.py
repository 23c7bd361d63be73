"""`make soak`, cut short: everything that can happen, once, in random order."""

import random

import pytest

from tests.soak.report import lines
from tests.soak.soak import PER_S, soak
from tests.soak.stand import stand

pytestmark = pytest.mark.cluster


def test_whatever_happens_no_planned_event_fails_a_pod_and_no_pod_goes_without_its_size() -> None:
    """A replica that is killed takes the calls with it that were under way or sent before its endpoint left."""
    seed = random.SystemRandom().randrange(10_000)
    said: list[str] = [f"seed {seed}"]
    with stand("podsla-soak-test", said.append) as made:
        told = soak(made, 60.0, seed, 20.0, said.append)
    text = "\n".join([*said, *lines(told)])
    print(text)

    assert sum(not one.failed for one in told.made) > 60 * PER_S / 2, text
    assert told.failed(planned=True) == [], text
    assert told.unmutated == 0, text
    assert told.unpublished == set(), text
    assert told.revisions, text
    assert told.grew == [], text
    assert len(told.failed(planned=False)) <= PER_S * 10, text

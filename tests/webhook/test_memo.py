"""What is looked up is what would have been decided."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.fit import compile_index
from catalog.model import Catalog
from catalog.target import Target
from tests.sample import TODAY, container, index, pod
from tests.strategies import Pod, catalogs, pods, targets
from webhook import memo
from webhook.admit import Answer, Serving, Sized, admit
from webhook.decision import Deny, Reason

on_any_target = st.sampled_from(sorted(targets())).map(lambda name: targets()[name])


@given(catalog=catalogs(), target=on_any_target, several=st.lists(pods(), min_size=1, max_size=4))
def test_a_pod_gets_what_it_would_get_from_a_replica_that_decided_nothing_yet(
    catalog: Catalog, target: Target, several: list[Pod]
) -> None:
    """Also when it comes again, changed by what it was given."""
    busy = Serving(compile_index(catalog, target))
    for _ in range(3):
        answers = [admit(each, {}, busy, TODAY) for each in several]
        for each in [*several, *(answer.pod for answer in answers if isinstance(answer, Sized))]:
            assert admit(each, {}, busy, TODAY) == admit(each, {}, Serving(busy.index), TODAY)


def asked(serving: Serving, given: Any, day: int = 0, **labels: str) -> Answer:
    """The answer to the third of pods that are alike: the second is kept, if any is."""
    for _ in range(2):
        admit(given, labels, serving, TODAY + timedelta(days=day))
    return admit(given, labels, serving, TODAY + timedelta(days=day))


def test_what_one_namespace_may_use_another_is_still_refused() -> None:
    serving = Serving(index())
    assert isinstance(asked(serving, pod("team-only"), team="edge"), Sized)
    refused = asked(serving, pod("team-only"), team="core")
    assert isinstance(refused, Deny)
    assert refused.reason is Reason.CLASS_NOT_OPEN


def test_a_class_is_refused_from_its_day_on_whatever_it_gave_the_day_before() -> None:
    serving = Serving(index())
    assert isinstance(asked(serving, pod("old")), Sized)
    refused = asked(serving, pod("old"), day=365)
    assert isinstance(refused, Deny)
    assert refused.reason is Reason.CLASS_RETIRED


def test_a_pod_that_has_something_of_it_by_itself_gets_a_record_that_says_so() -> None:
    """The record alone follows from more than the decision."""
    serving = Serving(index())
    first = asked(serving, pod("net"))
    assert isinstance(first, Sized)
    affinity = first.pod["spec"]["affinity"]
    second = asked(serving, pod("net", affinity=affinity))
    assert isinstance(second, Sized)
    own = (second.pod["metadata"]["annotations"]["podsla.io/record"], second.pod["spec"]["affinity"])
    fresh = asked(Serving(index()), pod("net", affinity=affinity))
    assert isinstance(fresh, Sized)
    assert own == (fresh.pod["metadata"]["annotations"]["podsla.io/record"], affinity)
    assert '"kept"' in own[0]


def test_it_keeps_a_bounded_number_of_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "MAX_DECISIONS", 3)
    serving = Serving(index())
    for number in range(10):
        asked(serving, pod("plain", container(f"c{number}")))
        assert 1 <= len(serving.memo) <= 3


def test_a_pod_of_thousands_of_containers_is_decided_and_not_kept() -> None:
    serving = Serving(index())
    assert isinstance(asked(serving, pod("plain")), Sized)
    assert len(serving.memo) == 1
    many = pod("plain", *(container(f"container-number-{number}") for number in range(1000)))
    assert isinstance(asked(serving, many), Sized)
    assert len(serving.memo) == 1


def test_a_pod_that_has_no_other_is_not_kept() -> None:
    serving = Serving(index())
    for number in range(2):
        assert isinstance(admit(pod("plain", container(f"c{number}")), {}, serving, TODAY), Sized)
    assert len(serving.memo) == 0


def test_it_forgets_whom_it_met_before_these_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "MAX_MET", 3)
    serving = Serving(index())
    for number in range(10):
        admit(pod("plain", container(f"c{number}")), {}, serving, TODAY)
        assert 1 <= len(serving.memo._met) <= 3

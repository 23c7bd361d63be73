"""What is written on many objects, one of which refuses."""

import pytest

from controller.world import Failures
from kube.api import ApiError


def written(failures: Failures, *statuses: int) -> list[int]:
    """Write on one object after the other; a status other than 200 is a refusal, and 0 no answer at all."""
    done: list[int] = []
    for number, status in enumerate(statuses):
        with failures.noted():
            if status != 200:
                raise ApiError("PATCH /x", status, "Refused" if status else "Unreachable", "no")
            done.append(number)
    return done


def test_an_object_that_refuses_holds_up_no_other_and_is_told_at_the_end() -> None:
    failures = Failures()
    assert written(failures, 200, 403, 200, 422, 200) == [0, 2, 4]
    with pytest.raises(ApiError) as caught:
        failures.end()
    assert caught.value.status == 403


def test_without_a_refusal_there_is_nothing_to_tell() -> None:
    failures = Failures()
    assert written(failures, 200, 200) == [0, 1]
    failures.end()


def test_where_nobody_answers_nothing_else_is_tried() -> None:
    with pytest.raises(ApiError):
        written(Failures(), 200, 0, 200)

"""Pauses between tries."""

import pytest

from kube.watch import pause_s


@pytest.mark.parametrize(
    ("failures", "expected_s"),
    [
        pytest.param(0, 0.0, id="no failure: at once"),
        pytest.param(1, 0.5, id="first failure"),
        pytest.param(4, 4.0, id="doubles each time"),
        pytest.param(7, 30.0, id="never longer than half a minute"),
        pytest.param(10_000, 30.0, id="not even after a week"),
    ],
)
def test_pause(failures: int, expected_s: float) -> None:
    assert pause_s(failures) == expected_s

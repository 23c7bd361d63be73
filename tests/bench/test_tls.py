"""The figures over TLS can be taken: podsla and a constant answer on the same server."""

import pytest

import bench.tls
from bench.__main__ import review

MODES = ("podsla", "podsla, each pod another", "constant", "constant, without Flask too")


@pytest.mark.wire
def test_podsla_and_a_constant_are_measured_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """One short round: every call is answered with 200, or the bench ends with what was said instead."""
    monkeypatch.setattr(bench.tls, "ROUNDS", 1)
    monkeypatch.setattr(bench.tls, "ROUND_S", 0.1)

    rows = list(bench.tls.bench_tls(review()))

    assert [what.partition(": ")[2] for what, *_ in rows] == [*MODES, *MODES, *MODES]
    assert all(int(median) > 0 for _, median, *_ in rows)

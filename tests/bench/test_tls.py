"""The figures over TLS can be taken: podsla and a constant answer on the same server."""

import socket

import pytest

import bench.tls
from bench.__main__ import review

MODES = ("podsla", "podsla, each pod another", "constant", "constant, without Flask too")
OWN = "podsla, by its own log"


@pytest.mark.wire
def test_podsla_and_a_constant_are_measured_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """One short round: every call is answered with 200, or the bench ends with what was said instead."""
    monkeypatch.setattr(bench.tls, "ROUNDS", 1)
    monkeypatch.setattr(bench.tls, "ROUND_S", 0.1)

    rows = list(bench.tls.bench_tls(review()))

    assert [what.partition(": ")[2] for what, *_ in rows] == [*MODES, *MODES, *MODES, OWN]
    assert all(int(median) > 0 for _, median, *_ in rows)


@pytest.mark.wire
def test_memory_is_that_of_a_replica_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.tls, "REVIEWS", (5, 20))

    rows = list(bench.tls.bench_memory(review()))

    assert [what for what, *_ in rows] == ["memory after 5 reviews", "memory after 20 reviews"]
    assert all(20 < float(median.removesuffix(" MiB")) < 500 for _, median, *_ in rows)


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{}{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{}{}\r\n0\r\n\r\n",
    ],
)
def test_an_answer_is_read_to_its_end_and_no_further(sent: bytes) -> None:
    """Go states no length of what is above 2 KiB; an answer that is cut off would be read as the begin of the next."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent[:-3])
        theirs.sendall(sent[-3:])
        assert bench.tls.read_answer(ours) == sent.partition(b"\r\n\r\n")[2]
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(1)

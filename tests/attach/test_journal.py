"""The journal's bytes: what is written is read; what is damaged is never read as something else."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from attach.journal import VERSION, Journal, JournalError, decode, encode
from attach.reasons import ASKED, Over
from attach.reconcile import Desired, Reconciler
from attach.store import JOURNAL, FileStore, TakenError, held_node
from attach.transitions import State
from tests.attach.fakes import target
from tests.attach.stories import STORIES
from tests.attach.world import World


def journals() -> list[Journal]:
    """Collect every journal that the stories write."""
    found: dict[bytes, Journal] = {}
    for story in STORIES:
        world = World()
        for seconds in story(world):
            end_s = world.clock.boot_s + seconds
            while world.clock.boot_s < end_s:
                world.clock.go(2.0)
                world.run()
                if (data := world.store.load()) is not None:
                    found[data] = decode(data)
    return list(found.values())


JOURNALS = journals()
BUSY = next(j for j in JOURNALS if any(e.state is State.ATTACHED and e.residents for e in j.entries.values()))


def signed(body: bytes) -> bytes:
    return sha256(body).hexdigest().encode() + b"\n" + body


def rewritten(**changes: Any) -> bytes:
    fields = orjson.loads(encode(BUSY).partition(b"\n")[2])
    return signed(orjson.dumps(fields | changes))


def test_what_is_written_is_read() -> None:
    seen = {entry.state for journal in JOURNALS for entry in journal.entries.values()}
    assert seen >= {State.ATTACHED, State.DRAINING, State.VERIFYING, State.OVERDUE, State.QUARANTINED, State.FAILED}
    for journal in JOURNALS:
        assert decode(encode(journal)) == journal


def test_a_journal_that_was_cut_short_is_named() -> None:
    data = encode(BUSY)
    for length in range(len(data)):
        with pytest.raises(JournalError, match=f"{length} bytes are left") as caught:
            decode(data[:length])

        assert caught.value.reason == "JournalChecksum"


def test_no_byte_of_it_can_be_changed_unnoticed() -> None:
    data = encode(BUSY)
    for at in range(len(data)):
        with pytest.raises(JournalError):
            decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        pytest.param(b"", "JournalChecksum", "0 bytes are left", id="an empty file is no empty journal"),
        pytest.param(signed(b"{}"), "JournalUnreadable", "'version'", id="no version"),
        pytest.param(signed(b"[]"), "JournalUnreadable", "", id="no mapping"),
        pytest.param(signed(b"{"), "JournalUnreadable", "", id="no JSON, by somebody who knows the checksum"),
        pytest.param(rewritten(entries=[{}]), "JournalUnreadable", "", id="an entry without fields"),
        pytest.param(rewritten(version=VERSION + 1), "JournalNewer", "run the newer one again", id="a newer version"),
        pytest.param(rewritten(version=0), "JournalTooOld", "no longer reads", id="a version that nobody wrote"),
    ],
)
def test_a_journal_that_cannot_be_used_is_named(data: bytes, reason: str, message: str) -> None:
    with pytest.raises(JournalError) as caught:
        decode(data)

    assert caught.value.reason == reason
    assert message in str(caught.value)


def test_an_unknown_state_of_an_entry_is_named() -> None:
    fields = orjson.loads(encode(BUSY).partition(b"\n")[2])
    fields["entries"][0]["state"] = "Lent"
    with pytest.raises(JournalError, match="'Lent' is not a valid State"):
        decode(signed(orjson.dumps(fields)))


def test_an_older_version_is_read() -> None:
    """Each upgrade makes of one version the next."""

    def name_the_boot(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "bootID": fields["boot"]}

    fields = orjson.loads(encode(BUSY).partition(b"\n")[2])
    old = {"version": VERSION - 1, "boot": fields["bootID"], "entries": fields["entries"]}

    assert decode(signed(orjson.dumps(old)), {VERSION - 1: name_the_boot}) == BUSY


@pytest.mark.parametrize(("release", "why"), [(False, None), (True, ASKED)])
def test_version_1_says_only_that_a_release_was_wanted(release: bool, why: Over | None) -> None:
    """Version 2 says why."""
    fields = orjson.loads(encode(BUSY).partition(b"\n")[2])
    for each in fields["entries"]:
        each["wish"]["release"] = release

    found = decode(signed(orjson.dumps({**fields, "version": 1})))

    assert {entry.wish.release for entry in found.entries.values()} == {why}
    assert decode(encode(found)) == found


@pytest.mark.parametrize("length", [0, 70, 200])
def test_an_agent_with_a_damaged_journal_does_nothing(length: int) -> None:
    """
    Not even what it could do; the world looks into the journal too, so the agent is asked past it.

    Seen to fail where such a journal is taken for an empty one: the GPU is lent, and the journal is overwritten.
    """
    world = World()
    world.node.start(target("a"))
    world.wish("u1", "a", 0)
    data = encode(BUSY)[:length]
    world.store.save(data)
    agent = Reconciler(world.node.ports, world.store, world.clock, world.recorder)
    with pytest.raises(JournalError):
        agent.reconcile(Desired(world.wishes))

    assert world.store.load() == data
    assert world.ledger.steps == []


class TestStore:
    def test_there_has_never_been_a_journal(self, tmp_path: Path) -> None:
        assert FileStore(tmp_path / "state").load() is None

    def test_it_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        with FileStore(tmp_path) as store:
            store.save(b"x" * 10_000)
            store.save(encode(BUSY))

            assert decode(store.load() or b"") == BUSY
            assert sorted(path.name for path in tmp_path.iterdir()) == [JOURNAL, "lock"]
            assert {path.stat().st_mode & 0o77 for path in tmp_path.iterdir()} == {0}, "others may look into it"

    def test_two_agents_do_not_work_at_once(self, tmp_path: Path) -> None:
        with FileStore(tmp_path), pytest.raises(TakenError, match="one node has one agent"), FileStore(tmp_path):
            pass
        with FileStore(tmp_path):
            pass

    def test_two_agents_with_two_journals_do_not_work_on_one_node(self, tmp_path: Path) -> None:
        with held_node(tmp_path), pytest.raises(TakenError, match="with another --state folder"), held_node(tmp_path):
            pass
        with held_node(tmp_path):
            pass

    def test_what_a_dead_agent_left_half_written_is_not_read(self, tmp_path: Path) -> None:
        with FileStore(tmp_path) as store:
            store.save(encode(BUSY))
            (tmp_path / f"{JOURNAL}.new").write_bytes(encode(replace(BUSY, entries={}))[:100])

            assert decode(store.load() or b"") == BUSY
            store.save(encode(replace(BUSY, entries={})))
            assert decode(store.load() or b"").entries == {}

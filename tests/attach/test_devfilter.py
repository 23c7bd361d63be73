"""Device filters: what runc and crun loaded, ours before it, and what the kernel would answer."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attach.devfilter import AccessType, FilterError, assemble, evaluate, listing, name_of, split

GOLDEN = Path(__file__).parent / "golden"
KVM, FUSE, NULL = os.makedev(10, 232), os.makedev(10, 229), os.makedev(1, 3)
READ, WRITE, MKNOD = AccessType.READ, AccessType.WRITE, AccessType.MKNOD
BLOCK = 1
runtimes = pytest.mark.parametrize("runtime", ["runc", "crun"])
devices = st.builds(os.makedev, st.integers(0, 4095), st.integers(0, 1048575))


def loaded(runtime: str) -> bytes:
    """Read the program with which a runtime rules an unprivileged container with the default list."""
    return bytes.fromhex((GOLDEN / f"{runtime}.hex").read_text())


@runtimes
@pytest.mark.parametrize("rdevs", [(), (KVM,), (FUSE, KVM)], ids=["no rule", "one rule", "two rules"])
def test_the_listing_of_a_program(runtime: str, rdevs: tuple[int, ...]) -> None:
    """Golden: our rules by name, then the runtime's own instructions; REGENERATE=1 writes it anew."""
    text = listing(name_of(rdevs), assemble(rdevs, loaded(runtime)))
    file = GOLDEN / f"{runtime}-{len(rdevs)}.txt"
    if os.environ.get("REGENERATE"):
        file.write_text(text)
    assert text == file.read_text()


def test_no_golden_file_is_left_over() -> None:
    names = {f"{runtime}-{count}.txt" for runtime in ("runc", "crun") for count in range(3)} | {"runc.hex", "crun.hex"}
    assert {path.name for path in GOLDEN.iterdir()} == names


@runtimes
@pytest.mark.parametrize(
    ("rdev", "access", "kind", "before", "after"),
    [
        pytest.param(KVM, READ | WRITE, 2, False, True, id="the device: denied, then allowed"),
        pytest.param(KVM, READ, 2, False, True, id="less than both is allowed too"),
        pytest.param(KVM, READ | MKNOD, 2, False, False, id="making a node together with reading is not ours to give"),
        pytest.param(KVM, MKNOD, 2, True, True, id="making a node is what the runtime allows all"),
        pytest.param(KVM, READ | WRITE, BLOCK, False, False, id="a block device with the same numbers stays denied"),
        pytest.param(FUSE, READ | WRITE, 2, False, False, id="another device stays denied"),
        pytest.param(NULL, READ | WRITE, 2, True, True, id="what was allowed stays so"),
        pytest.param(os.makedev(136, 7), READ | WRITE, 2, True, True, id="so does what a wildcard allowed"),
    ],
)
def test_what_a_program_answers(
    runtime: str, rdev: int, access: AccessType, kind: int, *, before: bool, after: bool
) -> None:
    old = loaded(runtime)
    answers = evaluate(old, rdev, access, kind), evaluate(assemble([KVM], old), rdev, access, kind)
    assert answers == (before, after)


@runtimes
@given(rdevs=st.frozensets(devices, max_size=20), asked=devices)
def test_rules_are_added_and_taken_away_and_no_other_answer_changes(
    runtime: str, rdevs: frozenset[int], asked: int
) -> None:
    old = loaded(runtime)
    new = assemble(rdevs, old)
    assert split(name_of(rdevs), new) == (rdevs, old)
    assert evaluate(new, asked) == (asked in rdevs or evaluate(old, asked))
    assert all(evaluate(new, rdev) for rdev in rdevs)


EARLIER = (  # the rules of KVM and FUSE, as agents of commit f1c7136 wrote them
    "611200000000000054020000ffff0000611300000000000074030000100000006114040000000000611508000000000055020a0002000000"
    "bc3000000000000054000000060000005d30070000000000550401000a00000015050300e5000000550401000a00000015050100e8000000"
    "0500020000000000b7000000010000009500000000000000"
)


@runtimes
def test_what_an_earlier_agent_wrote_is_taken_apart_too(runtime: str) -> None:
    """A GPU that was lent before an upgrade is taken back after it."""
    program = bytes.fromhex(EARLIER) + loaded(runtime)
    assert split("podsla_2", program) == (frozenset({KVM, FUSE}), loaded(runtime))
    with pytest.raises(FilterError):
        split("podsla_1", program)


@pytest.mark.parametrize(
    ("name", "program"),
    [
        pytest.param("podsla_2", assemble([KVM], loaded("runc")), id="fewer rules than the name says"),
        pytest.param("podsla_1", loaded("runc"), id="another's program under our name"),
        pytest.param("podsla_1", b"", id="nothing"),
        pytest.param("podsla_0", loaded("runc"), id="a name that is never given"),
        pytest.param("podsla_1", assemble([KVM], b"")[:-8], id="cut short"),
        pytest.param("podsla_9999999", loaded("runc"), id="more rules than any program has"),
    ],
)
def test_a_program_that_only_has_our_name_is_refused(name: str, program: bytes) -> None:
    with pytest.raises(FilterError):
        split(name, program)


@pytest.mark.parametrize("name", ["", "sd_devices", "podsla_", "podsla_x", "xpodsla_1"])
def test_a_program_with_another_name_is_the_runtimes(name: str) -> None:
    program = assemble([KVM], loaded("runc"))
    assert split(name, program) == (frozenset(), program)


@given(program=st.binary(max_size=80))
def test_any_bytes_are_answered_or_refused(program: bytes) -> None:
    """A program that is not understood is never read as an answer; and none keeps us for ever."""
    with suppress(FilterError):
        assert evaluate(program, KVM) in (True, False)

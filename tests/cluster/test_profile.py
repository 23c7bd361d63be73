"""The word that says what a cluster is made of."""

import pytest

from tests.cluster.pins import BINARIES, PINS, needed, time_left_s
from tests.cluster.profile import Profile, ProfileError, parse_profile

EXISTS = (
    "control-plane first, then any of kwok=N (simulated nodes), karpenter (buys such nodes), host, vm (real nodes), "
    "unlimited (load tests)"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("control-plane", Profile(), id="a control plane alone"),
        pytest.param("control-plane+kwok=12", Profile(kwok_nodes=12), id="twelve simulated nodes"),
        pytest.param("control-plane+kwok=12+host+vm", Profile(12, host=True, vm=True), id="simulated and real nodes"),
        pytest.param("control-plane+karpenter", Profile(karpenter=True), id="nodes when pods need them"),
        pytest.param("control-plane+unlimited", Profile(unlimited=True), id="no limits of the API server"),
    ],
)
def test_a_profile_reads_and_writes_alike(text: str, expected: Profile) -> None:
    """What is shown can be given again."""
    assert parse_profile(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", f"profile '': it begins with ''; write {EXISTS}, joined by +", id="nothing"),
        pytest.param(
            "kwok=3",
            f"profile 'kwok=3': it begins with 'kwok=3'; write {EXISTS}, joined by +",
            id="no control plane",
        ),
        pytest.param(
            "control-plane+hots",
            f"profile 'control-plane+hots': there is no part 'hots'; write {EXISTS}, joined by +",
            id="a typo",
        ),
        pytest.param(
            "control-plane+kwok=0",
            "profile 'control-plane+kwok=0': 'kwok=0' asks 0 nodes; 1 to 5000 can be had",
            id="no nodes",
        ),
        pytest.param(
            "control-plane+kwok=5001",
            "profile 'control-plane+kwok=5001': 'kwok=5001' asks 5001 nodes; 1 to 5000 can be had",
            id="one node too many",
        ),
        pytest.param(
            "control-plane+vm+vm",
            "profile 'control-plane+vm+vm': 'vm' says again what an earlier part said; leave one out",
            id="a part twice",
        ),
    ],
)
def test_a_wrong_profile_says_which_part_and_what_exists(text: str, message: str) -> None:
    """Nobody has to read the source to correct a profile."""
    with pytest.raises(ProfileError) as caught:
        parse_profile(text)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("profile", "has", "has_not"),
    [
        pytest.param("control-plane", {"etcd", "kubectl"}, {"kwok", "kwok-stages", "kubelet"}, id="control plane"),
        pytest.param("control-plane+kwok=1", {"kwok", "kwok-stages"}, {"kubelet", "runc"}, id="kwok"),
        pytest.param("control-plane+karpenter", {"kwok", "karpenter", "karpenter-crds"}, {"kubelet"}, id="Karpenter"),
        pytest.param("control-plane+host", {"kubelet", "runc", "bridge", "agnhost"}, {"kwok"}, id="a real node"),
    ],
)
def test_a_profile_needs_only_what_it_runs(profile: str, has: set[str], has_not: set[str]) -> None:
    """The first build is long enough."""
    wanted = set(needed(parse_profile(profile)))

    assert has <= wanted
    assert not has_not & wanted


def test_each_program_is_pinned_once() -> None:
    """Names are what everything else looks programs up by."""
    assert len(BINARIES) == sum(len(pin.binaries) for pin in PINS)


@pytest.mark.parametrize(
    ("built", "running", "waiting", "expected_s"),
    [
        pytest.param([], (270, 0), [90, 10], 370, id="at the start: as known"),
        pytest.param([], (270, 70), [90, 10], 300, id="what has passed is no longer left"),
        pytest.param([], (270, 540), [90], 180, id="overdue: what comes after it takes longer too"),
        pytest.param([(270, 540)], (90, 0), [10], 200, id="a machine half as fast needs twice as long"),
        pytest.param([(270, 27)], (90, 0), [10], 10, id="compiled before: a tenth"),
        pytest.param([(5, 50)], (90, 0), [10], 100, id="a small program says nothing about the pace"),
    ],
)
def test_the_time_left_follows_the_machine(
    built: list[tuple[int, float]], running: tuple[int, float], waiting: list[int], expected_s: float
) -> None:
    """The estimate is what was measured once, at the pace seen so far."""
    assert time_left_s(built, running, waiting) == pytest.approx(expected_s)

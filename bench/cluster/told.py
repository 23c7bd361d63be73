"""What lending GPUs came to, for people, and which bars it missed. Prints; decides nothing else."""

from collections.abc import Iterator
from typing import Final

from bench.cluster.crowd import USE_S, Crowd
from bench.cluster.phases import PUBLISHED_HELD
from bench.cluster.replay import Replay
from bench.cluster.steps import Attaches, Cost
from podsla.output import note, print_table, say

BARS_S: Final = {"cold": 1.0, "warm": 0.1}  # from asking to access, p99


def missed_lending(
    cold: Attaches | None, warm: Attaches | None, crowd: Crowd | None, replay: Replay | None
) -> list[str]:
    """Name the bars that were missed."""
    each = (_missed_lent("cold", cold), _missed_lent("warm", warm), _missed_crowd(crowd), _missed_replay(replay))
    return [missed for some in each for missed in some]


def _missed_lent(name: str, attaches: Attaches | None) -> Iterator[str]:
    if attaches is not None and attaches.access.p99_s > BARS_S[name]:
        yield f"{name}: {attaches.access.p99_s:.3f} s from asking to access at p99, and {BARS_S[name]:g} s is the bar"


def _missed_crowd(crowd: Crowd | None) -> Iterator[str]:
    if crowd is not None and (crowd.twice or crowd.left or crowd.overtaken):
        yield f"crowd: {crowd.overtaken} were overtaken, {len(crowd.twice)} devices two had, {len(crowd.left)} left"


def _missed_replay(replay: Replay | None) -> Iterator[str]:
    if replay is None:
        return
    if round(replay.held, 3) > PUBLISHED_HELD:  # as it is printed
        yield f"phases: {replay.held:.1%} of static is held, and {PUBLISHED_HELD:.0%} is the bar"
    if replay.twice or replay.left:
        yield f"phases: {len(replay.twice)} devices two had, {len(replay.left)} left"


def print_attaches(name: str, attaches: Attaches) -> None:
    """Attachments one by one, step by step; *name*: cold or warm."""
    say()
    say(f"{attaches.count} attachments, one after the other, {name}; a step begins when those before it were seen")
    print_table(("step", "median ms", "p99 ms", "longest ms"), list(_rows(attaches)))
    _print_missed(_missed_lent(name, attaches))


def _rows(attaches: Attaches) -> Iterator[tuple[str, ...]]:
    for cost in (*attaches.steps, attaches.access):
        yield _row(cost)


def _row(cost: Cost) -> tuple[str, ...]:
    return (cost.step, *(f"{taken_s * 1e3:.0f}" for taken_s in (cost.median_s, cost.p99_s, cost.longest_s)))


def print_crowd(crowd: Crowd) -> None:
    """Attachments all at once."""
    say()
    waits, nodes = crowd.waits, ", ".join(f"{node} {taken_s:.1f} s" for node, taken_s in crowd.served_s.items())
    say(f"{crowd.count} attachments, asked for within {crowd.asked_s:.1f} s, each used for {USE_S:g} s")
    say(f"until the last one had its GPU: {nodes}")
    say(
        f"each waited {waits.median_s:.1f} s at the median, {waits.p99_s:.1f} s at p99, {waits.longest_s:.1f} s at most"
    )
    say(f"overtaken by a later one: {crowd.overtaken}; two had one device: {len(crowd.twice)}; left: {len(crowd.left)}")
    _print_missed((*_missed_crowd(crowd), *crowd.left))


def print_replay(replay: Replay) -> None:
    """Phases of real pods."""
    say()
    say(f"an hour of {replay.pods} pods, {replay.speed:g} times as fast: {replay.attachments} attachments")
    say(f"GPU time held: {replay.held:.1%} of static, where the bound is {replay.bound:.1%}")
    say(f"busy: {replay.busy:.1%} of static, {replay.without:.1%} of which passed before there was a GPU")
    waits = replay.waits
    say(
        f"from asking to a GPU: median {waits.median_s:.2f} s, p99 {waits.p99_s:.2f} s, longest {waits.longest_s:.2f} s"
    )
    say(f"two had one device: {len(replay.twice)}; left: {len(replay.left)}; calls were late by {replay.late_s:.2f} s")
    _print_missed((*_missed_replay(replay), *replay.left))


def _print_missed(missed: Iterator[str] | tuple[str, ...]) -> None:
    for each in missed:
        note(f"MISSED {each}", style="bad")

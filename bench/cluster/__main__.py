"""EDGE: `python -m bench.cluster`: brings clusters up, loads them, and prints what came of it."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import click

from bench.cluster.create import Latency, Row, burst, bursts, busiest, latency
from bench.cluster.crowd import Crowd, crowd
from bench.cluster.lending import GPUS, lend_one_by_one
from bench.cluster.load import back_to_back
from bench.cluster.nodes import Nodes, many_nodes
from bench.cluster.peers import Peers, peers
from bench.cluster.replay import DATA, Replay, replay
from bench.cluster.stand import (
    OURS,
    Stand,
    apply_catalogs,
    facts,
    make_namespaces,
    stand,
    start_constant,
)
from bench.cluster.steps import Attaches
from bench.cluster.told import missed_lending, print_attaches, print_crowd, print_replay
from bench.cluster.waves import Waves, in_waves
from bench.proc import resident_mib
from podsla.output import note, print_json, print_table, say
from tests.cluster.gpus import lend_here
from tests.cluster.state import ClusterError

LENDING: Final = ("cold", "warm", "crowd", "phases")
PARTS: Final = ("latency", "peers", "bursts", "busiest", "nodes", "waves", *LENDING)
REAL: Final = {"cold", "warm", "crowd"}  # this machine is a node in these
BAR: Final = 1.10
BAR_S: Final = 2.0  # from Ready until capacity stands, at the median


@dataclass(frozen=True, slots=True)
class Sizes:
    """How long everything takes."""

    rounds: int
    round_s: float
    minutes: int
    flat_out_s: float
    busiest_s: float
    nodes: int
    minute_s: float
    waves: int
    lent: int
    crowd: int
    phases: int
    speed: float


LONG: Final = Sizes(
    rounds=7,
    round_s=15.0,
    minutes=5,
    flat_out_s=15.0,
    busiest_s=60.0,
    nodes=1000,
    minute_s=60.0,
    waves=3,
    lent=200,
    crowd=100,
    phases=143,
    speed=10.0,
)
SHORT: Final = Sizes(
    rounds=3,
    round_s=4.0,
    minutes=1,
    flat_out_s=4.0,
    busiest_s=10.0,
    nodes=60,
    minute_s=15.0,
    waves=2,
    lent=10,
    crowd=20,
    phases=30,
    speed=60.0,
)


@dataclass(slots=True)
class Report:
    """What was measured."""

    command: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    latency: Latency | None = None
    peers: Peers | None = None
    rows: list[Row] = field(default_factory=list)
    webhook_mib: float = 0.0
    nodes: Nodes | None = None
    waves: Waves | None = None
    cold: Attaches | None = None
    warm: Attaches | None = None
    crowd: Crowd | None = None
    replay: Replay | None = None

    @property
    def all_rows(self) -> list[Row]:
        """Every scenario that created pods."""
        first = [row for part in (self.latency, self.peers) if part for row in part.rows]
        return [*first, *self.rows]


@click.command()
@click.option("--only", type=click.Choice([*PARTS, "lending"]), multiple=True,
              help=f"Measure this part alone; may be given again. lending: {', '.join(LENDING)}.")  # fmt: skip
@click.option("--short", is_flag=True, help="Try it out in two minutes; no figures to quote.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def main(only: Sequence[str], short: bool, output: str) -> None:
    """Measure podsla in real clusters: beside a constant answer and others, bursts, 1,000 nodes, and 1,000 in waves;
    GPUs lent one by one, to a crowd, and for the phases of real pods.

    It ends with 1 if a pod could not be created or came without a size, or if podsla missed a bar: pods beside a
    constant answer and beside others, nodes of a wave from Ready until their capacity stands, or GPUs from asking to
    access and what of their time is held.
    """
    wanted, sizes = set(only or PARTS), SHORT if short else LONG
    wanted |= set(LENDING) if "lending" in wanted else set()
    options = [f"--only {part}" for part in only] + ["--short"] * short
    report = Report(" ".join(["python -m bench.cluster", *options]))
    try:
        if wanted & {"latency", "peers", "bursts", "busiest"}:
            with stand("bench", "control-plane+unlimited") as cluster:
                measure_pods(cluster, wanted, sizes, report)
        if "nodes" in wanted:
            with stand("bench-nodes", f"control-plane+kwok={sizes.nodes}") as cluster:
                report.facts = report.facts or facts(cluster)
                report.nodes = many_nodes(cluster, sizes.minute_s)
        if "waves" in wanted:
            with stand("bench-waves", "control-plane+kwok=12") as cluster:
                report.facts = report.facts or facts(cluster)
                report.waves = in_waves(cluster, sizes.nodes, sizes.waves)
        lend(wanted, sizes, report)
    except ClusterError as error:
        raise click.ClickException(str(error)) from error
    print_json(as_json(report)) if output == "json" else print_report(report)
    sys.exit(is_missed(report))


def is_missed(report: Report) -> bool:
    """Tell whether a bar was missed: a pod failed or came without a size, or podsla was slower than it may be."""
    slow = report.latency is not None and report.latency.ratio > BAR
    late = report.waves is not None and report.waves.slowest_s > BAR_S
    behind = report.peers is not None and not all(holds for *_, holds in report.peers.bars)
    return (
        slow
        or late
        or behind
        or bool(missed_lending(report.cold, report.warm, report.crowd, report.replay))
        or any(row.figures.failed or row.figures.unmutated or row.said for row in report.all_rows)
    )


def measure_pods(cluster: Stand, wanted: set[str], sizes: Sizes, report: Report) -> None:
    """Everything that creates pods, in one cluster."""
    apply_catalogs(cluster)
    make_namespaces(cluster)
    constant_s = start_constant(cluster)
    report.facts = facts(cluster)
    burst(cluster, "warm-up", OURS, back_to_back(1.0), 4)
    if "latency" in wanted:
        report.latency = latency(cluster, sizes.rounds, sizes.round_s)
    if "bursts" in wanted:
        report.rows += bursts(cluster, sizes.minutes)
    if "busiest" in wanted:
        report.rows += busiest(cluster, sizes.flat_out_s, sizes.busiest_s)
    if "peers" in wanted:  # last, since they stay: what others take at rest is no part of the figures above
        report.peers = peers(cluster, constant_s, sizes.rounds, sizes.round_s, sizes.flat_out_s)
    report.webhook_mib = resident_mib(cluster.process("podsla-webhook").pid)


def lend(wanted: set[str], sizes: Sizes, report: Report) -> None:
    """Everything that borrows GPUs; parts for which this machine lacks something are skipped by name."""
    if wanted & REAL and os.geteuid() != 0:
        note(f"skipped: {', '.join(sorted(wanted & REAL))}: root is needed to make this machine a node", style="bad")
        wanted = wanted - REAL
    if "phases" in wanted and not DATA.is_dir():
        note("skipped: phases: ../shared/data is missing: the public data sets lie beside the repository", style="bad")
        wanted = wanted - {"phases"}
    if wanted & REAL:
        with stand("bench-lending", "control-plane+kwok=1+host") as cluster:
            report.facts = report.facts or facts(cluster)
            lend_here(cluster.cluster, GPUS, note)
            report.cold = lend_one_by_one(cluster, sizes.lent, warm=False) if "cold" in wanted else None
            report.warm = lend_one_by_one(cluster, sizes.lent, warm=True) if "warm" in wanted else None
            report.crowd = crowd(cluster, sizes.crowd) if "crowd" in wanted else None
    if "phases" in wanted:
        with stand("bench-phases", "control-plane+kwok=1") as cluster:
            report.facts = report.facts or facts(cluster)
            report.replay = replay(cluster, sizes.phases, sizes.speed)


def as_json(report: Report) -> dict[str, Any]:
    """Everything, for scripts."""
    return {key: value for key, value in asdict(report).items() if value}


def print_report(report: Report) -> None:
    """Everything, for people."""
    for key, text in report.facts.items():
        say(f"{key}: {text}")
    if report.all_rows:
        say()
        print_table(
            ("scenario", "mode", "pods", "failed", "unmutated", "pods/s", "median ms", "p99 ms", "longest ms"),
            [_cells(row) for row in report.all_rows],
        )
        for row in report.all_rows:
            for said in row.said:
                note(f"{row.scenario}, {row.mode}: {said}", style="bad")
        say(f"memory of the webhook's two processes afterwards: {report.webhook_mib:.0f} MiB")
    if report.latency:
        found = report.latency
        each = ", ".join(f"{ratio:.2f}" for ratio in found.ratios)
        say(f"median of podsla / of a constant answer: {found.ratio:.3f} (bar {BAR:.2f}); round by round {each}")
        say(f"the same where each pod is another, and none is looked up: {found.another:.3f}")
    if report.peers:
        print_peers(report.peers)
    if report.nodes:
        print_nodes(report.nodes)
    if report.waves:
        print_waves(report.waves)
    for name, attaches in (("cold", report.cold), ("warm", report.warm)):
        if attaches:
            print_attaches(name, attaches)
    if report.crowd:
        print_crowd(report.crowd)
    if report.replay:
        print_replay(report.replay)


def print_peers(found: Peers) -> None:
    """What others take, and whether podsla keeps up."""
    mib = ", ".join(f"{mode} {taken:.0f} MiB" for mode, taken in found.mib.items())
    starts = ", ".join(f"{mode} {took_s:.2f} s" for mode, took_s in found.start_s.items())
    say(f"memory of each webhook after its part: {mib}")
    say(f"from start to ready: {starts}")
    for name, ours, theirs, holds in found.bars:
        say(f"{name}: {ours:.4g} to {theirs:.4g}{'' if holds else ', bar MISSED'}")


def _cells(row: Row) -> tuple[str, ...]:
    f = row.figures
    times = (f"{f.median_ms:.1f}", f"{f.p99_ms:.1f}", f"{f.longest_ms:.0f}")
    return (row.scenario, row.mode, str(f.pods), str(f.failed), str(f.unmutated), f"{f.per_s:.0f}", *times)


def print_nodes(found: Nodes) -> None:
    """What many nodes cost."""
    say()
    say(f"{found.count} nodes carry capacity {found.first_s:.1f} s after the catalogues were published")
    say(f"{found.edited} nodes follow an edit of their size after {found.edit_s:.1f} s")
    say(f"memory of the controller: {found.resident_mib:.0f} MiB, {found.peak_mib:.0f} MiB at its peak")
    print_table(
        ("controller", "seconds", "calls/min", "cpu s", "calls"),
        [
            (
                calls.name,
                f"{calls.for_s:.0f}",
                f"{calls.per_minute:.0f}",
                f"{calls.cpu_s:.1f}",
                ", ".join(f"{count} {kind}" for kind, count in calls.by_kind.items()),
            )
            for calls in found.calls
        ],
    )


def print_waves(found: Waves) -> None:
    """What nodes cost that come and go."""
    say()
    print_table(
        (
            "wave",
            "nodes",
            "all stand s",
            "Ready → stands",
            "p99",
            "longest",
            "seen → stands",
            "calls/node",
            "MiB after",
        ),
        [
            (
                wave.calls.name,
                str(wave.count),
                f"{wave.registered_s:.1f}",
                f"{wave.waits.median_s:.2f} s",
                f"{wave.waits.p99_s:.2f} s",
                f"{wave.waits.longest_s:.2f} s",
                f"{wave.since_seen.median_s:.2f} s",
                f"{wave.per_node:.2f}",
                f"{wave.resident_mib:.1f}",
            )
            for wave in found.waves
        ],
    )
    for wave in found.waves:
        kinds = ", ".join(f"{count} {kind}" for kind, count in wave.calls.by_kind.items())
        say(f"{wave.calls.name}: {kinds} in {wave.calls.for_s:.0f} s, {wave.calls.cpu_s:.1f} s of processor time")
    say(f"from Ready until capacity stands: median {found.slowest_s:.2f} s in the slowest wave (bar {BAR_S:.0f} s)")
    flat = "flat" if found.flat else "NOT flat"
    say(f"memory of the controller: {found.before_mib:.1f} MiB before the first wave; {flat} from wave to wave")


if __name__ == "__main__":
    main()

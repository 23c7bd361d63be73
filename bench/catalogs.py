"""EDGE: `python -m bench.catalogs`: what a replica takes to start, to hold and to answer by twenty large catalogues."""

import os
import statistics
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import click
import orjson

from bench.__main__ import POD, review
from bench.cluster.stand import Stand, facts, stand
from bench.proc import resident_mib
from bench.tls import Caller
from catalog.keys import CLASS
from kube.kinds import MUTATING_WEBHOOKS, NAMESPACES
from podsla.output import note, print_json, print_table, say
from tests.cluster.install import PODSLA, ROOT, service_account_kubeconfig
from tests.cluster.network import LOOPBACK, free_ports
from tests.cluster.probe import is_ready
from tests.cluster.processes import start, stop, wait_ready
from tests.cluster.state import Process

STARTS: Final = 3
ROUNDS: Final = 5  # of a second each
SHIPPED: Final = ("ecs", "classes")
HOME: Final = "bench"
_LOOK_EVERY_S: Final = 0.02
_DEADLINE_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Held:
    """
    What a replica takes, with so much published.

    Attributes:
        published_s: From `podsla catalog apply` until the controller has accepted all of it.
        ready_s: From the start of a replica until it is ready, of each start.
        webhook_mib: Of a replica's two processes, after it has answered.
    """

    catalogs: int
    sizes: int
    published_s: float
    ready_s: tuple[float, ...]
    webhook_mib: float
    controller_mib: float
    median_us: float
    p99_us: float


def make_catalogs(catalogs: int, sizes: int) -> Iterator[dict[str, Any]]:
    """
    Write catalogues of so many sizes each, no two sizes alike, and in each a class over its own sizes.

    A size with more CPU may have less of the network, so that neither alone says which one holds a pod.
    """
    for number in range(catalogs):
        family = f"lab.c{number}"
        figures = [100_000 * (1 + 29 * size % 64) + 1_000 * number + size for size in range(sizes)]
        made = [
            {
                "name": f"{family}.{size}x",
                "vcpu": str(1 + size % 64),
                "memory": f"{2 + size % 128}Gi",
                "network": {"pps": str(pps), "queues": 1 + size % 16},
            }
            for size, pps in enumerate(figures)
        ]
        sla_class = {
            "name": f"class-{number}",
            "sizes": {"families": [family]},
            "floor": {"network": {"pps": "100k"}},
            "tunable": {"network.pps": {"max": str(max(figures))}},
        }
        yield {
            "apiVersion": "podsla.io/v1beta1",
            "kind": "SpecCatalog",
            "metadata": {"name": f"catalog-{number}"},
            "spec": {"sizes": made, "classes": [sla_class]},
        }


def pods(classes: list[str]) -> Iterator[dict[str, Any]]:
    """Pods of each class in turn, each of a workload that nobody has seen before."""
    for number in count():
        pps = 600_000 + 79_190 * number % 5_000_000
        annotations = {CLASS: classes[number % len(classes)], "podsla.io/min-pps": str(pps)}
        yield {**POD, "metadata": {**POD["metadata"], "namespace": HOME, "annotations": annotations}}


@click.command()
@click.option("--catalogs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--sizes", type=click.IntRange(1), default=1000, show_default=True, help="In each of them.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def main(catalogs: int, sizes: int, output: str) -> None:
    """Bring up a cluster, and measure a replica by the shipped catalogue and by many large ones."""
    with stand("bench-catalogs", "control-plane") as cluster:
        cluster.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})
        note("the shipped catalogues", style="dim")
        found = [measure(cluster, list(SHIPPED), 2, 718, ["net-intensive"])]
        note(f"{catalogs} of {sizes} sizes each", style="dim")
        folder = cluster.cluster.folder / "catalogs"
        folder.mkdir()
        for made in make_catalogs(catalogs, sizes):
            (folder / f"{made['metadata']['name']}.json").write_bytes(orjson.dumps(made))
        classes = [f"class-{number}" for number in range(catalogs)]
        found.append(measure(cluster, [str(folder)], 2 + catalogs, 718 + catalogs * sizes, classes))
        said = facts(cluster)
    if output == "json":
        print_json({"facts": said, "held": [asdict(one) for one in found]})
    else:
        print_report(said, found)


def measure(stand: Stand, sources: list[str], catalogs: int, sizes: int, classes: list[str]) -> Held:
    """Publish, start replicas one after the other, and ask the last of them."""
    env = {**os.environ, "KUBECONFIG": str(stand.cluster.kubeconfig)}
    began_s = time.perf_counter()
    done = subprocess.run(
        [PODSLA, "catalog", "apply", "--wait", str(int(_DEADLINE_S)), *sources], env=env, capture_output=True, text=True
    )
    published_s = time.perf_counter() - began_s
    if done.returncode:
        raise click.ClickException(done.stdout[-2000:] + done.stderr)
    ready_s = []
    for number in range(STARTS):
        with replica(stand) as (port, process, took_s):
            ready_s.append(took_s)
            if number == STARTS - 1:
                times = ask(stand, port, classes)
                webhook_mib = resident_mib(process.pid)
    tail_us = statistics.quantiles(times, n=100)[98]
    controller_mib = resident_mib(stand.process("podsla-controller").pid)
    return Held(
        catalogs, sizes, published_s, tuple(ready_s), webhook_mib, controller_mib, statistics.median(times), tail_us
    )


@contextmanager
def replica(stand: Stand) -> Iterator[tuple[int, Process, float]]:
    """Run one more replica; its port, its process, and how long it took to be ready."""
    cluster = stand.cluster
    config = service_account_kubeconfig(cluster, "podsla-webhook")
    port = free_ports(["more"], cluster.ports.values())["more"]
    argv = [
        str(PODSLA),
        "webhook",
        "--kubeconfig",
        str(config),
        "--address",
        LOOPBACK,
        "--port",
        str(port),
        "--drain",
        "0",
    ]
    began_s = time.perf_counter()
    process = start(cluster, f"more-{port}", argv, cwd=ROOT)
    try:
        while not is_ready(port):
            if time.perf_counter() - began_s > _DEADLINE_S:
                raise click.ClickException(f"a replica is not ready within {_DEADLINE_S:g} s")
            time.sleep(_LOOK_EVERY_S)
        yield port, process, time.perf_counter() - began_s
    finally:
        stop(process)


def ask(stand: Stand, port: int, classes: list[str]) -> list[float]:
    """Send reviews one at a time, and time each; a pod that got no size ends it."""
    client = (stand.api.get(MUTATING_WEBHOOKS, "podsla") or {})["webhooks"][0]["clientConfig"]
    authority = Path(stand.cluster.folder / "podsla-ca.crt")
    authority.write_bytes(b64decode(client["caBundle"]))
    bodies = (orjson.dumps(_review(pod)) for pod in pods(classes))
    with Caller(port, authority, bodies) as caller:
        for _ in classes:
            wait_ready(
                stand.cluster, "the replica serves the classes", lambda: b'"patch"' in caller.call(caller.opened[0])
            )
        return [taken for _ in range(ROUNDS) for taken in caller.alone_us()]


def _review(pod: dict[str, Any]) -> dict[str, Any]:
    asked = review()
    return {**asked, "request": {**asked["request"], "namespace": HOME, "object": pod}}


def print_report(said: dict[str, str], found: list[Held]) -> None:
    """Everything, for people."""
    for key, text in said.items():
        say(f"{key}: {text}")
    columns = ("catalogues", "sizes", "published s", "start to ready s", "longest", "webhook MiB", "controller MiB",
               "median µs", "p99 µs")  # fmt: skip
    print_table(columns, [_cells(one) for one in found])


def _cells(one: Held) -> tuple[str, ...]:
    ready = (f"{statistics.median(one.ready_s):.2f}", f"{max(one.ready_s):.2f}")
    memory = (f"{one.webhook_mib:.0f}", f"{one.controller_mib:.0f}")
    times = (f"{one.median_us:.0f}", f"{one.p99_us:.0f}")
    return (str(one.catalogs), str(one.sizes), f"{one.published_s:.1f}", *ready, *memory, *times)


if __name__ == "__main__":
    main()

"""EDGE: `python -m bench.commands`: how long the commands that read a cluster take on 200 nodes with 2,000 pods."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import click

from bench.cluster.stand import Stand, apply_catalogs, facts, stand
from catalog.load import SHIPPED_CATALOG
from kube.api import ApiError, Resource
from kube.kinds import NAMESPACES, NODES, PODS, SPEC_CATALOGS
from podsla.output import note, print_json, print_table, say
from tests.builders import container, template
from tests.cluster import binaries
from tests.cluster.install import PODSLA, kubectl
from tests.cluster.nodes import DAEMONS
from tests.controller.bad_asks import BAD_ASKS, answer, make_room

BAR_S: Final = 2.0
DEPLOYMENTS: Final = Resource("apps/v1", "deployments")
THERE: Final = "bench"
TENTHS: Final = {"batch": 3, "general": 5, "high-frequency": 1, "net-intensive": 1}  # of the pods, by class
EDIT: Final = ("pps: 1600000", "pps: 1500000")  # in the sizes: what a new edition of published figures looks like
EDITS: Final = 20
ASKED: Final = "bench-asks"
ASKS: Final = 10  # of each kind
ACCOUNTS: Final = Resource("v1", "serviceaccounts")
_COMPILED: Final = {"PYTHONDONTWRITEBYTECODE": ""}  # as pip leaves what it installs
_DEADLINE_S: Final = 180.0
_ASK_EVERY_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.01  # at the status of an edit, which is timed


@dataclass(frozen=True, slots=True)
class Took:
    """A command, and the medians of what its runs took, in seconds; *cpu_s* is its own processor time."""

    command: str
    wall_s: float
    cpu_s: float
    longest_s: float


@click.command()
@click.option("--nodes", type=click.IntRange(12), default=200, show_default=True)
@click.option("--pods", type=click.IntRange(100), default=2000, show_default=True, help="Those of DaemonSets counted.")
@click.option("--runs", type=click.IntRange(1), default=7, show_default=True, help="Of each command, in turns.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def main(nodes: int, pods: int, runs: int, output: str) -> None:
    """Bring up a cluster of simulated nodes, fill it with pods, and time the commands that read it.

    Then wrong edits are applied, and bad asks for GPUs, and it is timed how soon each is told so.

    It ends with 1 if a command did not end as it should, a median is above its bar, or a bad ask was told too late.
    """
    with stand("bench-commands", f"control-plane+kwok={nodes}") as cluster:
        apply_catalogs(cluster)
        fill(cluster, pods - len(DAEMONS) * nodes)
        waits, placed = waiting(cluster), running(cluster)
        edited = cluster.cluster.folder / "ecs.yaml"
        edited.write_text((SHIPPED_CATALOG / "ecs.yaml").read_text().replace(*EDIT))
        commands = the_commands(waits, placed, edited)
        env = {**os.environ, "KUBECONFIG": str(cluster.cluster.kubeconfig), **_COMPILED}
        settle(env)
        found = measure(env, commands, runs)
        told, refused = tell(cluster), refuse(cluster)
        said = {**facts(cluster), "nodes": str(nodes), "pods": str(sum(1 for _ in cluster.api.list(PODS)))}
    if output == "json":
        print_json({"facts": said, "commands": [asdict(took) for took in found], "edits_s": told, "asks_s": refused})
    else:
        print_report(said, found, told, refused)
    if max(statistics.median(told), *map(max, refused.values()), *(took.wall_s for took in found)) > BAR_S:
        raise click.exceptions.Exit(1)


def the_commands(waits: str, placed: str, edited: Path) -> dict[tuple[str, ...], tuple[int, str]]:
    """Each command, the exit code that it should end with, and something that it should say."""
    return {
        ("why", "--help"): (0, "Usage: podsla why"),
        ("why", waits, "-n", THERE): (1, f"Pod/{waits} in {THERE}: fits none of"),
        ("explain", "pod", placed, "-n", THERE): (0, "net-intensive"),
        ("classes",): (0, "net-intensive"),
        ("top",): (0, "SUM"),
        ("doctor",): (0, "all is well"),
        ("catalog", "diff", "--cluster", str(edited)): (0, "network.pps 1600k → 1500k (lowered)"),
    }


def fill(stand: Stand, pods: int) -> None:
    """Run a Deployment for each class, and one more pod that is larger than every node."""
    note(f"{pods} pods", style="dim")
    stand.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": THERE}})
    small = container(requests={"cpu": "100m", "memory": "64Mi"})
    for sla_class, tenths in TENTHS.items():
        made = template(sla_class, labels={"app": sla_class}, containers=[small])
        deploy(stand, sla_class, pods * tenths // 10, made)
    large = container(requests={"cpu": "100", "memory": "128Gi"})
    deploy(stand, "waits", 1, template("general", labels={"app": "waits"}, containers=[large]))
    wanted = sum(pods * tenths // 10 for tenths in TENTHS.values())
    until(lambda: ready(stand) == wanted, f"{wanted} pods are ready")


def ready(stand: Stand) -> int:
    """Count the pods that are on nodes and ready, by the word of their Deployments: pods by the thousand take long."""
    return sum(int(one["status"].get("readyReplicas") or 0) for one in stand.api.list(DEPLOYMENTS, THERE))


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for the state of the world, asking seldom; an API server that is busy is asked again."""
    end_s = time.monotonic() + _DEADLINE_S
    while time.monotonic() < end_s:
        with suppress(ApiError):
            if condition():
                return
        time.sleep(_ASK_EVERY_S)
    raise click.ClickException(f"within {_DEADLINE_S:g} s it did not come to be that {what}")


def deploy(stand: Stand, name: str, replicas: int, made: dict[str, Any]) -> None:
    """Create a Deployment."""
    spec = {"replicas": replicas, "selector": {"matchLabels": made["metadata"]["labels"]}, "template": made}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": THERE}}
    stand.api.create(DEPLOYMENTS, {**body, "spec": spec}, THERE)


def unplaced(stand: Stand) -> list[str]:
    """Name the pods that are on no node."""
    return [pod["metadata"]["name"] for pod in stand.api.list(PODS, THERE, fieldSelector="spec.nodeName=")]


def waiting(stand: Stand) -> str:
    """Name the pod that waits."""
    (name,) = unplaced(stand)
    return name


def running(stand: Stand) -> str:
    """Name a pod that runs."""
    pods = stand.api.list(PODS, THERE, labelSelector="app=net-intensive")
    return str(next(iter(pods))["metadata"]["name"])


def settle(env: dict[str, str]) -> None:
    """Wait until all is well: the controller publishes what 200 nodes offer, and renews its Lease, in its own time."""
    found: list[str] = []

    def well() -> bool:
        done = subprocess.run([PODSLA, "doctor"], env=env, capture_output=True, text=True, check=False)
        found.append(done.stdout + done.stderr)
        return done.returncode == 0

    try:
        until(well, "the doctor finds no error")
    finally:
        if found and not found[-1].startswith("all is well"):
            note(found[-1], style="warn")


def measure(env: dict[str, str], commands: dict[tuple[str, ...], tuple[int, str]], runs: int) -> list[Took]:
    """Run every command once in each round; a first round, of which nothing is kept, warms all up."""
    times: dict[tuple[str, ...], list[tuple[float, float]]] = {command: [] for command in commands}
    for number in range(runs + 1):
        note(f"round {number} of {runs}", style="dim")
        for command, (code, said) in commands.items():
            took = run(command, env, code, said)
            if number:
                times[command].append(took)
    return [
        Took(
            " ".join(word if not word.startswith("/") else Path(word).name for word in command),
            statistics.median(wall for wall, _ in each),
            statistics.median(cpu for _, cpu in each),
            max(wall for wall, _ in each),
        )
        for command, each in times.items()
    ]


def run(command: Sequence[str], env: dict[str, str], code: int, said: str) -> tuple[float, float]:
    """Run a command, which has to be right; give what it took, and its processor time."""
    before, started_s = children_s(), time.monotonic()
    done = subprocess.run([PODSLA, *command], env=env, capture_output=True, text=True, check=False)
    took_s = time.monotonic() - started_s
    if done.returncode != code or said not in done.stdout:
        text = f"podsla {' '.join(command)} ended with {done.returncode}, and should with {code}, saying {said!r}"
        raise click.ClickException(f"{text}:\n{done.stdout}{done.stderr}")
    return took_s, children_s() - before


def children_s() -> float:
    """Processor time of the child processes that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def wrong(number: int) -> dict[str, Any]:
    """An edit of a catalogue that the API server takes and only the controller sees to be wrong."""
    head = {"apiVersion": "podsla.io/v1beta1", "kind": "SpecCatalog", "metadata": {"name": "bench-edits"}}
    size = {"name": "bench.g1.large", "vcpu": "4", "memory": "8Gi"}
    sla_class = {"name": "bench-edits", "sizes": {"names": [size["name"]]}, "fallback": [f"nobody-{number}"]}
    return {**head, "spec": {"sizes": [size], "classes": [sla_class]}}


def tell(stand: Stand) -> list[float]:
    """Apply wrong edits, one after the other; how long each takes from the end of `apply` to its word in the status."""
    note(f"{EDITS} edits", style="dim")
    took_s = []
    for number in range(EDITS):
        kubectl(stand.cluster, "apply", "-f", "-", text=json.dumps(wrong(number)))
        started_s = time.monotonic()
        while not refused(stand, f"nobody-{number}"):
            if time.monotonic() - started_s > _DEADLINE_S:
                raise click.ClickException(f"edit {number} was not judged within {_DEADLINE_S:g} s")
            time.sleep(_LOOK_EVERY_S)
        took_s.append(time.monotonic() - started_s)
    return took_s


def refused(stand: Stand, problem: str) -> bool:
    """Whether the status of the edited catalogue names this problem."""
    status = (stand.api.get(SPEC_CATALOGS, "bench-edits") or {}).get("status") or {}
    said = [one for one in status.get("conditions") or () if one["type"] == "Accepted" and one["status"] == "False"]
    return any(repr(problem) in one["message"] for one in said)


def refuse(stand: Stand) -> dict[str, list[float]]:
    """Apply each bad ask for a GPU; how long each takes from the start of `kubectl apply` to its reason, in seconds."""
    note(f"{len(BAD_ASKS) * ASKS} bad asks for a GPU", style="dim")
    stand.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ASKED}})
    until(lambda: stand.api.get(ACCOUNTS, "default", ASKED) is not None, f"namespace {ASKED} has its service account")
    make_room(stand.api, ASKED, next(iter(stand.api.list(NODES)))["metadata"]["name"])
    env = {**os.environ, "KUBECONFIG": str(stand.cluster.kubeconfig)}

    def apply(*arguments: str, text: str) -> subprocess.CompletedProcess[str]:
        argv = [str(binaries.find("kubectl")), *arguments]
        return subprocess.run(argv, env=env, input=text, capture_output=True, text=True, check=False)

    took_s: dict[str, list[float]] = {what: [] for what in BAD_ASKS}
    for number, (what, ask) in product(range(ASKS), BAD_ASKS.items()):
        started_s = time.monotonic()
        said = answer(ask, f"-{number}", stand.api, ASKED, apply)
        took_s[what].append(time.monotonic() - started_s)
        if ask.reason not in said or ask.said not in said:
            raise click.ClickException(f"{what} was told {said!r}, and should be {ask.reason}: {ask.said}")
    return took_s


def print_report(
    said: dict[str, str], found: Sequence[Took], told: Sequence[float], refused: dict[str, list[float]]
) -> None:
    """Everything, for people."""
    for key, text in said.items():
        say(f"{key}: {text}")
    say()
    rows = [
        (took.command, f"{took.wall_s:.2f} s", f"{took.cpu_s:.2f} s", f"{took.longest_s:.2f} s", f"{BAR_S:g} s")
        for took in found
    ]
    print_table(("podsla …", "median", "of it cpu", "longest", "bar"), rows)
    say()
    say(f"{len(told)} wrong edits, from the end of `kubectl apply` to the controller's word in the status: "
        f"median {statistics.median(told):.2f} s, longest {max(told):.2f} s, bar {BAR_S:g} s")  # fmt: skip
    say()
    asks = [(what, f"{statistics.median(each):.2f} s", f"{max(each):.2f} s", f"{BAR_S:g} s")
            for what, each in refused.items()]  # fmt: skip
    print_table((f"told of, {ASKS} times each", "median", "longest", "bar"), asks)


if __name__ == "__main__":
    sys.exit(main())

"""EDGE: `python -m tests.cluster`: real Kubernetes clusters on this machine, for people."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Column, Table

from tests.cluster import binaries, lifecycle
from tests.cluster.collect import collect_into, last_lines
from tests.cluster.install import install
from tests.cluster.kind import DEFAULT_PROFILE
from tests.cluster.pins import needed
from tests.cluster.profile import Profile, ProfileError, parse_profile
from tests.cluster.state import Cluster, ClusterError, list_names, load_cluster, state_folder

_console = Console(stderr=True)
_NAME = click.option("--name", default="podsla", show_default=True, help="Of the cluster.")


class _ProfileType(click.ParamType[Profile]):
    name = "PARTS"

    def convert(self, value: str | Profile, param: click.Parameter | None, ctx: click.Context | None) -> Profile:
        """Read a profile, or end with its message."""
        try:
            return value if isinstance(value, Profile) else parse_profile(value)
        except ProfileError as error:
            self.fail(str(error), param, ctx)


_PROFILE = click.option(
    "--profile",
    type=_ProfileType(),
    default=DEFAULT_PROFILE,
    show_default=True,
    help="What the cluster has: control-plane, then any of kwok=N, karpenter, host, vm, unlimited, joined by +.",
)


@click.group(epilog="State: PODSLA_STATE, else ~/.local/state/podsla. Programs: PODSLA_CACHE, else ~/.cache/podsla.")
def main() -> None:
    """Bring up real Kubernetes clusters on this machine, as processes, without Docker or a registry.

    \b
      python -m tests.cluster up                                  a control plane and 12 simulated nodes, as any user
      python -m tests.cluster up --profile control-plane+host     this machine becomes a node; needs root
      python -m tests.cluster up --name two                       a second cluster beside the first
      python -m tests.cluster down --all                          and nothing is left behind

    \b
    Parts of a profile:
      control-plane   etcd, kube-apiserver, kube-controller-manager, kube-scheduler
      kwok=N          N simulated nodes: 12 sizes of 12 families in turn, GPUs among them
      karpenter       simulated nodes of those sizes, when pods need them
      host            this machine as a node: containerd and kubelet (root, cgroups)
      vm              a virtual machine as a node: systemd, cgroup version 2 (root, QEMU)
      unlimited       the API server takes any number of requests at once, for load tests

    The programs are found in TEST_ASSET_<NAME>, KUBEBUILDER_ASSETS and the cache, or built once with Go.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)  # what was begun is taken back


@main.command()
@_PROFILE
@_NAME
@click.option("--install", "with_podsla", is_flag=True, help="Install podsla in it too.")
@click.option(
    "--gpus", type=click.IntRange(min=1), help="And so many GPUs of this machine to lend, for which devices stand."
)
def up(profile: Profile, name: str, *, with_podsla: bool, gpus: int | None) -> None:
    """Bring a cluster up and print its kubeconfig.

    A cluster of this name that is up with this profile is kept; what a crash has left of one is cleaned away first.
    """
    if gpus and not (with_podsla and profile.host):
        raise click.UsageError("--gpus needs podsla and this machine as a node: --install --profile control-plane+host")
    began = time.monotonic()
    with _reported() as report:
        cluster = lifecycle.up(name, profile, report)
        if with_podsla:
            report("podsla")
            install(cluster)
        if gpus:
            from tests.cluster.gpus import lend_here

            lend_here(cluster, gpus, report)
    _console.print(f"cluster [bold]{name}[/] ({profile}) is up after {time.monotonic() - began:.1f} s; use it with:")
    click.echo(f"export KUBECONFIG={cluster.kubeconfig}")
    _console.print(f"and take it down with: make cluster-down NAME={name}")


@main.command()
@_NAME
@click.option("--all", "everything", is_flag=True, help="Every cluster, crashed ones too.")
def down(name: str, everything: bool) -> None:
    """Take a cluster down and remove all that it made on this machine."""
    for each in list_names() if everything else [name]:
        with _reported() as report:
            there = lifecycle.down(each, report)
        _console.print(f"cluster {each} is down" if there else f"there is no cluster {each}; nothing to do")


@main.command("list")
def list_clusters() -> None:
    """List clusters and how they are."""
    table = Table("NAME", "STATE", "PROFILE", Column("KUBECONFIG", overflow="fold"), box=None, pad_edge=False)
    names = list_names()
    for name in names:
        cluster = load_cluster(name)
        state = "up" if cluster and lifecycle.is_up(cluster) else "broken"
        table.add_row(name, state, str(cluster.profile) if cluster else "", str(cluster.kubeconfig) if cluster else "")
    if names:
        Console(width=None if _console.is_terminal else 200).print(table)
    else:
        _console.print(f"no clusters in {state_folder()}")


@main.command()
@_NAME
@click.option("-n", "--lines", default=40, show_default=True, help="How many of each log's last lines.")
@click.argument("component", required=False)
def logs(name: str, lines: int, component: str | None) -> None:
    """Print the end of a component's log, or of every component's."""
    with _failures():
        for line in last_lines(_existing(name), component, lines):
            click.echo(line)


@main.command()
@_PROFILE
def build(profile: Profile) -> None:
    """Find or build the programs of a profile, and say where they are; make the images of its real nodes."""
    from tests.cluster import images

    with _failures():
        for name, path in binaries.ensure(needed(profile)).items():
            click.echo(f"{name}\t{path}")
        images.prepare(profile)


@main.command()
@_NAME
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def collect(name: str, folder: Path) -> None:
    """Copy a cluster's logs, and its objects but for Secrets, into FOLDER."""
    with _failures():
        collect_into(_existing(name), folder)
    _console.print(f"logs and objects of cluster {name} are in {folder}")


def _existing(name: str) -> Cluster:
    cluster = load_cluster(name)
    if cluster is None:
        known = ", ".join(list_names()) or "none"
        raise ClusterError(f"there is no cluster {name!r}; those that exist: {known}")
    return cluster


_told_to_end: Final = threading.Event()


def _interrupt(number: int, frame: object) -> None:
    _told_to_end.set()
    raise KeyboardInterrupt


def _heed(report: Callable[[str], None]) -> Callable[[str], None]:
    """Raise again what Python passed over: an interrupt that comes amid a finalizer is ignored there."""

    def heeding(what: str) -> None:
        if _told_to_end.is_set() and sys.exc_info()[0] is None:
            raise KeyboardInterrupt
        report(what)

    return heeding


@contextmanager
def _failures() -> Iterator[None]:
    """Show what went wrong as a message."""
    try:
        yield
    except ClusterError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _reported() -> Iterator[Callable[[str], None]]:
    """Show what is being waited for: on a terminal in one line, elsewhere a line each."""
    with _failures():
        if not _console.is_terminal:
            yield _heed(lambda what: _console.print(what))
            return
        status = _console.status("")

        def report(what: str) -> None:
            status.update(what)
            status.start()  # not before the first word: until then a build's display has the terminal

        try:
            yield _heed(report)
        finally:
            status.stop()


if __name__ == "__main__":
    main(prog_name="python -m tests.cluster")

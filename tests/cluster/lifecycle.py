"""EDGE: brings clusters up and takes them down, whatever happened to the launcher in between."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.cluster import binaries, karpenter
from tests.cluster.control_plane import PORTS, start_control_plane
from tests.cluster.kwok import start_kwok
from tests.cluster.network import BRIDGE, BRIDGE_ADDRESS, LOOPBACK, check_root, create_bridge, free_ports
from tests.cluster.pins import needed
from tests.cluster.processes import is_alive
from tests.cluster.profile import Profile
from tests.cluster.state import (
    Cluster,
    ClusterError,
    Link,
    Process,
    cluster_folder,
    create_folder,
    list_names,
    load_cluster,
    locked,
    remove_folder,
)
from tests.cluster.undo import undo

Report = Callable[[str], None]


def up(name: str, profile: Profile, report: Report) -> Cluster:
    """
    Bring a cluster up; one that is up with this profile is left as it is, and a crashed one is cleaned away first.

    Args:
        report: Told what is being waited for.

    Raises:
        ClusterError: It is up with another profile, or did not come up; then nothing of it runs, and its logs stay.
    """
    with locked(name):
        found = load_cluster(name)
        if found is not None and is_up(found):
            if found.profile == profile:
                return found
            raise ClusterError(
                f"cluster {name!r} is up with profile {found.profile}, not {profile}; take it down first, or choose "
                f"another name"
            )
        if profile.real:
            check_root()
        paths = binaries.ensure(needed(profile))
        _clear(name, found, report)
        address = BRIDGE_ADDRESS if profile.real else LOOPBACK
        cluster = Cluster(
            name, profile, cluster_folder(name), address, free_ports((*PORTS, *karpenter.PORTS), _taken_ports())
        )
        create_folder(cluster)
        try:
            _start(cluster, paths, report)
        except ClusterError as error:
            raise ClusterError(f"{error}\n{_stopped(cluster)}") from error
        except BaseException:
            _stopped(cluster)
            raise
        ready = cluster.with_ready()
        ready.save()
        return ready


def _stopped(cluster: Cluster) -> str:
    """Stop what has come up, leave the logs, and say so."""
    try:
        _stop(cluster, lambda _: None)
    except ClusterError as left:
        return str(left)
    return f"cluster {cluster.name!r} is stopped; its logs are in {cluster.folder / 'log'}"


def _start(cluster: Cluster, paths: dict[str, Path], report: Report) -> None:
    if cluster.profile.real:
        create_bridge(cluster)
    start_control_plane(cluster, paths, report)
    starts = list(_node_starts(cluster, paths, report))
    with ThreadPoolExecutor(max(len(starts), 1)) as pool:
        for begun in [pool.submit(start) for start in starts]:
            begun.result()


def _node_starts(cluster: Cluster, paths: dict[str, Path], report: Report) -> Iterator[Callable[[], None]]:
    """What adds nodes; real ones are imported only where they are wanted."""
    if cluster.profile.kwok_nodes or cluster.profile.karpenter:
        yield lambda: _start_played(cluster, paths, report)
    if cluster.profile.host:
        from tests.cluster import host

        yield lambda: host.start(cluster)
    if cluster.profile.vm:
        from tests.cluster import vm

        yield lambda: vm.start(cluster)


def _start_played(cluster: Cluster, paths: dict[str, Path], report: Report) -> None:
    """Start what plays nodes, then what buys them."""
    start_kwok(cluster, paths, report)
    if cluster.profile.karpenter:
        karpenter.start_karpenter(cluster, paths, report)


def down(name: str, report: Report) -> bool:
    """
    Take a cluster down and remove all that it made; one that is down already is no error.

    Returns:
        Whether there was anything to take down.

    Raises:
        ClusterError: Something of it stays, and is named; a later call tries again.
    """
    with locked(name):
        there = cluster_folder(name).is_dir()
        _clear(name, load_cluster(name), report)
    return there


def _clear(name: str, found: Cluster | None, report: Report) -> None:
    if found is not None:
        report(f"stopping what is left of {name}")
        _stop(found, report)
    remove_folder(name)


def _stop(cluster: Cluster, report: Report) -> None:
    """Let real nodes end their pods in order where they can, then take back everything in the journal."""
    if Link(BRIDGE) in cluster.journal.read():  # without it, nothing was begun on real nodes
        from tests.cluster import host, vm

        for wanted, module in ((cluster.profile.vm, vm), (cluster.profile.host, host)):
            if wanted:
                report(f"stopping the {module.__name__.rpartition('.')[2]} node")
                with suppress(ClusterError, OSError):  # what it leaves, the journal has
                    module.stop(cluster)
    undo(cluster.journal)


def is_up(cluster: Cluster) -> bool:
    """Whether everything came up and every process of it is still the one that was started."""
    processes = [made for made in cluster.journal.read() if isinstance(made, Process)]
    return cluster.ready and bool(processes) and all(map(is_alive, processes))


def clusters() -> list[Cluster]:
    """Every cluster that has a folder and can be read."""
    return [found for name in list_names() if (found := load_cluster(name)) is not None]


def _taken_ports() -> Iterable[int]:
    return [port for cluster in clusters() for port in cluster.ports.values()]

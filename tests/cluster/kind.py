"""EDGE: the sub-commands of kind that pytest-kind calls, answered by this launcher; see the script `kind` beside it."""

import os
import shutil
import signal
from pathlib import Path
from typing import Final

import click

from tests.cluster.lifecycle import clusters, down, is_up, up
from tests.cluster.profile import ProfileError, parse_profile
from tests.cluster.state import ClusterError, load_cluster

DEFAULT_PROFILE: Final = "control-plane+kwok=12"
PROFILE_VARIABLE: Final = "PODSLA_CLUSTER_PROFILE"
_NAME = click.option("--name", default="kind", show_default=True, help="Of the cluster.")
_KUBECONFIG = click.option("--kubeconfig", type=click.Path(path_type=Path), help="Where the kubeconfig goes.")


class Failure(click.ClickException):
    """A message without a traceback, as kind has it."""


@click.group()
def main() -> None:
    """Answer as kind does, with clusters of this launcher: processes, and no containers.

    The profile of a new cluster is that of PODSLA_CLUSTER_PROFILE, by default control-plane+kwok=12.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was begun is taken back


@main.group()
def get() -> None:
    """List what there is."""


@get.command("clusters")
def get_clusters() -> None:
    """List clusters that are up."""
    names = [cluster.name for cluster in clusters() if is_up(cluster)]
    click.echo("\n".join(names) if names else "No kind clusters found.", err=not names)


@main.group()
def create() -> None:
    """Create a cluster."""


@create.command("cluster")
@_NAME
@_KUBECONFIG
@click.option("--config", type=click.Path(), help="Of kind; not read: the profile says what the cluster has.")
@click.option("--image", help="Of kind; not used: the pinned modules say which version runs.")
def create_cluster(name: str, kubeconfig: Path | None, config: str | None, image: str | None) -> None:
    """Create a cluster and write its kubeconfig."""
    for option, given in (("--config", config), ("--image", image)):
        if given:
            click.echo(f"{option} {given} is not used: {PROFILE_VARIABLE} says what the cluster has", err=True)
    try:
        profile = parse_profile(os.environ.get(PROFILE_VARIABLE, DEFAULT_PROFILE))
        cluster = up(name, profile, lambda what: click.echo(f"waiting for {what}", err=True))
    except (ClusterError, ProfileError) as error:
        raise Failure(str(error)) from error
    if kubeconfig is None:
        click.echo(f"export KUBECONFIG={cluster.kubeconfig}", err=True)
    else:
        kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cluster.kubeconfig, kubeconfig)
        kubeconfig.chmod(0o600)


@main.group()
def load() -> None:
    """Load images."""


@load.command("docker-image")
@click.argument("image")
@_NAME
def load_docker_image(image: str, name: str) -> None:
    """Load an image, by name or as a tar archive, into every real node."""
    cluster = load_cluster(name)
    if cluster is None or not is_up(cluster):
        raise Failure(f"no cluster {name!r} is up; `kind get clusters` lists those that are")
    from tests.cluster import images

    try:
        images.load(cluster, image)
    except ClusterError as error:
        raise Failure(str(error)) from error


@main.group()
def delete() -> None:
    """Delete a cluster."""


@delete.command("cluster")
@_NAME
@_KUBECONFIG
def delete_cluster(name: str, kubeconfig: Path | None) -> None:
    """Delete a cluster, and the kubeconfig that was written for it."""
    try:
        down(name, lambda what: click.echo(what, err=True))
    except ClusterError as error:
        raise Failure(str(error)) from error
    if kubeconfig is not None:
        kubeconfig.unlink(missing_ok=True)


if __name__ == "__main__":
    main(prog_name="kind")

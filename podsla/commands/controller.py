"""`podsla controller`: accept catalogues, publish what nodes offer, keep certificates."""

import os
import platform
from pathlib import Path

import click

from podsla.options import cluster_options


@click.command("controller")
@cluster_options
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="For probes and metrics.")
@click.option("--identity", default=None, help="Who holds the Lease; default: host name and process.")
def controller_command(
    kubeconfig: Path | None, context: str | None, namespace: str, port: int, identity: str | None
) -> None:
    """Accept catalogues, publish what nodes offer, keep the webhook's certificate.

    Any number may run; the one that holds the Lease `podsla-controller` works, and the others take over from it. GET
    /livez, /readyz and /metrics are answered on --port. SIGTERM gives the Lease up and ends.

    \b
      podsla controller --kubeconfig ~/.kube/config
    """
    from controller.process import run_controller  # the client takes 0.3 s to import: no other command waits
    from kube.api import Api
    from kube.logs import log_to_stdout
    from podsla.cluster import told

    log_to_stdout()
    with told():
        api = Api.connect(kubeconfig, context)
    run_controller(api, namespace, identity or f"{platform.node()}-{os.getpid()}", port)

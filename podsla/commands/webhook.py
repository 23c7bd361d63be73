"""`podsla webhook`: answer admission reviews over TLS."""

from collections.abc import Sequence
from pathlib import Path

import click

from podsla.files import catalog_paths
from podsla.options import catalog_options, cluster_options

_ANY = "0.0.0.0"  # noqa: S104 - a Service reaches a pod by its own address
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("webhook")
@cluster_options
@click.option("--tls-secret", default="podsla-webhook-tls", show_default=True, help="The TLS Secret of the namespace.")
@catalog_options
@click.option("--namespaces", type=_FILE, metavar="FILE", help="Namespaces with their labels, as kubectl prints them.")
@click.option(
    "--tls-cert", type=_FILE, metavar="FILE", help="Certificate chain, PEM; with it, everything is from files."
)
@click.option("--tls-key", type=_FILE, metavar="FILE", help="Private key, PEM (PKCS#8).")
@click.option("--address", default=_ANY, show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8443, show_default=True, help="The port.")
@click.option(
    "--drain",
    type=click.FloatRange(0, 300),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="How long to answer on after SIGTERM, while /readyz says no.",
)
def webhook_command(
    kubeconfig: Path | None,
    context: str | None,
    namespace: str,
    tls_secret: str,
    catalogs: Sequence[str],
    target: str,
    namespaces: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    address: str,
    port: int,
    drain: float,
) -> None:
    """Answer admission reviews: POST /mutate, /validate and /templates; GET /livez, /readyz and /metrics.

    In a cluster it serves the catalogues that `podsla controller` accepted, with the certificate that it issued, and
    follows both. With --tls-cert and --tls-key it serves --catalog, --target and --namespaces from files: SIGHUP reads
    them anew; where they are wrong, the last good ones are served on. A renewed certificate is taken over by itself.
    SIGTERM ends after the calls in flight. With --drain, /readyz says no at once, calls are answered for that long, and
    each answer closes its connection: long enough, and whoever routes calls here has heard of it.

    \b
      podsla webhook --kubeconfig ~/.kube/config
      podsla webhook --catalog platform.yaml --target my-cluster.yaml --tls-cert tls.crt --tls-key tls.key
    """
    from webhook.server import Listen, Settings, serve_files  # a server takes 0.2 s to import: no other command waits

    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together; give both, or neither to serve a cluster")
    if tls_cert is not None:
        settings = Settings(tuple(catalog_paths(catalogs)), target, namespaces)
        serve_files(settings, Listen(address, port, tls_cert, tls_key, drain_s=drain))
        return
    if catalogs or namespaces:
        raise click.UsageError("--catalog and --namespaces serve from files, which needs --tls-cert and --tls-key")
    from kube.api import Api
    from podsla.cluster import told
    from webhook.live import serve_cluster

    with told():
        serve_cluster(
            lambda: Api.connect(kubeconfig, context), namespace, tls_secret, Listen(address, port, drain_s=drain)
        )

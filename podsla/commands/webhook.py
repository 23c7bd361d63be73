"""`podsla webhook`: answer admission reviews over TLS."""

from collections.abc import Sequence
from pathlib import Path

import click

from podsla.options import catalog_options, catalog_paths

_ANY = "0.0.0.0"  # noqa: S104 - a Service reaches a pod by its own address
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("webhook")
@catalog_options
@click.option("--namespaces", type=_FILE, metavar="FILE", help="Namespaces with their labels, as kubectl prints them.")
@click.option("--tls-cert", type=_FILE, metavar="FILE", required=True, help="Certificate chain, PEM.")
@click.option("--tls-key", type=_FILE, metavar="FILE", required=True, help="Private key, PEM (PKCS#8).")
@click.option("--address", default=_ANY, show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8443, show_default=True, help="The port.")
def webhook_command(
    catalogs: Sequence[str],
    target: str,
    namespaces: Path | None,
    tls_cert: Path,
    tls_key: Path,
    address: str,
    port: int,
) -> None:
    """Answer admission reviews: POST /mutate, /validate and /templates; GET /livez, /readyz and /metrics.

    Serves the catalogue from files. SIGHUP reads them anew; where they are wrong, the last good ones are served on. A
    renewed certificate is taken over by itself. SIGTERM ends after the calls in flight; new connections are refused at
    once, so take the address out of service before.

    \b
      podsla webhook --catalog platform.yaml --target my-cluster.yaml --tls-cert tls.crt --tls-key tls.key
    """
    from webhook.server import Listen, Settings, serve_files  # a server takes 0.2 s to import: no other command waits

    settings = Settings(tuple(catalog_paths(catalogs)), target, namespaces)
    serve_files(settings, Listen(address, port, tls_cert, tls_key))

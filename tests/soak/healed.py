"""EDGE: what still stands wrong once everything has happened: every wrong state is to heal by itself."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from kube.api import Object
from kube.kinds import LEASES, SPEC_CATALOGS
from tests.cluster.install import NAMESPACE
from tests.cluster.processes import is_alive
from tests.controller.test_certificates import NAME, served
from tests.soak.stand import WAIT_S, Stand
from tests.webhook.test_certificate import accepts


def wrong_at_last(stand: Stand) -> list[str]:
    """Say what stands wrong, once nothing does or time is up."""
    end_s = time.monotonic() + WAIT_S
    while (found := list(wrong(stand))) and time.monotonic() < end_s:
        time.sleep(1.0)
    return found


def wrong(stand: Stand) -> Iterator[str]:
    """Look at processes, who leads, certificates and catalogues."""
    processes = {**{str(port): one for port, one in stand.replicas.items()}, **stand.controllers}
    yield from (f"{name} has ended" for name, process in processes.items() if not is_alive(process))
    yield from (f"replica {port} is not ready" for port in stand.replicas if port not in stand.balancer.ready)
    holder = ((stand.api.get(LEASES, "podsla-controller", NAMESPACE) or {}).get("spec") or {}).get("holderIdentity", "")
    if holder not in stand.controllers:
        yield f"{holder or 'nobody'} leads, and controllers are {', '.join(stand.controllers)}"
    bundles = set(stand.bundles())
    if len(bundles) != 1:
        yield f"entries of the webhook have {len(bundles)} CA bundles, and should have one"
    for port in stand.replicas:
        try:
            leaf = served(port)
        except OSError as error:
            yield f"replica {port} does not answer: {error}"
            continue
        if not all(accepts(bundle, leaf, NAME, datetime.now(UTC)) for bundle in bundles):
            yield f"no API server accepts what replica {port} serves"
    for catalog in stand.api.list(SPEC_CATALOGS):
        meta, conditions = catalog["metadata"], (catalog.get("status") or {}).get("conditions") or ()
        accepted: Object = next((one for one in conditions if one["type"] == "Accepted"), {})
        if (accepted.get("status"), accepted.get("observedGeneration")) != ("True", meta["generation"]):
            yield f"catalogue {meta['name']} is not accepted: {accepted.get('message', 'it has no condition')}"

"""A real cert-manager keeps the webhook's certificate, as the overlay has it: taken over, renewed and given back."""

import ssl
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pytest
import yaml
from cryptography import x509

from controller.certificates import LEAF_SECRET
from kube.api import Object, Resource
from kube.kinds import SECRETS
from tests.cluster import binaries
from tests.cluster.install import NAMESPACE, ROOT, kubectl
from tests.cluster.network import LOOPBACK
from tests.cluster.pins import CERT_MANAGER_CRDS
from tests.cluster.processes import start, stop
from tests.soak.events import TAKEN_OVER_S, Event
from tests.soak.report import lines
from tests.soak.soak import soak
from tests.soak.stand import Stand
from tests.waiting import eventually
from webhook.certificate import CA_NAME
from webhook.server import HANDOVER_S

pytestmark = pytest.mark.cluster

COMPONENT: Final = ROOT / "manifests" / "components" / "cert-manager" / "certificate.yaml"
CERTIFICATES: Final = Resource("cert-manager.io/v1", "certificates")
KINDS: Final = {"Certificate": CERTIFICATES, "Issuer": Resource("cert-manager.io/v1", "issuers")}
LEAF, CA = "podsla-webhook", "podsla-cert-manager-ca"
THEIRS: Final = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, CA)])
WAIT_S: Final = HANDOVER_S + 60.0  # a replica that is handing over takes the next certificate up afterwards
LOG_END: Final = 4000  # characters of its log, which are shown where a test fails


@pytest.fixture
def cert_manager(made: Stand) -> Iterator[None]:
    """It runs; its kinds are taken away at the end, with all that there is of them."""
    crds = str(binaries.find(CERT_MANAGER_CRDS))
    kubectl(made.cluster, "apply", "--server-side", "-f", crds)
    kubectl(made.cluster, "wait", "--for=condition=Established", "-f", crds, "--timeout=30s")
    process = start(made.cluster, "cert-manager", [binaries.find("cert-manager"), made.cluster.kubeconfig])
    yield
    print(kubectl(made.cluster, "get", "issuers,certificates,certificaterequests", "-n", NAMESPACE, "-o", "wide"))
    print(made.cluster.log("cert-manager").read_text()[-LOG_END:])
    stop(process)
    kubectl(made.cluster, "delete", "-f", crds)


def documents() -> list[dict[str, Any]]:
    """The component's, with the address at which replicas are called here beside the Service's names."""
    found = list(yaml.safe_load_all(COMPONENT.read_text()))
    (leaf,) = (one["spec"] for one in found if one["metadata"]["name"] == LEAF)
    leaf["ipAddresses"] = [LOOPBACK]
    return found


def shown(made: Stand) -> list[x509.Certificate]:
    """The certificate of each replica."""
    texts = [ssl.get_server_certificate((LOOPBACK, port)) for port in made.replicas]
    return [x509.load_pem_x509_certificate(text.encode()) for text in texts]


def wait_for(made: Stand, issuer: x509.Name, before: set[int]) -> set[int]:
    """Wait until each replica shows a certificate of that issuer, and none from before; their serial numbers."""

    def numbers() -> set[int]:
        found = shown(made)
        assert {one.issuer for one in found} == {issuer}
        return {one.serial_number for one in found}

    eventually(lambda: len(numbers()) == 1 and numbers().isdisjoint(before), f"{issuer} signs", WAIT_S)
    time.sleep(TAKEN_OVER_S)
    return numbers()


def renew(made: Stand, name: str) -> None:
    """Have a certificate issued anew, as `cmctl renew` does."""
    found = made.api.call("GET", CERTIFICATES.path(NAMESPACE, name))
    asked = {
        "type": "Issuing",
        "status": "True",
        "reason": "ManuallyTriggered",
        "message": "Certificate re-issuance manually triggered",
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "observedGeneration": found["metadata"]["generation"],
    }
    others = [one for one in found["status"]["conditions"] if one["type"] != "Issuing"]
    status = {"status": {"conditions": [*others, asked]}}
    made.api.patch(CERTIFICATES, name, status, namespace=NAMESPACE, subresource="status")
    eventually(lambda: revision(made, name) > found["status"]["revision"], f"{name} is renewed", WAIT_S)


def revision(made: Stand, name: str) -> int:
    """How often a certificate was issued."""
    status: Mapping[str, Any] = made.api.call("GET", CERTIFICATES.path(NAMESPACE, name))["status"]
    return int(status.get("revision", 0))


def secret(made: Stand) -> Object | None:
    return made.api.get(SECRETS, LEAF_SECRET, NAMESPACE)


def issuer_of(found: Object | None) -> x509.Name | None:
    """Who signed the certificate in a Secret; None where there is none."""
    return x509.load_pem_x509_certificate(b64decode(found["data"]["tls.crt"])).issuer if found else None


@pytest.mark.usefixtures("cert_manager")
def test_cert_manager_takes_over_and_no_pod_fails_while_it_renews_and_gives_back(made: Stand) -> None:
    """
    Leaf and CA are renewed; all that the controller does is to publish the CA.

    Seen to fail where what the controller issued does not say so (cert-manager keeps it, as if it were its own), and
    where a replica takes up at once what somebody else issued: pods fail until the controller has published that CA.
    """
    kept: list[Object] = []

    def story(made: Stand) -> None:
        before = {one.serial_number for one in shown(made)}
        for one in documents():
            made.api.create(KINDS[one["kind"]], one, NAMESPACE)
        numbers = wait_for(made, THEIRS, before)
        renew(made, CA)
        renew(made, LEAF)
        kept.append((secret(made) or {})["data"])
        wait_for(made, THEIRS, numbers)
        kept.append((secret(made) or {})["data"])
        for one in documents():
            made.api.delete(KINDS[one["kind"]], one["metadata"]["name"], NAMESPACE)
        made.api.delete(SECRETS, LEAF_SECRET, NAMESPACE)
        eventually(lambda: issuer_of(secret(made)) == CA_NAME, "the controller issues one again", WAIT_S)

    told = soak(made, 0.0, 0, [Event("cert-manager takes over, renews, and gives back", story)], lambda _: None)
    text = "\n".join(lines(told))
    print(text)

    assert told.failed(planned=True) == [], text
    assert told.unmutated == 0, text
    before, after = kept
    assert before == after, "nobody else writes it"
    wait_for(made, CA_NAME, set())  # else a later event, which has a leaf look old, has a CA forgotten that is in use

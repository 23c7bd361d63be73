"""What happens to podsla while pods are created; each event returns when its effect has passed."""

import json
import os
import signal
import ssl
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509

from controller.certificates import CA_SECRET, LEAF_SECRET, SERVICE
from kube.api import PatchKind
from kube.kinds import SECRETS, SPEC_CATALOGS
from tests.builders import pod
from tests.cluster.install import NAMESPACE, PODSLA
from tests.cluster.network import LOOPBACK
from tests.cluster.probe import connect
from tests.soak.clock import COMPILER, Clock
from tests.soak.stand import HOME, WAIT_S, Stand
from tests.waiting import eventually
from tests.webhook.test_server import body_of, post, size_of
from webhook.certificate import BACKDATED, CERTIFICATE_FILE, KEY_FILE, LEAF_LIFE, issue_leaf, parse_pair

ROTATION_S: Final = 180.0  # a new CA is published for a minute before it signs
TAKEN_OVER_S: Final = 20.0  # a replica looks for a new Secret every 5 s, its server for new files every 5 s
CATALOG: Final = "soak"
# Of the leader and of a replica. A certificate is made an hour older than it is: with more than that, clients whose
# clock is right would not take what the leader issues. Who is three hours behind does not take the API server's.
FORWARD: Final = (timedelta(minutes=50), timedelta(hours=30))
BACK: Final = (timedelta(hours=-3), timedelta(hours=-30))
RIGHT: Final = (timedelta(), timedelta())


@dataclass(frozen=True, slots=True)
class Event:
    """
    Something that happens.

    Attributes:
        happen: Makes it happen, and returns when its effect has passed.
        planned: No admission may fail. Otherwise those that do are counted.
        api_down: The API server itself answers nothing for a while.
    """

    name: str
    happen: Callable[[Stand], None]
    planned: bool = True
    api_down: bool = False


def rotate_leaf(stand: Stand) -> None:
    """The certificate is issued anew, under the same CA, and taken over."""
    before = _issued(stand, LEAF_SECRET)
    stand.api.delete(SECRETS, LEAF_SECRET, NAMESPACE)
    eventually(lambda: _issued(stand, LEAF_SECRET) not in (None, before), "a new certificate", WAIT_S)
    time.sleep(TAKEN_OVER_S)


def rotate_ca(stand: Stand) -> None:
    """A new CA is made, published beside the old one, and signs."""
    before = _issuer_key(stand)
    stand.api.delete(SECRETS, CA_SECRET, NAMESPACE)
    eventually(lambda: _issuer_key(stand) != before, "a certificate of a new CA", ROTATION_S)
    time.sleep(TAKEN_OVER_S)


def roll(stand: Stand) -> None:
    """Both replicas are replaced, one after the other, as a Deployment does."""
    for port in list(stand.replicas):
        stand.start_replica()
        stand.end_replica(port)


def kill(stand: Stand) -> None:
    """A replica is killed, and replaced by another."""
    stand.kill_replica(next(iter(stand.replicas)))
    stand.start_replica()


def restart_api_server(stand: Stand) -> None:
    """The API server ends and comes back."""
    stand.restart_api_server()


def restart_etcd(stand: Stand) -> None:
    """etcd ends and comes back."""
    stand.restart_etcd()
    eventually(lambda: stand.api.send("GET", "/readyz").status == 200, "the API server is ready", WAIT_S)


def edit_well(stand: Stand) -> None:
    """A catalogue gets another figure, which is accepted."""
    _edit(stand, {"sizes": [_size(str(time.monotonic_ns() % 1_000 + 1_000))]}, accepted="True")


def edit_badly(stand: Stand) -> None:
    """A catalogue gets an edit that is refused, a replica starts meanwhile, and the edit is taken back."""
    _edit(stand, {"sizes": [_size("1000")], "classes": [{"name": "x", "fallback": ["nobody"]}]}, accepted="False")
    port = next(iter(stand.replicas))
    stand.start_replica()
    stand.end_replica(port)
    edit_well(stand)


def pause_leader(stand: Stand, for_s: float) -> None:
    """The leading controller stands still, and wakes up when another one leads."""
    paused = stand.leader()
    os.kill(paused.pid, signal.SIGSTOP)
    try:
        time.sleep(for_s)
        eventually(lambda: stand.leader() != paused, "another controller leads", WAIT_S)
    finally:
        os.kill(paused.pid, signal.SIGCONT)


def step_clocks(stand: Stand) -> None:
    """The clocks of the leader and of a replica go wrong: forward, back, and right again."""
    others, clocks = list(stand.controllers), (stand.clock(), stand.clock())
    leader = stand.start_controller(clocks[0])
    for name in others:
        stand.end_controller(name)
    eventually(lambda: stand.leader() == stand.controllers[leader], "the one with the clock leads", WAIT_S)
    before = _age_leaf(stand)
    replaced, port = next(iter(stand.replicas)), stand.start_replica(clocks[1])
    stand.end_replica(replaced)

    assert _issued(stand, LEAF_SECRET) == before, "it is not due yet"
    _set(clocks, FORWARD)
    eventually(lambda: _issued(stand, LEAF_SECRET) != before, "it is renewed by the wall clock", WAIT_S)
    eventually(lambda: _served(port) != before, "the replica takes it over", WAIT_S)
    eventually(lambda: _sizes_under(stand, port, FORWARD[1]), "a pod is sized under that clock", WAIT_S)
    _set(clocks, BACK)
    eventually(lambda: _sizes_under(stand, port, BACK[1]), "a pod is sized under that clock", WAIT_S)
    _set(clocks, RIGHT)
    for _ in others:
        stand.start_controller()
    stand.end_controller(leader)


def _set(clocks: Iterable[Clock], ahead: Iterable[timedelta]) -> None:
    for clock, by in zip(clocks, ahead, strict=True):
        clock.set(by)


def _age_leaf(stand: Stand) -> int | None:
    """Put a certificate in place of which two thirds are over in a few minutes; its serial number."""
    ca, leaf = (stand.api.get(SECRETS, name, NAMESPACE) or {} for name in (CA_SECRET, LEAF_SECRET))
    pair = parse_pair(*(b64decode(ca["data"][file]) for file in (CERTIFICATE_FILE, KEY_FILE)))
    made = datetime.now(UTC) + FORWARD[0] / 5 - ((LEAF_LIFE + BACKDATED) * 2 / 3 - BACKDATED)
    names = [f"{SERVICE}.{NAMESPACE}.{domain}" for domain in ("svc", "svc.cluster.local")]
    aged = issue_leaf(pair, [*names, LOOPBACK], made)
    files = {CERTIFICATE_FILE: aged.cert_pem, KEY_FILE: aged.key_pem}
    data = {**leaf["data"], **{file: b64encode(text).decode() for file, text in files.items()}}
    stand.api.replace(SECRETS, {**leaf, "data": data}, NAMESPACE)
    return aged.certificate.serial_number


def _served(port: int) -> int:
    """The serial number of the certificate that a replica serves with."""
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((LOOPBACK, port)).encode()).serial_number


def _sizes_under(stand: Stand, port: int, ahead: timedelta) -> bool:
    """
    Whether a replica sizes a pod, and says so under a clock so far ahead.

    It is asked itself: all connections that the API server has may be the other replica's.
    """
    with closing(connect(port)) as connection:
        assert size_of(post(connection, body_of(found=pod("net-intensive"), namespace=HOME)))
    text = stand.cluster.log(stand.replicas[port].name).read_text()
    if not text.endswith("\n"):
        return False  # a line that is being written
    newest = json.loads(text.splitlines()[-1])
    told = datetime.fromisoformat(newest["time"]) - datetime.now(UTC)
    return "uid" in newest and abs(told - ahead) < timedelta(minutes=1)


def events(pause_s: float) -> list[Event]:
    """List everything that can happen on this machine."""
    stepped = [Event("clocks stepped in the leader and a replica", step_clocks)] if COMPILER else []
    return [
        Event("certificate rotated", rotate_leaf),
        Event("CA rotated", rotate_ca),
        Event("rolling restart", roll),
        Event("replica killed", kill, planned=False),
        Event("API server restarted", restart_api_server, api_down=True),
        Event("etcd restarted", restart_etcd, api_down=True),
        Event("catalogue edited well", edit_well),
        Event("catalogue edited badly, a replica replaced meanwhile", edit_badly),
        *stepped,
        Event(f"leader paused for {pause_s:g} s", lambda stand: pause_leader(stand, pause_s)),
    ]


def left_out() -> list[str]:
    """Say what cannot happen on this machine, and why."""
    missing = "there is no C compiler; run tests/cluster/install-packages soak as root"
    return [] if COMPILER else [f"not done: clocks stepped in the leader and a replica: {missing}"]


def publish(stand: Stand) -> None:
    """Publish the shipped catalogues and our own, as a platform team does."""
    env = {**os.environ, "KUBECONFIG": str(stand.cluster.kubeconfig)}
    subprocess.run([PODSLA, "catalog", "apply", "ecs", "classes"], env=env, check=True, capture_output=True)
    edit_well(stand)


def _size(pps: str) -> dict[str, Any]:
    return {"name": "soak.c.large", "vcpu": "4", "memory": "8Gi", "network": {"pps": pps}}


def _edit(stand: Stand, spec: Mapping[str, Any], *, accepted: str) -> None:
    body = {"apiVersion": "podsla.io/v1beta1", "kind": "SpecCatalog", "metadata": {"name": CATALOG}, "spec": spec}
    stand.api.patch(SPEC_CATALOGS, CATALOG, body, kind=PatchKind.APPLY)

    def judged() -> bool:
        found = stand.api.get(SPEC_CATALOGS, CATALOG) or {}
        status = found.get("status", {})
        conditions = {each["type"]: each for each in status.get("conditions", ())}
        newest = conditions["Accepted"].get("observedGeneration") == found["metadata"]["generation"]
        return bool(newest and conditions["Accepted"]["status"] == accepted)

    eventually(judged, f"catalogue {CATALOG} is judged {accepted}", WAIT_S)


def _issued(stand: Stand, name: str) -> int | None:
    certificate = _certificate(stand, name)
    return None if certificate is None else certificate.serial_number


def _issuer_key(stand: Stand) -> bytes | None:
    certificate = _certificate(stand, LEAF_SECRET)
    if certificate is None:
        return None
    return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier


def _certificate(stand: Stand, name: str) -> x509.Certificate | None:
    data = (stand.api.get(SECRETS, name, NAMESPACE) or {}).get("data") or {}
    return x509.load_pem_x509_certificate(b64decode(data["tls.crt"])) if data.get("tls.crt") else None

"""EDGE: the clusters that are measured: podsla installed in them, and beside it a webhook that answers a constant."""

import json
import os
import platform
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count, repeat
from pathlib import Path
from typing import Any, Final

import orjson
import urllib3

from bench.__main__ import POD, commit, machine, review
from bench.cluster.constant import UID, configuration, in_domain
from bench.cluster.load import Server
from bench.golang import GO
from catalog.keys import DOMAIN
from kube.api import Api
from kube.kinds import MUTATING_WEBHOOKS, NAMESPACES, VALIDATING_WEBHOOKS
from podsla.output import note
from tests.cluster import lifecycle
from tests.cluster.install import PODSLA, ROOT, install
from tests.cluster.network import LOOPBACK, free_ports
from tests.cluster.pki import Authority, write_pair
from tests.cluster.processes import start, wait_ready
from tests.cluster.profile import parse_profile
from tests.cluster.state import Cluster, Process

OURS, ANOTHER, CONSTANT, NONE = "podsla", "podsla, each pod another", "constant", "no webhook"
POLICY, KYVERNO = "CEL policy", "Kyverno"
# By mode: its namespace, that namespace's labels, and the domain of its pods' keys, in place of podsla's.
MODES: Final[Mapping[str, tuple[str, Mapping[str, str], str]]] = {
    OURS: ("bench-podsla", {}, DOMAIN),
    ANOTHER: ("bench-another", {}, DOMAIN),
    CONSTANT: ("bench-constant", {"example.com/webhook": "constant"}, "example.com/"),
    GO: ("bench-go", {"example.com/webhook": "go"}, "example.com/"),
    POLICY: ("bench-policy", {"example.com/webhook": "policy"}, "example.com/"),
    KYVERNO: ("bench-kyverno", {"example.com/webhook": "kyverno"}, "example.com/"),
    NONE: ("bench-none", {}, "example.com/"),
}
_never_asked: Final = count(600_000)
_JSON: Final = {"Content-Type": "application/json"}
GATE: Final = {"name": "example.com/bench"}  # the scheduler leaves a gated pod alone, and kwok one without a node


@dataclass(frozen=True, slots=True)
class Stand:
    """A cluster with podsla in it."""

    cluster: Cluster
    api: Api
    server: Server

    def process(self, name: str) -> Process:
        """One of the processes that the launcher started."""
        return next(made for made in self.cluster.journal.read() if isinstance(made, Process) and made.name == name)


@contextmanager
def stand(name: str, profile: str) -> Iterator[Stand]:
    """Bring a cluster up with podsla installed and no catalogue yet; it is taken down at the end."""
    note(f"cluster {name} ({profile}) …", style="dim")
    try:
        cluster = lifecycle.up(name, parse_profile(profile), lambda _: None)
        install(cluster)
        yield Stand(cluster, Api.connect(cluster.kubeconfig), Server.of(cluster.kubeconfig))
    finally:
        lifecycle.down(name, lambda _: None)


def apply_catalogs(stand: Stand) -> None:
    """Publish the shipped sizes and classes, as a platform team does."""
    env = {**os.environ, "KUBECONFIG": str(stand.cluster.kubeconfig)}
    subprocess.run([PODSLA, "catalog", "apply", "ecs", "classes"], env=env, check=True, capture_output=True)


def make_namespaces(stand: Stand) -> None:
    """Make a namespace for each mode; pods can be created once its service account is there."""
    for name, labels, _ in MODES.values():
        metadata = {"name": name, "labels": dict(labels)}
        stand.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait_ready(stand.cluster, path, lambda path=path: stand.api.send("GET", path).status == 200)  # type: ignore[misc]


def pod_of(mode: str) -> dict[str, Any]:
    """The pod of `make bench`, with the keys of a mode; pods of all modes are alike but for that."""
    domain = MODES[mode][2]
    annotations = {key.replace(DOMAIN, domain): text for key, text in POD["metadata"]["annotations"].items()}
    metadata = {key: value for key, value in POD["metadata"].items() if key != "namespace"}
    return {
        **POD,
        "metadata": {**metadata, "annotations": annotations},
        "spec": {**POD["spec"], "schedulingGates": [GATE]},
    }


def pods_of(mode: str) -> Iterator[dict[str, Any]]:
    """The pods of a mode: of one workload, or each of a workload that nobody has seen before."""
    pod = pod_of(mode)
    if mode != ANOTHER:
        yield from repeat(pod)
    for pps in _never_asked:
        annotations = {**pod["metadata"]["annotations"], f"{DOMAIN}min-pps": str(pps)}
        yield {**pod, "metadata": {**pod["metadata"], "annotations": annotations}}


def start_constant(stand: Stand) -> float:
    """Ask podsla once, and start the webhook that answers the same for ever; in how many seconds."""
    (stand.cluster.folder / "answer.json").write_bytes(in_domain(ask_once(stand), MODES[CONSTANT][2]))
    python = Path(PODSLA).parent / "python"
    return start_webhook(stand, CONSTANT, [python, "-m", "bench.cluster.constant"], "answer.json")


def start_webhook(stand: Stand, mode: str, program: Sequence[str | Path], file: str) -> float:
    """Start `PROGRAM PORT CERTIFICATE KEY FILE`, send it the pods of a mode, and say after how long it answered."""
    cluster, (_, labels, _) = stand.cluster, MODES[mode]
    name = labels["example.com/webhook"]
    write_pair(cluster.pki, name, Authority.load(cluster.pki).issue(name, addresses=[LOOPBACK]))
    port = free_ports([name], cluster.ports.values())[name]
    files = [cluster.pki / f"{name}.crt", cluster.pki / f"{name}.key", cluster.folder / file]
    began_s = time.perf_counter()
    process = start(cluster, name, [*program, str(port), *files], cwd=ROOT)
    pool = urllib3.PoolManager(ca_certs=str(cluster.pki / "ca.crt"), retries=False)
    url = f"https://{LOOPBACK}:{port}/mutate"
    body = orjson.dumps(review())

    def answers() -> bool:
        try:
            return pool.request("POST", url, body=body, headers=_JSON).status == 200
        except urllib3.exceptions.HTTPError as error:
            raise OSError(str(error)) from error

    wait_ready(cluster, f"the webhook of mode {mode}", answers, process)
    took_s = time.perf_counter() - began_s
    ours = stand.api.get(MUTATING_WEBHOOKS, "podsla") or {}
    bundle = b64encode((cluster.pki / "ca.crt").read_bytes()).decode()
    stand.api.create(MUTATING_WEBHOOKS, configuration(ours, name, url, bundle, labels))
    return took_s


def ask_once(stand: Stand) -> bytes:
    """Let the running podsla answer the review of the pod, once it serves the catalogues."""
    client = (stand.api.get(MUTATING_WEBHOOKS, "podsla") or {})["webhooks"][0]["clientConfig"]
    asked = review()
    asked["request"] |= {"uid": UID.decode(), "namespace": MODES[OURS][0], "object": pod_of(OURS)}
    authority = stand.cluster.folder / "podsla-ca.crt"
    authority.write_bytes(b64decode(client["caBundle"]))
    pool = urllib3.PoolManager(ca_certs=str(authority), retries=False)
    answers: list[bytes] = []

    def is_sized() -> bool:
        answers.append(pool.request("POST", client["url"], body=orjson.dumps(asked), headers=_JSON).data)
        return b'"patch"' in answers[-1]

    wait_ready(stand.cluster, "podsla serves the catalogues", is_sized)
    return answers[-1]


def facts(stand: Stand) -> dict[str, str]:
    """Say what was measured, and on what."""
    validating = stand.api.get(VALIDATING_WEBHOOKS, "podsla") or {}
    hooks = [hook["name"] for hook in validating.get("webhooks", ()) if _sees_creates(hook)]
    return {
        "machine": machine(),
        "commit": commit(),
        "kubernetes": stand.api.call("GET", "/version")["gitVersion"],
        "python": platform.python_version(),
        **{name: version(name) for name in ("granian", "flask", "orjson")},
        "validated after mutation": ", ".join(hooks) or "no, podsla is called once for a pod",
    }


def _sees_creates(hook: Mapping[str, Any]) -> bool:
    return any("CREATE" in rule["operations"] and "pods" in rule["resources"] for rule in hook.get("rules", ()))


def audit_entries(stand: Stand, since: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Read the audit log from a position on; entries, and the position after them."""
    with (stand.cluster.folder / "log" / "audit.jsonl").open("rb") as log:
        log.seek(since)
        data = log.read()
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], since + len(whole)

"""EDGE: what others do the same mutation with, for one class that is fixed: Go, Kyverno, and a policy in CEL."""

import json
import statistics
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import orjson

from bench.catalogs import replica
from bench.cluster.create import Row, flat_out, in_turn, pooled
from bench.cluster.kyverno import start_kyverno
from bench.cluster.stand import ANOTHER, CONSTANT, KYVERNO, MODES, NONE, OURS, POLICY, Stand, pod_of, start_webhook
from bench.golang import GO, build, fixed_class
from bench.proc import resident_mib
from kube.api import Resource
from kube.kinds import PODS
from tests.cluster.processes import wait_ready

SIDE_BY_SIDE: Final = (OURS, ANOTHER, CONSTANT, GO, KYVERNO, POLICY, NONE)
START_BAR_S: Final = 2.0
POLICIES: Final = Resource("admissionregistration.k8s.io/v1", "mutatingadmissionpolicies")
BINDINGS: Final = Resource("admissionregistration.k8s.io/v1", "mutatingadmissionpolicybindings")


@dataclass(frozen=True, slots=True)
class Peers:
    """
    What was measured.

    Attributes:
        steady: At 20 pods/s.
        flat_out: As many as the API server takes in each mode, there and back.
        mib: Memory of each webhook afterwards, of all its processes.
        start_s: From the start of each webhook until it is ready.
    """

    steady: tuple[Row, ...]
    flat_out: tuple[Row, ...]
    mib: Mapping[str, float]
    start_s: Mapping[str, float]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every scenario."""
        return (*self.steady, *self.flat_out)

    def per_s(self, mode: str) -> float:
        """As many pods a second as the API server takes in a mode, of both its runs."""
        return statistics.mean(row.figures.per_s for row in self.flat_out if row.mode == mode)

    @property
    def bars(self) -> Iterator[tuple[str, float, float, bool]]:
        """What is promised beside others: its name, our figure, theirs, and whether it holds."""
        ours = self.per_s(OURS)
        for mode, holds in ((KYVERNO, ours > self.per_s(KYVERNO)), (POLICY, ours >= self.per_s(POLICY))):
            yield f"pods/s beside {mode}", ours, self.per_s(mode), holds
        mib = self.mib
        yield f"MiB beside {KYVERNO}", mib[OURS], mib[KYVERNO], mib[OURS] < mib[KYVERNO]
        yield "s from start to ready", self.start_s[OURS], START_BAR_S, self.start_s[OURS] <= START_BAR_S


def peers(stand: Stand, constant_s: float, count: int, for_s: float, flat_out_s: float) -> Peers:
    """Everybody in turn, in one run; *constant_s* is what the constant took to start."""
    start_s = {CONSTANT: constant_s, **start_peers(stand)}
    steady = pooled(in_turn(stand, SIDE_BY_SIDE, count, for_s), count, for_s)
    most = flat_out(stand, SIDE_BY_SIDE, flat_out_s)
    names = {OURS: "podsla-webhook", CONSTANT: "constant", GO: "go", KYVERNO: "kyverno"}
    mib = {mode: resident_mib(stand.process(name).pid) for mode, name in names.items()}
    return Peers(steady, tuple(most), mib, start_s)


def start_peers(stand: Stand) -> dict[str, float]:
    """
    Start them, and make sure that they do to the pod what podsla does to it.

    Returns:
        By mode how many seconds a webhook took to be ready; ours is one more replica, by the shipped catalogues.
    """
    answer = orjson.loads((stand.cluster.folder / "answer.json").read_bytes())
    fixed = fixed_class(json.loads(b64decode(answer["response"]["patch"])), MODES[GO][2])
    (stand.cluster.folder / "class.json").write_text(json.dumps(fixed))
    start_s = {GO: start_webhook(stand, GO, [build()], "class.json")}
    for resource, body in zip((POLICIES, BINDINGS), policy(fixed, MODES[POLICY][1]), strict=True):
        stand.api.create(resource, body)
    start_s[KYVERNO] = start_kyverno(stand, policy(fixed, MODES[KYVERNO][1])[0])
    for mode in (GO, POLICY, KYVERNO):
        wait_ready(stand.cluster, f"mode {mode} writes what podsla does", partial(_are_alike, stand, CONSTANT, mode))
    with replica(stand) as (_, _, start_s[OURS]):
        return start_s


def _are_alike(stand: Stand, one: str, other: str) -> bool:
    return written(stand, one) == written(stand, other)


def written(stand: Stand, mode: str) -> tuple[Any, ...]:
    """Create the pod in a dry run, and read what somebody wrote into it."""
    namespace, _, domain = MODES[mode]
    made = stand.api.call("POST", PODS.path(namespace), {"dryRun": "All"}, pod_of(mode))
    resources = [container["resources"] for container in made["spec"]["containers"]]
    labels, annotations = made["metadata"]["labels"], made["metadata"]["annotations"]
    return labels.get(f"{domain}size"), annotations.get(f"{domain}record"), resources, made["spec"].get("affinity")


def policy(fixed: Mapping[str, Any], namespaces: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Write a MutatingAdmissionPolicy and its binding that do the same, but for what CEL cannot.

    It adds no demands of containers up, so it never says that the size does not hold the pod.
    """
    domain = fixed["Domain"]
    asked, floor = f"object.metadata.annotations[{cel(domain + 'min-pps')}]", cel(fixed["Floor"])
    operations = [
        ("/metadata/labels/", "size", cel(fixed["Size"])),
        ("/metadata/annotations/", "record", cel(fixed["Record"])),
        ("/spec/containers/0/resources/requests/", "pps", "variables.pps"),
        ("/spec/containers/0/resources/limits/", "pps", "variables.pps"),
    ]
    added = [
        f'JSONPatch{{op: "add", path: {cel(path)} + jsonpatch.escapeKey({cel(domain + key)}), value: {value}}}'
        for path, key, value in operations
    ]
    added.append(f'JSONPatch{{op: "add", path: "/spec/affinity", value: {cel(fixed["Affinity"])}}}')
    head = {"apiVersion": POLICIES.group_version, "metadata": {"name": "peer"}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {"namespaceSelector": {"matchLabels": dict(namespaces)}, "resourceRules": [rule]},
        "matchConditions": [
            {
                "name": "names-the-class",
                "expression": f"object.metadata.annotations[{cel(domain + 'class')}] == {cel(fixed['Name'])}",
            }
        ],
        "variables": [
            {"name": "pps", "expression": f"quantity({asked}).isGreaterThan(quantity({floor})) ? {asked} : {floor}"}
        ],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{', '.join(added)}]"}}],
    }
    binding = {**head, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": "peer"}}
    return {**head, "kind": "MutatingAdmissionPolicy", "spec": spec}, binding


def cel(value: Any) -> str:
    """Write a value of JSON in CEL, where values of one map may be of several types if each is called dynamic."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)}: dyn({cel(one)})" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(cel, value)) + "]"
    return json.dumps(value)

"""EDGE: Kyverno beside podsla: a process outside the cluster, as its developers run it, and one MutatingPolicy."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

import yaml

from bench.cluster.stand import Stand
from kube.api import Resource
from kube.kinds import CONFIG_MAPS, NAMESPACES
from podsla.output import note
from tests.cluster.binaries import ensure
from tests.cluster.network import LOOPBACK, free_ports
from tests.cluster.pins import KYVERNO_CRDS
from tests.cluster.probe import is_ready
from tests.cluster.processes import start, wait_ready

NAME: Final = "kyverno"
DEPLOYMENT: Final = "kyverno-admission-controller"
POLICIES: Final = Resource("policies.kyverno.io/v1beta1", "mutatingpolicies")
_CRDS: Final = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
_DEPLOYMENTS: Final = Resource("apps/v1", "deployments")
_SERVICE_ACCOUNTS: Final = Resource("v1", "serviceaccounts")
_ALIKE: Final = ("failurePolicy", "matchConstraints", "matchConditions", "variables", "mutations")
_READY_S: Final = 180.0  # beside other work on the machine


def start_kyverno(stand: Stand, policy: Mapping[str, Any]) -> float:
    """Start it with the policy; the answer is how many seconds it took to be ready."""
    note("Kyverno, which takes 5 minutes to build the first time …", style="dim")
    found = ensure(["kyverno", KYVERNO_CRDS])
    for file in sorted(found[KYVERNO_CRDS].glob("*.yaml")):
        stand.api.create(_CRDS, yaml.safe_load(file.read_text()))
    wait_ready(stand.cluster, "Kyverno's CRDs", lambda: all(map(_is_established, stand.api.list(_CRDS))))
    for resource, namespace, made in surroundings():
        stand.api.create(resource, made, namespace)
    port = free_ports([NAME], stand.cluster.ports.values())[NAME]
    began_s = time.perf_counter()
    process = start(stand.cluster, NAME, [found["kyverno"], *flags(stand, port)], env=environment(stand))
    answers = partial(is_ready, port, "/health/readiness")
    wait_ready(stand.cluster, "Kyverno", answers, process, deadline_s=_READY_S)
    took_s = time.perf_counter() - began_s
    stand.api.create(POLICIES, mutating_policy(policy))
    return took_s


def _is_established(crd: Mapping[str, Any]) -> bool:
    conditions = crd.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def surroundings() -> Iterator[tuple[Resource, str, dict[str, Any]]]:
    """What it looks for in its namespace; the Deployment of no replicas stands for the one that it runs in."""
    yield NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}
    for name in (NAME, f"{NAME}-metrics"):
        yield CONFIG_MAPS, NAME, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": DEPLOYMENT}}
    yield _SERVICE_ACCOUNTS, NAME, account
    labels = {"app": NAME}
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": NAME, "image": "registry.example/kyverno:1.19.1"}]},
        },
    }
    head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": DEPLOYMENT}}
    yield _DEPLOYMENTS, NAME, {**head, "spec": spec}


def flags(stand: Stand, port: int) -> list[str]:
    """Its command line; reports and metrics are off, since nobody else writes any."""
    return [
        f"--kubeconfig={stand.cluster.kubeconfig}",
        f"--serverIP={LOOPBACK}:{port}",
        f"--webhookServerHost={LOOPBACK}",
        f"--webhookServerPort={port}",
        "--caSecretName=kyverno-ca",
        "--tlsSecretName=kyverno-tls",
        "--tlsKeyAlgorithm=ECDSA",
        "--backgroundServiceAccountName=none",
        "--reportsServiceAccountName=none",
        "--admissionReports=false",
        "--disableMetrics=true",
        "--controllerRuntimeMetricsAddress=0",
    ]


def environment(stand: Stand) -> dict[str, str]:
    """What its Deployment would tell it."""
    return {
        **dict.fromkeys(("KYVERNO_NAMESPACE", "POD_NAMESPACE", "INIT_CONFIG"), NAME),
        **dict.fromkeys(("KYVERNO_SERVICEACCOUNT_NAME", "KYVERNO_ROLE_NAME", "KYVERNO_DEPLOYMENT"), DEPLOYMENT),
        "METRICS_CONFIG": f"{NAME}-metrics",
        "KYVERNO_POD_NAME": f"{DEPLOYMENT}-0",
        "KYVERNO_SVC": "kyverno-svc",
        "TUF_ROOT": str(stand.cluster.data),
    }


def mutating_policy(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Write the API server's MutatingAdmissionPolicy as Kyverno's, of pods alone and not of what makes them."""
    spec = {key: policy["spec"][key] for key in _ALIKE}
    return {
        "apiVersion": POLICIES.group_version,
        "kind": "MutatingPolicy",
        "metadata": {"name": "peer"},
        "spec": {**spec, "autogen": {"podControllers": {"controllers": []}}},
    }

"""What kustomize makes of manifests/ agrees with the code, and is what a platform team would let in."""

import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import click
import pytest
from prometheus_client import generate_latest

from attach.budget import LEDGER
from attach.placeholder import PRIORITY_CLASS
from catalog.dimension import BY_MIN_KEY
from catalog.keys import (
    CLASS,
    DEFAULT_CLASS,
    DOMAIN,
    FORCE_RELEASE,
    GPU,
    GPU_PHASE,
    MIN_PREFIX,
    MIRROR_POD,
    OPT_OUT,
    PLACEHOLDER,
    RECORD,
    SIZE,
    WARM_GPUS,
)
from catalog.served import TARGET_CONFIG_MAP
from catalog.structural import GROUP
from controller.attachments import DEFAULT_IMAGE
from controller.certificates import CA_SECRET, LEAF_SECRET, SERVICE, Certificates
from controller.metrics import Metrics
from controller.process import LEASE
from controller.world import WEBHOOKS, World
from podsla.cli import cli
from tests.manifests.kubectl import build, named
from tests.system.user import User
from webhook.app import DEFAULTED, JUDGES
from webhook.certificate import CA_FILE
from webhook.metrics import PrometheusRecorder
from webhook.server import STOP_TIMEOUT_S

pytestmark = pytest.mark.cluster

Document: TypeAlias = dict[str, Any]
NAMESPACE = "podsla-system"
OVERLAYS = ("cert-manager", "default", "fail-open", "gpu-attach", "monitoring", "outside", "outside-fail-open")
EXCLUDED = ["kube-system", "kube-public", "kube-node-lease", "podsla-system", "podsla-agents"]


@pytest.fixture(scope="module")
def built(admin: User) -> dict[str, list[Document]]:
    """All overlays, as kustomize makes them."""
    return {overlay: build(admin, f"overlays/{overlay}") for overlay in OVERLAYS}


def hooks(documents: list[Document]) -> Iterator[tuple[str, str, Document]]:
    """List the entries of all webhook configurations: kind, name of the configuration, entry."""
    for document in documents:
        if document["kind"].endswith("WebhookConfiguration"):
            yield from ((document["kind"], document["metadata"]["name"], hook) for hook in document["webhooks"])


def deployments(documents: list[Document]) -> list[Document]:
    """List the Deployments."""
    return [document for document in documents if document["kind"] == "Deployment"]


def test_the_agent_is_alone_in_a_namespace_that_lets_it_in(built: dict[str, list[Document]]) -> None:
    """It is root on its node, so nothing may reach it, and nothing that a tenant may change lies beside it."""
    (agent,) = (d for d in built["gpu-attach"] if d["kind"] == "DaemonSet")
    here = agent["metadata"]["namespace"]
    beside = {d["kind"] for d in built["gpu-attach"] if d["metadata"].get("namespace") == here}
    spaces = {d["metadata"]["name"]: d for d in built["gpu-attach"] if d["kind"] == "Namespace"}
    pod = agent["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert beside == {"DaemonSet", "NetworkPolicy", "ServiceAccount"}
    assert spaces[here]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    assert "ports" not in container
    assert not pod.get("hostNetwork")
    assert container["image"].startswith("docker.io/podsla/podsla:")
    command_of("agent").make_context("agent", container["args"][1:], auto_envvar_prefix="X")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_names_every_object_once_and_as_ours(built: dict[str, list[Document]], overlay: str) -> None:
    metadata = [(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in built[overlay]]
    assert len(set(metadata)) == len(metadata)
    labels = [d["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") for d in built[overlay]]
    assert set(labels) == {"podsla"}


def test_overlays_differ_in_what_they_are_for(built: dict[str, list[Document]]) -> None:
    kinds = {overlay: sorted({d["kind"] for d in documents}) for overlay, documents in built.items()}
    assert set(kinds["default"]) - set(kinds["outside"]) == {
        "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"
    }  # fmt: skip
    assert set(kinds["monitoring"]) - set(kinds["default"]) == {"PodMonitor", "PrometheusRule", "ServiceMonitor"}
    assert set(kinds["gpu-attach"]) - set(kinds["default"]) == {"DaemonSet"}
    for overlay, base in (("fail-open", "default"), ("outside-fail-open", "outside")):
        added = {d["metadata"]["name"] for d in built[overlay]} - {d["metadata"]["name"] for d in built[base]}
        assert added == {"podsla-unsized-pods"}


TEMPLATES: Final = {
    ("validating", "podsla-templates", "templates.podsla.io"): "Ignore",
    ("validating", "podsla-templates", "defaulted-templates.podsla.io"): "Ignore",
}
FAIL_CLOSED: Final = TEMPLATES | {
    ("mutating", "podsla", "pods.podsla.io"): "Fail",
    ("mutating", "podsla", "defaulted-pods.podsla.io"): "Fail",
    ("validating", "podsla", "resized-pods.podsla.io"): "Fail",
}
FAIL_OPEN: Final = dict.fromkeys(FAIL_CLOSED, "Ignore") | {
    ("validating", "podsla", "pods.podsla.io"): "Ignore",
    ("validating", "podsla", "defaulted-pods.podsla.io"): "Ignore",
}


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        pytest.param("default", FAIL_CLOSED, id="default: podsla is called once for a pod, and waited for"),
        pytest.param("outside", FAIL_CLOSED, id="outside: the same"),
        pytest.param("fail-open", FAIL_OPEN, id="fail-open: nothing is waited for, and new pods are looked at again"),
        pytest.param("outside-fail-open", FAIL_OPEN, id="outside-fail-open: the same"),
    ],
)
def test_only_pods_wait_for_podsla(
    built: dict[str, list[Document]], overlay: str, expected: dict[tuple[str, str, str], str]
) -> None:
    """An entry for pods fails closed unless the overlay says otherwise; one for workloads holds up nobody."""
    found = [
        ((kind.removesuffix("WebhookConfiguration").lower(), name, hook["name"]), hook["failurePolicy"])
        for kind, name, hook in hooks(built[overlay])
    ]
    assert sorted(found) == sorted(expected.items())


def test_the_configurations_are_those_that_the_controller_keeps(built: dict[str, list[Document]]) -> None:
    kinds = {resource.plural: resource for resource, _ in WEBHOOKS}
    found = {(f"{kind.lower()}s", name) for kind, name, _ in hooks(built["default"])}
    assert found == {(resource.plural, name) for resource, name in WEBHOOKS}
    assert kinds.keys() == {plural for plural, _ in found}


@pytest.mark.parametrize("overlay", ["default", "fail-open"])
def test_every_entry_calls_a_path_that_the_webhook_answers(built: dict[str, list[Document]], overlay: str) -> None:
    service = named(built[overlay], "Service", SERVICE)
    calls = [hook["clientConfig"] for _, _, hook in hooks(built[overlay])]
    assert {call["service"]["path"] for call in calls} == {f"/{name}" for name in (*JUDGES, DEFAULTED)}
    assert {(call["service"]["namespace"], call["service"]["name"]) for call in calls} == {(NAMESPACE, SERVICE)}
    assert {call["service"]["port"] for call in calls} == {service["spec"]["ports"][0]["port"]} == {443}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_applying_anew_takes_no_ca_bundle_away(built: dict[str, list[Document]], overlay: str) -> None:
    """A field that a manifest never has is left alone by both kinds of apply."""
    assert not any("caBundle" in hook["clientConfig"] for _, _, hook in hooks(built[overlay]))


@pytest.mark.parametrize(
    ("outside", "inside"), [("outside", "default"), ("outside-fail-open", "fail-open")], ids=["outside", "fail-open"]
)
def test_outside_calls_this_machine_by_one_address_that_can_be_replaced(
    built: dict[str, list[Document]], outside: str, inside: str
) -> None:
    services = {
        (kind, name, hook["name"]): {"url": f"https://127.0.0.1:8443{hook['clientConfig']['service']['path']}"}
        for kind, name, hook in hooks(built[inside])
    }
    assert {(kind, name, hook["name"]): hook["clientConfig"] for kind, name, hook in hooks(built[outside])} == services


def test_where_pods_are_validated_they_are_those_that_are_mutated(built: dict[str, list[Document]]) -> None:
    scope = ("rules", "namespaceSelector", "objectSelector", "matchConditions", "matchPolicy")
    found: dict[str, dict[str, Document]] = {}
    for kind, _, hook in hooks(built["fail-open"]):
        found.setdefault(hook["name"], {})[kind] = {field: hook.get(field) for field in scope}
    for name in ("pods.podsla.io", "defaulted-pods.podsla.io"):
        assert found[name]["MutatingWebhookConfiguration"] == found[name]["ValidatingWebhookConfiguration"]


def test_entries_keep_away_from_what_the_cluster_needs_to_live(built: dict[str, list[Document]]) -> None:
    """Seen to fail where one entry spares `kube-system` no more."""
    for _, _, hook in hooks(built["fail-open"]):  # it has every entry that there is
        (names,) = (
            e for e in hook["namespaceSelector"]["matchExpressions"] if e["key"] == "kubernetes.io/metadata.name"
        )
        assert (names["operator"], names["values"]) == ("NotIn", EXCLUDED)
        assert hook["sideEffects"] == "None"
        assert hook["timeoutSeconds"] <= 5
        assert {rule["scope"] for rule in hook["rules"]} == {"Namespaced"}
        assert "*" not in str(hook["rules"])


def test_keys_are_spelt_as_the_code_spells_them(built: dict[str, list[Document]]) -> None:
    text = str(built["fail-open"])
    known = {
        CLASS,
        GPU,
        GPU_PHASE,
        RECORD,
        SIZE,
        DEFAULT_CLASS,
        MIRROR_POD,
        DOMAIN,
        FORCE_RELEASE,
        PLACEHOLDER,
        WARM_GPUS,
    }
    known |= {*BY_MIN_KEY}
    assert all(key in text for key in known)
    descriptions = {f"{GROUP}/v", MIN_PREFIX}
    assert set(re.findall(r"podsla\.io/[a-z-]+", text)) <= known | descriptions
    assert f"!= '{OPT_OUT}'" in text


def test_the_policy_keeps_every_key_that_a_pod_may_have(built: dict[str, list[Document]]) -> None:
    policy = named(built["default"], "ValidatingAdmissionPolicy", "podsla-sized-pods")
    (changed,) = (v["expression"] for v in policy["spec"]["variables"] if v["name"] == "changed")
    keys, _, rest = changed.partition(".filter(")
    assert set(re.findall(r"'([^']+)'", keys)) == {CLASS, GPU, GPU_PHASE, RECORD, *BY_MIN_KEY}
    assert set(re.findall(r"'([^']+)'", rest)) == {SIZE}


def test_names_in_roles_are_those_that_the_code_asks_for(built: dict[str, list[Document]]) -> None:
    names: dict[tuple[str, str], set[str]] = {}
    for document in built["default"]:
        if document["kind"] in ("Role", "ClusterRole"):
            for rule in document["rules"]:
                for resource in rule["resources"]:
                    names.setdefault((document["metadata"]["name"], resource), set()).update(
                        rule.get("resourceNames", ())
                    )
    assert names["podsla-controller", "secrets"] == {CA_SECRET, LEAF_SECRET}
    assert names["podsla-webhook", "secrets"] == {option("webhook", "tls_secret").default} == {LEAF_SECRET}
    assert names["podsla-controller", "configmaps"] == {TARGET_CONFIG_MAP, LEDGER}
    assert names["podsla-controller", "leases"] == {LEASE}
    for plural in {resource.plural for resource, _ in WEBHOOKS}:
        assert names["podsla-controller", plural] == {name for r, name in WEBHOOKS if r.plural == plural}
    assert named(built["default"], "CustomResourceDefinition", "speccatalogs.podsla.io")
    assert named(built["default"], "CustomResourceDefinition", "gpuattachments.podsla.io")
    assert named(built["default"], "PriorityClass", PRIORITY_CLASS)["preemptionPolicy"] == "Never"


def test_roles_grant_nothing_wholesale(built: dict[str, list[Document]]) -> None:
    for document in built["gpu-attach"]:
        for rule in document.get("rules", ()) if "Role" in document["kind"] else ():
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            if "secrets" in rule["resources"]:
                assert document["kind"] == "Role"
                assert rule["verbs"] == ["create"] or rule["resourceNames"]


def command_of(name: str) -> click.Command:
    """Find `podsla NAME`."""
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def option(command: str, name: str) -> Any:
    """Find an option of `podsla COMMAND`."""
    (parameter,) = (p for p in command_of(command).params if p.name == name)
    return parameter


def test_the_processes_are_started_as_the_command_line_wants_it(built: dict[str, list[Document]]) -> None:
    """Arguments are parsed by the commands themselves, and ports are where they listen."""
    for deployment in deployments(built["default"]):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        name, *arguments = container["args"]
        parsed = command_of(name).make_context(name, arguments)
        assert parsed.params["namespace"] == deployment["metadata"]["namespace"] == NAMESPACE
        assert [port["containerPort"] for port in container["ports"]] == [parsed.params["port"]]
        (port,) = container["ports"]
        probes = [container[probe]["httpGet"] for probe in container if probe.endswith("Probe")]
        assert {probe["port"] for probe in probes} == {port["name"]}
        assert {probe["path"] for probe in probes} == {"/livez", "/readyz"}


def test_every_process_has_its_account_and_its_selectors_meet(built: dict[str, list[Document]]) -> None:
    accounts = {d["metadata"]["name"] for d in built["default"] if d["kind"] == "ServiceAccount"}
    for deployment in deployments(built["default"]):
        template, name = deployment["spec"]["template"], deployment["metadata"]["name"]
        assert template["spec"]["serviceAccountName"] == name
        assert name in accounts
        assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        for spread in template["spec"]["topologySpreadConstraints"]:
            assert spread["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    labels = named(built["default"], "Deployment", SERVICE)["spec"]["template"]["metadata"]["labels"]
    assert named(built["default"], "Service", SERVICE)["spec"]["selector"].items() <= labels.items()
    budget = named(built["default"], "PodDisruptionBudget", SERVICE)["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert budget["minAvailable"] < named(built["default"], "Deployment", SERVICE)["spec"]["replicas"]


def test_prometheus_finds_both_processes_and_can_verify_the_webhook(
    admin: User, built: dict[str, list[Document]]
) -> None:
    """By the ports that they are known by, and by a name that is in the webhook's certificate."""
    documents = built["monitoring"]
    service = named(documents, "Service", SERVICE)
    template = named(documents, "Deployment", "podsla-controller")["spec"]["template"]
    webhook = named(documents, "ServiceMonitor", SERVICE)["spec"]
    pods = named(documents, "PodMonitor", "podsla-controller")["spec"]
    (endpoint,), (scraped,) = webhook["endpoints"], pods["podMetricsEndpoints"]
    issued = Certificates(World(admin.api, NAMESPACE, lambda: None), Metrics(lambda: True)).names

    assert webhook["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert (endpoint["port"], endpoint["scheme"]) in [(p["name"], p["appProtocol"]) for p in service["spec"]["ports"]]
    assert endpoint["tlsConfig"]["serverName"] in issued
    assert endpoint["tlsConfig"]["ca"] == {"secret": {"name": LEAF_SECRET, "key": CA_FILE}}
    assert pods["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert scraped["port"] in [port["name"] for port in template["spec"]["containers"][0]["ports"]]


def reached(documents: list[Document]) -> dict[str, list[tuple[int, Any]]]:
    """Read what policies let through to each Deployment: the port that its container so names, and from where."""
    policies = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    found: dict[str, list[tuple[int, Any]]] = {}
    for deployment in deployments(documents):
        template = deployment["spec"]["template"]
        numbers = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        found[deployment["metadata"]["name"]] = [
            (numbers[port["port"]], rule.get("from"))
            for policy in policies
            if policy["podSelector"].get("matchLabels", {}).items() <= template["metadata"]["labels"].items()
            for rule in policy.get("ingress", ())
            for port in rule["ports"]
        ]
    return found


def test_nothing_is_reached_but_reviews_and_where_they_are_read_metrics(built: dict[str, list[Document]]) -> None:
    """API servers have no address that a policy could name, so the webhook is open to all."""
    closed = named(built["default"], "NetworkPolicy", "podsla-default-deny")
    assert closed["metadata"]["namespace"] == NAMESPACE
    assert closed["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    assert reached(built["default"]) == {"podsla-webhook": [(8443, None)], "podsla-controller": []}
    assert reached(built["monitoring"]) == {
        "podsla-webhook": [(8443, None)],
        "podsla-controller": [(8080, [{"namespaceSelector": {}}])],
    }


def test_images_are_pinned(built: dict[str, list[Document]]) -> None:
    for deployment in deployments(built["default"]):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            assert container["image"] == DEFAULT_IMAGE == "docker.io/podsla/podsla:dev"


def test_pods_meet_the_restricted_standard(built: dict[str, list[Document]]) -> None:
    """The namespace enforces it as well; this says which field is missing, without a cluster."""
    labels = named(built["default"], "Namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for deployment in deployments(built["default"]):
        spec = deployment["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 65532
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all("emptyDir" in volume for volume in spec.get("volumes", ()))
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_the_webhook_is_spread_over_nodes_and_zones_and_given_time_to_start(built: dict[str, list[Document]]) -> None:
    spec = named(built["default"], "Deployment", SERVICE)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    spread = {constraint["topologyKey"] for constraint in spec["topologySpreadConstraints"]}
    assert spread == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    probes = {field for field in container if field.endswith("Probe")}
    assert probes == {"startupProbe", "livenessProbe", "readinessProbe"}


def test_a_replica_ends_after_the_calls_that_still_come_to_it(built: dict[str, list[Document]]) -> None:
    spec = named(built["default"], "Deployment", SERVICE)["spec"]["template"]["spec"]
    [drain] = [text for text in spec["containers"][0]["args"] if text.startswith("--drain=")]
    assert drain == "--drain=15"
    assert spec["terminationGracePeriodSeconds"] >= 15 + STOP_TIMEOUT_S  # for calls in flight


def test_alerts_watch_metrics_that_exist(built: dict[str, list[Document]]) -> None:
    exposed = PrometheusRecorder().expose(None) + generate_latest(Metrics(lambda: True).registry)
    known = set(re.findall(r"^# TYPE (\S+)", exposed.decode(), re.MULTILINE))
    groups = named(built["monitoring"], "PrometheusRule", "podsla")["spec"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    used = {name for rule in rules for name in re.findall(r"\bpodsla_\w+", rule["expr"])}
    assert used
    assert {name.removesuffix("_bucket") for name in used} <= known
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}

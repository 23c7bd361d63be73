"""Which entry of which configuration a real API server calls for what: nobody answers, so the error names the entry."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from catalog.keys import MIRROR_POD
from tests.manifests.kubectl import build, named, run
from tests.system.user import User

pytestmark = pytest.mark.cluster

Document: TypeAlias = dict[str, Any]
NOBODY = "127.0.0.1:1"  # no process listens there
PLAIN, DEFAULTED = "webhooks-plain", "webhooks-defaulted"
ONLY_OPT_OUT = {"podsla.io/class": "none"}


@pytest.fixture(scope="module")
def overlay(admin: User) -> list[Document]:
    """Every entry that there is, calling nobody, and failing closed."""
    text = json.dumps(build(admin, "overlays/outside-fail-open"))
    documents: list[Document] = json.loads(text.replace("127.0.0.1:8443", NOBODY).replace('"Ignore"', '"Fail"'))
    return documents


@pytest.fixture(scope="module")
def namespaces(admin: User) -> None:
    """One namespace without a default class, one with."""
    for name, labels in ((PLAIN, {}), (DEFAULTED, {"podsla.io/default-class": "general"})):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        run(admin, "apply", "-f", "-", text=json.dumps(namespace))
    for name in (PLAIN, DEFAULTED, "kube-public"):
        run(admin, "wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")


def installed(kind: str, name: str) -> Callable[..., Iterator[None]]:
    """Make a fixture that has one configuration in the cluster, and no other."""

    @pytest.fixture(scope="class")
    def configuration(admin: User, overlay: list[Document], namespaces: None) -> Iterator[None]:
        run(admin, "apply", "-f", "-", text=json.dumps(named(overlay, kind, name)))
        probe = (
            pod({"podsla.io/class": "x"})
            if name == "podsla"
            else workload("Deployment", template={"podsla.io/class": "x"})
        )
        while not called(admin, PLAIN, probe):
            pass  # the API server takes a configuration over within a second
        yield
        run(admin, "delete", kind.lower(), name)

    return configuration


mutating = installed("MutatingWebhookConfiguration", "podsla")
validating = installed("ValidatingWebhookConfiguration", "podsla")
templates = installed("ValidatingWebhookConfiguration", "podsla-templates")


def called(admin: User, namespace: str, document: Document) -> str:
    """Create *document* in a dry run and say which entry was called; "" where none was."""
    done = admin.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", text=json.dumps(document))
    if done.returncode == 0:
        return ""
    found = re.search(r'failed calling webhook "([^"]+)"', done.stderr)
    assert found, done.stderr
    return found[1]


def pod(annotations: Document, labels: Document | None = None, **metadata: Any) -> Document:
    """Build a pod."""
    fields = {"name": "p", "annotations": annotations, "labels": labels or {}, **metadata}
    spec: Document = {"containers": [{"name": "c", "image": "x"}]}
    if MIRROR_POD in annotations:
        spec["nodeName"] = "n"  # else the API server believes in no mirror
    return {"apiVersion": "v1", "kind": "Pod", "metadata": fields, "spec": spec}


PODS = pytest.mark.parametrize(
    ("namespace", "document", "entry"),
    [
        pytest.param(PLAIN, pod({}), "", id="no key of ours: never sent"),
        pytest.param(PLAIN, pod({"a": "b"}, {"c": "d"}), "", id="keys of others: never sent"),
        pytest.param(PLAIN, pod({"podsla.io/class": "x"}), "pods.podsla.io", id="a class"),
        pytest.param(PLAIN, pod({"podsla.io/min-pps": "1"}), "pods.podsla.io", id="a minimum without a class"),
        pytest.param(PLAIN, pod({}, {"podsla.io/class": "x"}), "pods.podsla.io", id="a class as a label"),
        pytest.param(PLAIN, pod(ONLY_OPT_OUT), "pods.podsla.io", id="an opt-out where there is no default"),
        pytest.param(DEFAULTED, pod({}), "defaulted-pods.podsla.io", id="the namespace has a default"),
        pytest.param(
            DEFAULTED, pod({"podsla.io/class": "x"}), "defaulted-pods.podsla.io", id="a class beside a default"
        ),
        pytest.param(DEFAULTED, pod(ONLY_OPT_OUT), "", id="it opts out: never sent"),
        pytest.param(DEFAULTED, pod(ONLY_OPT_OUT, {"a": "b"}), "", id="it opts out, with labels of others"),
        pytest.param(
            DEFAULTED,
            pod({**ONLY_OPT_OUT, "podsla.io/min-pps": "1"}),
            "defaulted-pods.podsla.io",
            id="it opts out and asks for something",
        ),
        pytest.param(
            DEFAULTED,
            pod(ONLY_OPT_OUT, {"podsla.io/size": "x"}),
            "defaulted-pods.podsla.io",
            id="it opts out and says it has a size",
        ),
        pytest.param(PLAIN, pod({"podsla.io/class": "x", MIRROR_POD: "y"}), "", id="a mirror pod of a class"),
        pytest.param(DEFAULTED, pod({MIRROR_POD: "y"}), "", id="a mirror pod"),
        pytest.param("kube-public", pod({"podsla.io/class": "x"}), "", id="a namespace of the system"),
    ],
)


@pytest.mark.usefixtures("mutating")
class TestMutating:
    @PODS
    def test_a_pod_is_sent_to_one_entry_at_most(
        self, admin: User, namespace: str, document: Document, entry: str
    ) -> None:
        assert called(admin, namespace, document) == entry


@pytest.mark.usefixtures("validating")
class TestValidating:
    @PODS
    def test_a_pod_is_sent_to_one_entry_at_most(
        self, admin: User, namespace: str, document: Document, entry: str
    ) -> None:
        assert called(admin, namespace, document) == entry

    def test_only_resizes_of_sized_pods_are_sent(self, admin: User) -> None:
        """Pods that podsla never saw are resized whether it answers or not."""
        resize = json.dumps({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}})
        errors = {}
        for name in ("unsized", "sized"):
            document = pod({}, name=name)
            document["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
            run(admin, "-n", PLAIN, "create", "-f", "-", text=json.dumps(document))
            if name == "sized":
                run(admin, "-n", PLAIN, "label", "pod", name, "podsla.io/size=x")
            errors[name] = admin.kubectl("-n", PLAIN, "patch", "pod", name, "--subresource=resize", "-p", resize)
            run(admin, "-n", PLAIN, "delete", "pod", name, "--force", "--grace-period=0")
        assert 'failed calling webhook "resized-pods.podsla.io"' in errors["sized"].stderr
        assert errors["unsized"].returncode == 0, errors["unsized"].stderr


def workload(kind: str, *, template: Document | None = None, **metadata: Any) -> Document:
    """Build a workload, or the job or pod of one, with annotations on its pod template."""
    pods = {"metadata": {"labels": {"a": "b"}, "annotations": template or {}}, "spec": pod({})["spec"]}
    if kind in ("Job", "CronJob"):
        pods["spec"] = {**pods["spec"], "restartPolicy": "Never"}
        spec: Document = {"template": pods}
        if kind == "CronJob":
            spec = {"schedule": "* * * * *", "jobTemplate": {"spec": spec}}
    else:
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": pods}
    version = "batch/v1" if kind in ("Job", "CronJob") else "apps/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "w", **metadata}, "spec": spec}


KINDS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob")
OWNER = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u"}


@pytest.mark.usefixtures("templates")
class TestTemplates:
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_of_workload_is_sent(self, admin: User, kind: str) -> None:
        entry, defaulted = "templates.podsla.io", "defaulted-templates.podsla.io"
        assert called(admin, PLAIN, workload(kind)) == ""
        assert called(admin, PLAIN, workload(kind, template={"podsla.io/class": "x"})) == entry
        assert called(admin, PLAIN, workload(kind, annotations={"podsla.io/class": "x"})) == entry, "on the wrong level"
        assert called(admin, DEFAULTED, workload(kind)) == defaulted

    def test_a_class_between_a_cron_job_and_its_pods_is_sent(self, admin: User) -> None:
        document = workload("CronJob")
        document["spec"]["jobTemplate"]["metadata"] = {"labels": {"podsla.io/class": "x"}}
        assert called(admin, PLAIN, document) == "templates.podsla.io"

    @pytest.mark.parametrize(
        ("owners", "entry"),
        [
            pytest.param([{**OWNER, "controller": True}], "", id="made by a controller: its owner was told"),
            pytest.param([OWNER], "templates.podsla.io", id="owned for garbage collection only"),
        ],
    )
    def test_what_a_controller_makes_is_not_sent(self, admin: User, owners: list[Document], entry: str) -> None:
        document = workload("ReplicaSet", template={"podsla.io/class": "x"}, ownerReferences=owners)
        assert called(admin, PLAIN, document) == entry


@pytest.mark.parametrize("by", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_applying_anew_keeps_the_ca_bundle(admin: User, overlay: list[Document], by: tuple[str, ...]) -> None:
    """
    The controller writes it; an upgrade of the manifests must not cut the API server off.

    Seen to fail where manifests hold an empty one: it replaces the right one, or cannot be applied.
    """
    document = named(overlay, "MutatingWebhookConfiguration", "podsla")
    for edition in (5, 4):
        document["webhooks"][0]["timeoutSeconds"] = edition
        run(admin, "apply", *by, "-f", "-", text=json.dumps(document))
        if edition == 5:
            patch = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": certificate(admin)}]
            run(admin, "patch", "mutatingwebhookconfiguration", "podsla", "--type=json", "-p", json.dumps(patch))
    found = json.loads(run(admin, "get", "mutatingwebhookconfiguration", "podsla", "-o", "json"))
    run(admin, "delete", "mutatingwebhookconfiguration", "podsla")
    assert found["webhooks"][0]["timeoutSeconds"] == 4
    assert found["webhooks"][0]["clientConfig"]["caBundle"] == certificate(admin)


def certificate(admin: User) -> str:
    """Borrow the cluster's own CA as a bundle: the API server refuses what is none."""
    return run(admin, "config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}")

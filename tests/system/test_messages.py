"""What a developer reads at `kubectl apply`, to the sentence: what the pods will get, or why not and what to do."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from kube.api import Object, Resource
from tests.builders import container, pod, template, workload
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

Namespace = Callable[..., str]
Document = dict[str, Any]

PLURALS: Final = {"Pod": "pods", "Deployment": "deployments", "StatefulSet": "statefulsets", "CronJob": "cronjobs"}
HUGE: Final = container(requests={"cpu": "500", "memory": "9Ti"})
TOO_MUCH: Final = {"podsla.io/min-pps": "90M", "podsla.io/min-disk-iops": "9M"}
TOO_MUCH_TEXT: Final = (
    "no size of class 'every-figure' on target 'kubernetes' holds the pod: vcpu asks 500, best is 255900m "
    "(ecs.c6a.64xlarge); memory asks 9Ti, best is 6143Gi (ecs.ebmre6-6t.52xlarge); network.pps asks 90M, best is "
    "28500k (ecs.hfc8i.32xlarge); disk.iops asks 9M, best is 950k (ecs.g5se.18xlarge); what fits: cpu.baseMHz 2700, "
    "network.queues 8, network.bitsPerSecond 500M, disk.bytesPerSecond 50M; ask for less, or ask the owner of "
    "catalogue 'mission' for more"
)
TYPO: Final = "class 'net-intensve' is in no catalogue; did you mean net-intensive or disk-intensive?"
ENFORCING: Final = {"enforce_templates": "true"}


def of(sla_class: str | None, minima: Mapping[str, str] | None = None, **overrides: Any) -> Document:
    """A pod template that nobody schedules: what is said of it is all that counts."""
    return template(sla_class, annotations=minima, labels={"app": "shop"}, schedulerName="nobody", **overrides)


def deployment(pods: Document, *, kind: str = "Deployment", replicas: int = 3, metadata: Any = None) -> Document:
    """A Deployment (or its like) over a template."""
    selector = {"matchLabels": {"app": "shop"}}
    return {
        "apiVersion": "apps/v1",
        **workload(kind, metadata=metadata, template=pods, selector=selector, replicas=replicas),
    }


def stateful_set(pods: Document, metadata: Any = None) -> Document:
    """A StatefulSet whose pods have a claim each."""
    made = deployment(pods, kind="StatefulSet", metadata=metadata)
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {**made, "spec": {**made["spec"], "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}]}}


def cron_job(pods: Document, metadata: Any = None) -> Document:
    """A CronJob for the turn of the year."""
    pods["spec"]["restartPolicy"] = "Never"
    job = {"metadata": metadata or {}, "spec": {"template": pods}}
    head = {"apiVersion": "batch/v1", **workload("CronJob")}
    return {**head, "spec": {"schedule": "0 0 1 1 *", "jobTemplate": job}}


def placed(document: Document, namespace: str) -> Document:
    """The same in a namespace."""
    return {**document, "metadata": {**document["metadata"], "namespace": namespace}}


def stored(user: User, document: Document) -> Object | None:
    """What the API server has of it."""
    resource = Resource(document["apiVersion"], PLURALS[document["kind"]])
    return user.api.get(resource, document["metadata"]["name"], document["metadata"]["namespace"])


NO_KEY_ABOVE: Final = (
    "podsla.io/class in metadata.annotations has no effect; move it to spec.template.metadata.annotations"
)
WRONG_LEVEL: Final = {"annotations": {"podsla.io/class": "net-intensive"}}


@pytest.mark.parametrize(
    ("labels", "document", "lines"),
    [
        pytest.param({}, deployment(of(None)), [], id="no key of ours: not a word"),
        pytest.param(
            {},
            deployment(of("net-intensive")),
            ["podsla: class net-intensive gets size ecs.c6e.xlarge, cost 4 each, 12 for 3 pods"],
            id="what each pod gets, and what that costs",
        ),
        pytest.param(
            {"default_class": "net-intensive"},
            deployment(of(None)),
            ["podsla: class net-intensive gets size ecs.c6e.xlarge, cost 4 each, 12 for 3 pods"],
            id="the same by the default class of the namespace",
        ),
        pytest.param(
            {},
            deployment(of("net-intensve")),
            [
                "podsla will refuse these pods (UnknownClass): class 'net-intensve' is in no catalogue; did you mean "
                "net-intensive or",
                "disk-intensive?",
            ],
            id="a typo in the class",
        ),
        pytest.param({}, deployment(of(None), metadata=WRONG_LEVEL), [NO_KEY_ABOVE], id="a class on the Deployment"),
        pytest.param(
            ENFORCING,
            deployment(of(None), metadata=WRONG_LEVEL),
            [NO_KEY_ABOVE],
            id="a class on the Deployment is no refusal to come, so nothing is refused",
        ),
        pytest.param(
            {},
            deployment(of(None, {"podsla.io/min-pps": "1M"})),
            [
                "podsla will refuse these pods (KeyWithoutClass): podsla.io/min-pps has no effect without a class; add "
                "podsla.io/class,",
                "or remove it",
            ],
            id="a minimum without a class",
        ),
        pytest.param(
            {},
            deployment(of("net-intensive", {"podsla.io/min-pp": "1M"})),
            [
                "podsla will refuse these pods (UnknownKey): podsla.io/min-pp is no key of podsla; did you mean "
                "podsla.io/min-pps or",
                "podsla.io/min-disk-iops?",
            ],
            id="a typo in a key",
        ),
        pytest.param(
            {},
            deployment(of("net-intensive", {"podsla.io/min-pps": "90M"})),
            [
                "podsla will refuse these pods (AboveMaximum): podsla.io/min-pps is 90M, and class 'net-intensive' "
                "allows 10M at most;",
                "lower it, or choose a class that allows more",
            ],
            id="more than the class allows",
        ),
        pytest.param(
            {},
            deployment(of("every-figure", TOO_MUCH, containers=[HUGE])),
            [
                "podsla will refuse these pods (NoSizeFits): no size of class 'every-figure' on target 'kubernetes' "
                "holds the pod: vcpu",
                "asks 500, best is 255900m (ecs.c6a.64xlarge); memory asks 9Ti, best is 6143Gi "
                "(ecs.ebmre6-6t.52xlarge); network.pps asks",
                "90M, best is 28500k (ecs.hfc8i.32xlarge); disk.iops asks 9M, best is 950k (ecs.g5se.18xlarge); what "
                "fits: cpu.baseMHz",
                "2700, network.queues 8, network.bitsPerSecond 500M, disk.bytesPerSecond 50M; ask for less, or ask the "
                "owner of catalogue",
                "'mission' for more",
            ],
            id="more than any size has: per dimension what was asked and the best that exists",
        ),
        pytest.param(
            {},
            deployment(of("edge-only")),
            [
                "podsla will refuse these pods (ClassNotOpen): class 'edge-only' is open to namespaces with team In "
                "edge only; ask the",
                "owner of 'mission'",
            ],
            id="a class of another team",
        ),
        pytest.param(
            {},
            deployment(of("retiring"), replicas=1),
            [
                "podsla: class retiring gets size ecs.g7.large, cost 2 each, 2 for 1 pod",
                "class retiring is deprecated and refuses new pods from 2099-01-01; use general. Nobody tends it.",
            ],
            id="a class on its way out",
        ),
        pytest.param(
            {},
            stateful_set(of("disk-intensive")),
            [
                "podsla: class disk-intensive gets size ecs.c8i.large, cost 2 each, 6 for 3 pods",
                "volume data is a claim, on another disk than disk.iops, disk.bytesPerSecond counts",
            ],
            id="a StatefulSet whose data is on claims",
        ),
        pytest.param(
            {},
            stateful_set(of(None), {"labels": {"podsla.io/class": "batch"}}),
            ["podsla.io/class in metadata.labels has no effect; move it to spec.template.metadata.annotations"],
            id="a class on the StatefulSet, as a label",
        ),
        pytest.param(
            {},
            cron_job(of("bach")),
            ["podsla will refuse these pods (UnknownClass): class 'bach' is in no catalogue; did you mean batch?"],
            id="a typo in a CronJob",
        ),
        pytest.param(
            {},
            cron_job(of(None), {"annotations": {"podsla.io/class": "batch"}}),
            [
                "podsla.io/class in spec.jobTemplate.metadata.annotations has no effect; move it to",
                "spec.jobTemplate.spec.template.metadata.annotations",
            ],
            id="a class on the job of a CronJob",
        ),
    ],
)
def test_a_workload_is_taken_and_its_author_is_told(
    user: User, namespace: Namespace, labels: Mapping[str, str], document: Document, lines: list[str]
) -> None:
    document = placed(document, namespace(**labels))
    name = f"{document['kind'].lower()}.{document['apiVersion'].partition('/')[0]}/checkout created"

    tried, done = user.apply(document, "--dry-run=server"), user.apply(document)

    assert done.stderr == "".join(f"Warning: {line}\n" for line in lines)
    assert done.stdout.splitlines() == [name]
    assert (tried.stderr, tried.stdout.splitlines()) == (done.stderr, [f"{name} (server dry run)"])
    assert stored(user, document) is not None


@pytest.mark.parametrize(
    ("labels", "document", "entry", "reason", "sentence"),
    [
        pytest.param({}, pod("net-intensve"), "pods", "UnknownClass", TYPO, id="a bare pod with a typo in its class"),
        pytest.param(
            {},
            pod(None, annotations={"podsla.io/min-pps": "1M"}),
            "pods",
            "KeyWithoutClass",
            "podsla.io/min-pps has no effect without a class; add podsla.io/class, or remove it",
            id="a bare pod with a minimum and no class",
        ),
        pytest.param(
            {},
            pod("every-figure", annotations=TOO_MUCH, containers=[HUGE]),
            "pods",
            "NoSizeFits",
            TOO_MUCH_TEXT,
            id="a bare pod that asks more than any size has",
        ),
        pytest.param(
            {"default_class": "net-intensve"},
            pod(None),
            "defaulted-pods",
            "UnknownClass",
            TYPO,
            id="a bare pod where the namespace has a typo in its default class",
        ),
        pytest.param(
            ENFORCING,
            deployment(of("net-intensve")),
            "templates",
            "UnknownClass",
            TYPO,
            id="a Deployment where templates are enforced",
        ),
        pytest.param(
            ENFORCING,
            stateful_set(of("every-figure", TOO_MUCH, containers=[HUGE])),
            "templates",
            "NoSizeFits",
            TOO_MUCH_TEXT,
            id="a StatefulSet where templates are enforced",
        ),
        pytest.param(
            ENFORCING,
            cron_job(of("net-intensve")),
            "templates",
            "UnknownClass",
            TYPO,
            id="a CronJob where templates are enforced",
        ),
        pytest.param(
            {**ENFORCING, "default_class": "net-intensve"},
            deployment(of(None)),
            "defaulted-templates",
            "UnknownClass",
            TYPO,
            id="a Deployment that only the namespace gives a class",
        ),
    ],
)
def test_what_is_refused_says_why_and_what_to_do(
    user: User,
    namespace: Namespace,
    labels: Mapping[str, str],
    document: Document,
    entry: str,
    reason: str,
    sentence: str,
) -> None:
    document = placed(document, namespace(**labels))

    tried, done = user.apply(document, "--dry-run=server"), user.apply(document)

    said = f'admission webhook "{entry}.podsla.io" denied the request: {sentence}'
    assert done.stderr == f'Error from server ({reason}): error when creating "STDIN": {said}\n'
    assert (done.returncode, done.stdout) == (1, "")
    assert (tried.stderr, tried.returncode, tried.stdout) == (done.stderr, 1, "")
    assert stored(user, document) is None


def test_an_enforcing_namespace_keeps_what_serves_and_still_scales_it_down(user: User, namespace: Namespace) -> None:
    """An edit that would be refused leaves the object; a workload that was taken before enforcement stays workable."""
    there = namespace()
    good, bad = (placed(deployment(of(name)), there) for name in ("net-intensive", "net-intensve"))
    assert user.apply(good).returncode == 0
    assert user.kubectl("label", "namespace", there, "podsla.io/enforce-templates=true").returncode == 0

    eventually(
        lambda: user.apply(bad, "--dry-run=server").returncode == 1, "the webhook knows the namespace's new label"
    )
    refused = user.apply(bad)

    assert refused.returncode == 1
    assert refused.stderr.endswith(f'admission webhook "templates.podsla.io" denied the request: {TYPO}\n')
    kept = stored(user, good)
    assert kept is not None
    assert kept["spec"]["template"]["metadata"]["annotations"] == {"podsla.io/class": "net-intensive"}

    scaled = user.kubectl("-n", there, "scale", "deployment", "checkout", "--replicas=0")

    assert (scaled.returncode, scaled.stderr) == (0, "")


def test_what_was_said_is_not_said_again(user: User, namespace: Namespace) -> None:
    document = placed(deployment(of("net-intensve")), namespace())
    first = user.apply(document)
    labelled = {**document, "metadata": {**document["metadata"], "labels": {"team": "shop"}}}

    again, other = user.apply(document), user.apply(labelled)

    assert first.stderr.startswith("Warning: podsla will refuse these pods (UnknownClass)")
    assert (again.stdout, again.stderr) == ("deployment.apps/checkout unchanged\n", "")
    assert (other.stdout, other.stderr) == ("deployment.apps/checkout configured\n", "")

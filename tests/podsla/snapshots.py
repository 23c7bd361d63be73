"""A cluster in which all is well, as a snapshot of objects, and ways to make one thing of it wrong."""

from base64 import b64encode
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import yaml

from catalog.accept import Memo, judge
from catalog.keys import TARGET
from catalog.load import DEFAULT_TARGET, load_target
from catalog.reader import read_catalog
from catalog.stored import revision_object
from catalog.yamltext import parse_documents
from nodes.offer import node_offer
from podsla.health.findings import Snapshot
from tests.builders import CATALOG, TODAY, catalog_text, pod
from tests.cluster.install import ROOT
from webhook.certificate import Pair, issue_ca, issue_leaf

NOW: Final = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC)
HOME: Final = "podsla-system"
HOST: Final = f"podsla-webhook.{HOME}.svc"
Object = dict[str, Any]


@cache
def certificates(issued: datetime = NOW) -> tuple[Pair, Pair]:
    """A CA and a leaf of it."""
    ca = issue_ca(issued)
    return ca, issue_leaf(ca, [HOST], issued)


def secret(pair: Pair) -> dict[str, str]:
    return {"tls.crt": b64encode(pair.cert_pem).decode(), "tls.key": b64encode(pair.key_pem).decode()}


def configuration(kind: str, name: str) -> Object:
    """A webhook configuration as it is shipped, with the CA bundle that the controller writes."""
    files = {"mutating": "mutating.yaml", "validating": "validating.yaml", "templates": "validating.yaml"}
    documents = yaml.safe_load_all((ROOT / "manifests/base/webhooks" / files[kind]).read_text())
    found: Object = next(one for one in documents if one["metadata"]["name"] == name)
    for hook in found["webhooks"]:
        hook["clientConfig"]["caBundle"] = b64encode(certificates()[0].cert_pem).decode()
    return found


def spec_catalog(text: str = CATALOG) -> tuple[Object, Object]:
    """A catalogue that was accepted, and the ControllerRevision that keeps it."""
    document = parse_documents(text, "catalog.yaml")[0].data
    thing = {
        **document,
        "metadata": {**document["metadata"], "uid": "u1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
    }
    (verdict,) = judge([thing], [], Memo())
    assert verdict.keep
    condition = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "served"}
    thing["status"] = {"serving": verdict.serving, "observedGeneration": 1, "conditions": [condition]}
    return thing, {**revision_object(thing, verdict.keep.revision, 1, HOME)}


def node(name: str = "n1", size: str = "medium") -> Object:
    """A node that publishes what its size offers."""
    sizes = {s.name: s for s in read_catalog(parse_documents(CATALOG, "catalog.yaml")).sizes}
    offer = node_offer(sizes[size], load_target(DEFAULT_TARGET))
    labels = {"node.kubernetes.io/instance-type": size, **offer.labels}
    labels.pop("podsla.io/node-size")
    amounts = {"cpu": "3900m", "memory": "7Gi", "pods": "110", **{key: str(v) for key, v in offer.capacity.items()}}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"capacity": amounts, "allocatable": dict(amounts)},
    }


def namespace(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": {f"podsla.io/{k.replace('_', '-')}": v for k, v in labels.items()}}}


def labelled(key: str, value: str) -> Object:
    """A namespace with one label, whatever its domain."""
    return {"metadata": {"name": "team-b", "labels": {key: value}}}


def annotated(key: str, value: str) -> Object:
    """A namespace with one annotation."""
    return {"metadata": {"name": "team-b", "annotations": {key: value}}}


def deployment(name: str, image: str = "podsla:1") -> Object:
    template = {"spec": {"containers": [{"image": image}]}}
    return {"metadata": {"name": name}, "spec": {"replicas": 2, "template": template}, "status": {"readyReplicas": 2}}


@cache
def _well() -> Snapshot:
    ca, leaf = certificates()
    thing, revision = spec_catalog()
    return Snapshot(
        home=HOME,
        now=NOW,
        server="v1.37.0",
        mutating=configuration("mutating", "podsla"),
        validating=configuration("validating", "podsla"),
        templates=configuration("templates", "podsla-templates"),
        ca=secret(ca),
        leaf=secret(leaf),
        service={"metadata": {"name": "podsla-webhook"}},
        slices=[{"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]}],
        deployments=[deployment("podsla-webhook"), deployment("podsla-controller")],
        lease={"spec": {"holderIdentity": "c-0", "renewTime": "2026-11-23T11:59:58Z", "leaseDurationSeconds": 15}},
        crd={
            "spec": {"versions": [{"name": "v1beta1", "served": True}]},
            "status": {"conditions": [{"type": "Established", "status": "True"}]},
        },
        policy={"metadata": {"name": "podsla-sized-pods"}},
        catalogs=[thing],
        revisions=[revision],
        nodes=[node("n1"), node("n2", "large")],
        namespaces=[namespace("team-a"), namespace("team-b", default_class="general")],
    )


def well(**changes: Any) -> Snapshot:
    """A cluster in which all is well, but for *changes*."""
    return replace(deepcopy(_well()), **changes)


def edited(field: str, *path: Any, to: Any) -> Snapshot:
    """The same with one value inside a field replaced; None: taken out."""
    snapshot = well()
    inner = getattr(snapshot, field)
    for step in path[:-1]:
        inner = inner[step]
    if to is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return snapshot


def old(life: timedelta) -> Snapshot:
    """The same, some time after the certificates were made; the lease is fresh."""
    lease = {"spec": {"holderIdentity": "c", "renewTime": (NOW + life).isoformat(), "leaseDurationSeconds": 15}}
    return well(now=NOW + life, lease=lease)


def refused_edit(**status: Any) -> Snapshot:
    thing, revision = spec_catalog()
    condition = {"type": "Accepted", "status": "False", "reason": "InvalidCatalog", "message": "spec.sizes[0]: wrong"}
    thing["status"] = {**thing["status"], "conditions": [condition], **status}
    return well(catalogs=[thing], revisions=[revision])


def with_classes(lines: str) -> Snapshot:
    thing, revision = spec_catalog(catalog_text(classes=lines))
    return well(catalogs=[thing], revisions=[revision])


def leaning() -> Snapshot:
    """The same with a second catalogue, accepted when there was still a class that one of its own falls back to."""
    thing, revision = spec_catalog()
    spec = {"classes": [{"name": "lean", "description": "x", "fallback": ["gone"]}]}
    metadata = {**thing["metadata"], "name": "teams", "uid": "u2"}
    status = {**thing["status"], "serving": "sha256:teams"}
    other = {**thing, "metadata": metadata, "spec": spec, "status": status}
    return well(catalogs=[thing, other], revisions=[revision, revision_object(other, "sha256:teams", 1, HOME)])


def accepted_target(text: str) -> Snapshot:
    """The same with a target that a controller accepted."""
    metadata = {"name": "target-1", "labels": {TARGET: "true"}}
    kept = {"metadata": metadata, "revision": 1, "data": {"target.yaml": text}}
    return well(revisions=[*well().revisions, kept], target=target(text))


def other_bundle() -> str:
    return b64encode(issue_ca(NOW).cert_pem).decode()


def target(text: str) -> Object:
    return {"metadata": {"name": "podsla-target"}, "data": {"target.yaml": text}}


def recorded(size: str, pps: str, *, name: str = "checkout-x7k2p") -> Object:
    """A running pod whose record says what it was promised."""
    record = (
        f'{{"class":"net","size":"{size}","revision":"sha256:x","dimensions":{{"network.pps":{{"kept":"{pps}"}}}}}}'
    )
    labels, metadata = {"podsla.io/size": size}, {"name": name}
    made = pod("net", annotations={"podsla.io/record": record}, labels=labels, metadata=metadata, nodeName="n1")
    return {**made, "status": {"phase": "Running"}}


def promised(amount: str) -> Object:
    asked = [{"name": "c", "resources": {"requests": {"podsla.io/pps": amount}}}]
    return {**pod(None, containers=asked, nodeName="n1"), "status": {"phase": "Running"}}

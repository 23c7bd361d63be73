"""Manifests of other projects, applied for real: each pod gets what `podsla admit` printed for its manifest offline."""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from catalog.keys import RECORD, SIZE
from catalog.pod import LIMIT_ANNOTATIONS, read_pod
from kube.api import Api, ApiError, Object, Resource
from kube.kinds import NODES, PODS
from tests.system.user import User, save_catalogs
from tests.waiting import eventually
from webhook.record import dump_subject
from webhook.workloads import WORKLOADS, value_at

pytestmark = pytest.mark.cluster

EVENTS: Final = Resource("v1", "events")
UNTOUCHED: Final = "kube-public"  # podsla leaves it alone
DENIED: Final = 'admission webhook "defaulted-pods.podsla.io" denied the request: '
LEAST: Final = 100  # of the 116 manifests are of kinds that an API server knows


@dataclass(frozen=True)
class Manifest:
    """
    One manifest, as it is applied here.

    Attributes:
        name: Of the object, unique: pods are found by it.
        document: Without namespace, owner and status, and for one pod; everything else is as its authors wrote it.
    """

    name: str
    file: str
    resource: Resource
    document: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.document["kind"])

    def template(self, document: Any) -> Mapping[str, Any]:
        """Find the pod (template) in a document of this kind."""
        found: Mapping[str, Any] = value_at(document, WORKLOADS[self.kind].template)
        return found


@dataclass(frozen=True)
class Offline:
    """What `podsla admit` said without a cluster: documents and refusals, by name."""

    documents: dict[str, Any] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)


# --- reading ----------------------------------------------------------------------------------------------------------


def served(api: Api, group_version: str) -> Mapping[str, str]:
    """List the kinds that the API server knows of a group version, with their plural."""
    try:
        found = api.call("GET", Resource(group_version, "").path())
    except ApiError as error:
        if error.status != 404:
            raise
        return {}
    return {r["kind"]: r["name"] for r in found["resources"] if "/" not in r["name"]}


def read_manifests(folder: Path, api: Api) -> Iterator[Manifest]:
    """Read those that the API server knows and that make pods."""
    known: dict[str, Mapping[str, str]] = {}
    node = min(node["metadata"]["name"] for node in api.list(NODES))
    for number, file in enumerate(sorted(folder.glob("*.yaml"))):
        document = json.loads(json.dumps(yaml.safe_load(file.read_text()), default=str))
        version = document["apiVersion"]
        kinds = known.setdefault(version, served(api, version))
        if document["kind"] in kinds and document["kind"] in WORKLOADS:
            name = f"m{number:03}"
            yield Manifest(name, file.name, Resource(version, kinds[document["kind"]]), prepared(document, name, node))


def prepared(document: dict[str, Any], name: str, node: str) -> dict[str, Any]:
    """
    Make it fit for any cluster: no owner that is not here, one pod, nothing that waits for a queue or a clock.

    Args:
        node: Where a DaemonSet runs, whatever nodes its authors have.
    """
    metadata = document.get("metadata") or {}
    kept = {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}
    made = {key: value for key, value in document.items() if key != "status"} | {"metadata": {"name": name, **kept}}
    replicas = WORKLOADS[made["kind"]].replicas
    if replicas is not None:
        value_at(made, replicas[:-1])[replicas[-1]] = 1
    if made["kind"] in ("Job", "CronJob"):
        made["spec"]["suspend"] = made["kind"] == "CronJob"  # a job of it is made by hand
    if made["kind"] == "DaemonSet":
        made["spec"]["template"]["spec"] |= {"nodeSelector": {"kubernetes.io/hostname": node}, "affinity": None}
    return made


def named(manifest: Manifest, *path: str) -> set[str]:
    """Find what the pod spec names at *path*, as the API server must have it before it takes the pod."""
    found = value_at(manifest.template(manifest.document), ("spec", *path))
    return {found} if isinstance(found, str) else set()


def provide(api: Api, manifests: list[Manifest], namespace: str) -> list[tuple[Resource, str]]:
    """Create the service accounts, priority classes and runtime classes that they name; return those of the cluster."""
    accounts = set[str]().union(*(named(m, "serviceAccountName") | named(m, "serviceAccount") for m in manifests))
    priorities = set[str]().union(*(named(m, "priorityClassName") for m in manifests))
    runtimes = set[str]().union(*(named(m, "runtimeClassName") for m in manifests))
    wanted: list[tuple[Resource, str, dict[str, Any]]] = [
        *((Resource("v1", "serviceaccounts"), name, {}) for name in sorted(accounts)),
        *((Resource("scheduling.k8s.io/v1", "priorityclasses"), name, {"value": 1}) for name in sorted(priorities)),
        *((Resource("node.k8s.io/v1", "runtimeclasses"), name, {"handler": "runc"}) for name in sorted(runtimes)),
    ]
    made = []
    for resource, name, body in wanted:
        account = resource.plural == "serviceaccounts"
        try:
            api.create(resource, {"metadata": {"name": name}, **body}, namespace if account else "")
        except ApiError as error:
            if error.status not in (409, 422):  # the API server has it already, or takes no such name
                raise
        else:
            made += [] if account else [(resource, name)]
    return made


# --- offline ----------------------------------------------------------------------------------------------------------


def offline(user: User, manifests: list[Manifest], labels: Mapping[str, str], folder: Path) -> Offline:
    """Run `podsla admit` on them with the catalogues of the cluster: a table for refusals, JSON for everything else."""
    catalogs = save_catalogs(user.api, folder)
    files = {m.name: folder / f"{m.name}.json" for m in manifests}
    for manifest in manifests:
        files[manifest.name].write_text(json.dumps(manifest.document))
    common = [
        "admit",
        "--catalog",
        str(catalogs),
        "--namespace-labels",
        ",".join(f"{k}={v}" for k, v in labels.items()),
    ]

    def run(names: list[str], form: str) -> Any:
        return user.podsla(*common, "-o", form, *(word for name in names for word in ("-f", str(files[name]))))

    refusals = {}
    for line in run(list(files), "json").stderr.splitlines():
        title, found, why = line.partition(": refused, ")
        if found:
            refusals[title.partition("/")[2]] = why.partition(": ")[2]
    done = run([name for name in files if name not in refusals], "json")
    assert done.returncode == 0, done.stderr
    return Offline({d["metadata"]["name"]: d for d in json.loads(done.stdout)["items"]}, refusals)


# --- in the cluster ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of the manifests: pods and refusals, by name."""

    pods: dict[str, Object]
    refusals: dict[str, str]


def apply_all(user: User, manifests: list[Manifest], namespaces: Mapping[bool, str]) -> dict[str, Object | str]:
    """
    Create each manifest.

    Args:
        namespaces: For bare pods (True) and for workloads: a ReplicaSet would adopt a bare pod that fits its selector.

    Returns:
        By name, the object as it is stored, or what the API server said no with.
    """

    def create(manifest: Manifest) -> Object | str:
        namespace = namespaces[manifest.kind == "Pod"]
        try:
            made = user.api.create(manifest.resource, manifest.document, namespace)
        except ApiError as error:
            return said(error)
        if manifest.kind == "CronJob":
            done = user.kubectl("-n", namespace, "create", "job", manifest.name, f"--from=cronjob/{manifest.name}")
            assert done.returncode == 0, done.stderr
        return made

    with ThreadPoolExecutor(8) as pool:
        return dict(zip((m.name for m in manifests), pool.map(create, manifests), strict=True))


def outcome(user: User, manifests: list[Manifest], namespaces: Mapping[bool, str]) -> Outcome:
    """Apply all, and wait until each workload has its pod, or an event that says why not."""
    made = apply_all(user, manifests, namespaces)
    refusals = {name: thing for name, thing in made.items() if isinstance(thing, str)}
    # Bare pods as they were stored: one that another preempts is gone a moment later, and nobody makes it anew.
    bare = {name: thing for name, thing in made.items() if not isinstance(thing, str) and thing["kind"] == "Pod"}
    awaited = made.keys() - refusals.keys() - bare.keys()

    def settled() -> Outcome | None:
        pods = {pod["metadata"]["name"][:4]: pod for pod in user.api.list(PODS, namespaces[False])}
        events = user.api.list(EVENTS, namespaces[False], fieldSelector="reason=FailedCreate")
        why = {event["involvedObject"]["name"][:4]: event["message"].partition(": ")[2] for event in events}
        missing = awaited - pods.keys() - why.keys()
        assert not missing, sorted(missing)
        return Outcome(bare | pods, refusals | {name: why[name] for name in awaited - pods.keys()})

    found = eventually(settled, "a pod, or a reason for none, of every workload")
    assert found is not None
    return found


# --- comparing --------------------------------------------------------------------------------------------------------


def fields_we_write(pod: Object) -> dict[str, Any]:
    """Read every field that podsla may write; of the record all but its input, which is the pod as it was sent."""
    metadata, spec = pod["metadata"], pod["spec"]
    annotations = metadata.get("annotations") or {}
    record = json.loads(annotations[RECORD]) if RECORD in annotations else None
    return {
        "size": (metadata.get("labels") or {}).get(SIZE),
        "record": record and {key: value for key, value in record.items() if key != "input"},
        "annotations": {key: annotations[key] for key in LIMIT_ANNOTATIONS if key in annotations},
        "containers": {c["name"]: c.get("resources") for c in spec["containers"]},
        **{key: spec.get(key) for key in ("resources", "affinity", "tolerations", "runtimeClassName", "overhead")},
    }


def as_stored(api: Api, manifest: Manifest, document: Mapping[str, Any]) -> dict[str, Any]:
    """Let the API server fill in its defaults, where podsla is not asked: the pod as it would be stored."""
    template = manifest.template(document)
    metadata = {key: (template.get("metadata") or {}).get(key) for key in ("labels", "annotations")}
    spec = {
        key: value for key, value in template["spec"].items() if key not in ("serviceAccountName", "serviceAccount")
    }
    claims = [
        {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": "x"}}
        for claim in document["spec"].get("volumeClaimTemplates") or ()  # as the controller of a StatefulSet does
    ]
    spec["volumes"] = [*(spec.get("volumes") or ()), *claims]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": manifest.name, **metadata}, "spec": spec}
    return api.call("POST", PODS.path(UNTOUCHED), {"dryRun": "All"}, pod)


def refused_without_us(api: Api, manifest: Manifest, namespace: str) -> str:
    """Say why the API server takes a manifest nowhere; empty where it does."""
    try:
        api.call("POST", manifest.resource.path(UNTOUCHED), {"dryRun": "All"}, manifest.document)
    except ApiError as error:
        return said(error).replace(f" {UNTOUCHED}/", f" {namespace}/")
    return ""


def said(error: ApiError) -> str:
    """Leave the call out of an error: what the API server said."""
    return str(error).partition(": ")[2]


# --- tests ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifests(shared_data: Path, user: User) -> list[Manifest]:
    """The manifests of kinds that this API server knows."""
    return list(read_manifests(shared_data / "manifests", user.api))


@pytest.fixture
def provided(user: User, manifests: list[Manifest]) -> Iterator[Callable[[str], None]]:
    """Provide what the manifests name; what is not of a namespace is deleted after the test."""
    made: list[tuple[Resource, str]] = []
    yield lambda namespace: made.extend(provide(user.api, manifests, namespace))
    for resource, name in made:
        user.api.delete(resource, name)


@pytest.mark.parametrize("name", ["general", "gpu-inference", "whole-sandbox"])
@pytest.mark.usefixtures("catalogs")
def test_each_pod_gets_what_was_printed_for_its_manifest(
    name: str,
    user: User,
    manifests: list[Manifest],
    provided: Callable[[str], None],
    namespace: Callable[..., str],
    tmp_path: Path,
) -> None:
    """With a default class, which reaches every pod but those of DaemonSets and those that name their node."""
    namespaces = {bare: namespace(default_class=name) for bare in (True, False)}
    for made in namespaces.values():
        provided(made)
    labels = {"podsla.io/default-class": name}
    printed = offline(user, manifests, labels, tmp_path)
    real = outcome(user, manifests, namespaces)
    assert len(manifests) >= LEAST
    assert real.pods.keys() | real.refusals.keys() == {m.name for m in manifests}
    for manifest in manifests:
        if manifest.name in real.pods:
            assert manifest.name not in printed.refusals, (manifest.file, printed.refusals[manifest.name])
            assert_as_printed(user.api, manifest, real.pods[manifest.name], printed.documents[manifest.name])
        else:
            why = refused_without_us(user.api, manifest, namespaces[manifest.kind == "Pod"])
            assert real.refusals[manifest.name] == (why or DENIED + printed.refusals[manifest.name]), manifest.file
    assert sum(SIZE in (pod["metadata"].get("labels") or {}) for pod in real.pods.values()) >= 40


def assert_as_printed(api: Api, manifest: Manifest, pod: Object, document: Mapping[str, Any]) -> None:
    """
    Compare a stored pod with the printed one in every field that podsla writes.

    A record's input is the pod as the API server sent it, with its defaults; the printed one has the manifest's words.
    The controller of a DaemonSet pins and tolerates by itself.
    """
    stored, expected = fields_we_write(pod), fields_we_write(as_stored(api, manifest, document))
    if manifest.kind == "DaemonSet":
        assert (stored["size"], stored["record"]) == (None, None)
        for key in ("affinity", "tolerations"):
            del stored[key], expected[key]
    assert stored == expected, manifest.file
    if stored["record"]:
        sent = read_pod(as_stored(api, manifest, manifest.document))
        record = json.loads(pod["metadata"]["annotations"][RECORD])
        assert record["input"] == json.loads(json.dumps(dump_subject(sent))), manifest.file

"""Catalogues are edited while pods run on what they promised: nothing is taken from a pod that runs."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from catalog.keys import INSTANCE_TYPE, MERGED, RECORD, REVISION
from catalog.load import DEFAULT_TARGET, SHIPPED_CATALOG, load_catalog, load_target
from catalog.stored import KEPT
from kube.api import Object
from kube.kinds import CONTROLLER_REVISIONS, NODES, PODS, SPEC_CATALOGS
from tests.builders import container, pod
from tests.cluster.nodes import nodes
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

NODE: Final = "lab-0"
PPS, MHZ = "podsla.io/pps", "podsla.io/base-mhz"
SMALL: Final = container(requests={"cpu": "100m", "memory": "64Mi"})


def lab(pps: str, mhz: int, *classes: str, floor: str = "300k") -> dict[str, Any]:
    """A catalogue of one size, that these tests alone have nodes of."""
    size = {"name": "lab.p1.large", "vcpu": "8", "memory": "16Gi", "cpu": {"baseMHz": mhz}, "network": {"pps": pps}}
    made = [
        {"name": name, "floor": {"network": {"pps": floor}}, "reserve": "ask", "sizes": {"names": ["lab.p1.large"]}}
        for name in classes
    ]
    fields = {"sizes": [size], "classes": made}
    return {
        "apiVersion": "podsla.io/v1beta1",
        "kind": "SpecCatalog",
        "metadata": {"name": "lab"},
        "spec": {key: value for key, value in fields.items() if value},
    }


def publish(user: User, catalog: Object, reason: str = "Accepted") -> Object:
    """Apply a catalogue, and wait for the controller's word on this very edit."""
    done = user.apply(catalog)
    assert done.returncode == 0, done.stderr
    return eventually(lambda: judged(user, reason), f"the catalogue is {reason}")


def judged(user: User, reason: str) -> Object:
    """The catalogue, if that is what became of its newest edit."""
    thing = user.api.get(SPEC_CATALOGS, "lab")
    assert thing is not None
    condition = condition_of(thing, "Accepted")
    assert (condition["reason"], condition["observedGeneration"]) == (reason, thing["metadata"]["generation"])
    return thing


def condition_of(thing: Object, kind: str) -> Object:
    (one,) = [c for c in thing["status"]["conditions"] if c["type"] == kind] or [{"status": "", "reason": ""}]
    return dict(one)


def node_says(user: User) -> tuple[str | None, str | None]:
    """The packets/s and the base clock that the node publishes."""
    node = user.api.get(NODES, NODE)
    assert node is not None
    figures = [node["status"][group].get(PPS) for group in ("capacity", "allocatable")]
    assert figures[0] == figures[1]
    return figures[0], node["metadata"]["labels"].get(MHZ)


@pytest.fixture
def lab_node(user: User, scratch_catalog: Callable[[str], None]) -> Iterator[None]:
    """A node of the catalogue's size, which is left to no other test."""
    scratch_catalog("lab")
    (thing,) = nodes(1, load_catalog([SHIPPED_CATALOG]), load_target(DEFAULT_TARGET))
    labels = {**thing["metadata"]["labels"], INSTANCE_TYPE: "lab.p1.large", "kubernetes.io/hostname": NODE}
    user.api.create(NODES, {**thing, "metadata": {**thing["metadata"], "name": NODE, "labels": labels}})
    yield
    user.api.delete(NODES, NODE)


def create(user: User, namespace: str, name: str, sla_class: str) -> Object:
    """Create a pod of a class, which is served a moment after it was accepted, and wait until it runs."""
    body = pod(sla_class, containers=[SMALL], metadata={"name": name, "namespace": namespace})

    def created() -> Object:
        done = user.apply(body)
        assert done.returncode == 0, done.stderr
        return found(user, namespace, name)

    eventually(created, f"class {sla_class} is served")
    return eventually(lambda: running(user, namespace, name), f"pod {name} runs")


def found(user: User, namespace: str, name: str) -> Object:
    thing = user.api.get(PODS, name, namespace)
    assert thing is not None, f"pod {name} is gone"
    return thing


def running(user: User, namespace: str, name: str) -> Object:
    thing = found(user, namespace, name)
    assert thing["status"]["phase"] == "Running"
    return thing


@pytest.mark.usefixtures("lab_node")
def test_a_lowered_figure_and_a_changed_label_wait_for_the_pods_that_were_promised_them(
    user: User, namespace: Callable[..., str]
) -> None:
    made = namespace()
    publish(user, lab("1M", 3000, "lab-net", floor="600k"))
    eventually(lambda: node_says(user) == ("950k", "3000"), "the node publishes its figures")
    first = create(user, made, "first", "lab-net")
    assert first["spec"]["nodeName"] == NODE

    publish(user, lab("500k", 2000, "lab-net"))  # the new floor, 300k, fits the new figure
    eventually(lambda: node_says(user) == ("600k", "2000"), "the node publishes what the pod was promised, and no more")
    thing = eventually(lambda: followed(user, "False"), "the status says what is held")
    assert condition_of(thing, "Followed")["message"] == (
        "1 node publishes more than offered, for pods that are bound there and need it: "
        "lab-0 has podsla.io/pps 600k, 475k is offered"
    )
    assert (thing["status"]["pods"], thing["status"]["usage"]) == (
        1,
        [{"class": "lab-net", "pods": 1, "misfits": 1}],
    )
    top_and_doctor_say_what_is_held(user)
    second = pod("lab-net", containers=[SMALL], metadata={"name": "second", "namespace": made})
    assert user.apply(second).returncode == 0
    why = eventually(lambda: refused(user, made, "second"), "the scheduler counts what is held as taken")
    assert "Insufficient podsla.io/pps" in why

    user.api.delete(PODS, "first", made)
    eventually(lambda: node_says(user) == ("475k", "2000"), "the last figure is followed")
    eventually(lambda: running(user, made, "second"), "the next pod has its room")
    eventually(lambda: followed(user, "True"), "the status says that nothing is held")


def top_and_doctor_say_what_is_held(user: User) -> None:
    """A mark at that node and at no other; the doctor takes it for what it is, and for no node that is behind."""
    rows = json.loads(user.podsla("top", "-o", "json").stdout)
    assert [(row["node"], row["overPromised"]) for row in rows if row["overPromised"]] == [(NODE, [PPS])]
    (marked,) = [line for line in user.podsla("top").stdout.splitlines() if "!" in line]
    assert (marked.split()[0], "600k/600k !" in marked) == (NODE, True)
    findings = json.loads(user.podsla("doctor", "-o", "json").stdout)
    told = {(one["reason"], one["subject"]) for one in findings if NODE in one["message"] or "lab" in one["subject"]}
    assert ("NodesHeld", "SpecCatalog/lab") in told
    assert "NodeNotPublished" not in {reason for reason, _ in told}


def followed(user: User, status: str) -> Object:
    thing = user.api.get(SPEC_CATALOGS, "lab")
    assert thing is not None
    assert condition_of(thing, "Followed")["status"] == status
    return thing


def refused(user: User, namespace: str, name: str) -> str:
    """What the scheduler said of a pod that it cannot place."""
    conditions = found(user, namespace, name)["status"]["conditions"]
    return "".join(c["message"] for c in conditions if c.get("reason") == "Unschedulable")


@pytest.mark.usefixtures("lab_node")
def test_a_class_goes_when_its_last_pod_has_gone(user: User, namespace: Callable[..., str]) -> None:
    made = namespace()
    publish(user, lab("1M", 3000, "lab-net", "lab-old"))
    create(user, made, "old", "lab-old")

    eventually(lambda: publish(user, lab("1M", 3000, "lab-net"), "ClassInUse"), "the edit is refused")
    thing = judged(user, "ClassInUse")
    assert condition_of(thing, "Accepted")["message"].startswith(
        "spec.classes: class 'lab-old' is gone, and 1 pod runs in it; "
        "mark it `deprecated` first, or annotate the catalogue podsla.io/allow-removal: lab-old; sha256:"
    )
    create(user, made, "another", "lab-old")

    def recounted() -> bool:
        return "2 pods run in it" in condition_of(judged(user, "ClassInUse"), "Accepted")["message"]

    eventually(recounted, "the sentence counts the next one")
    for name in ("old", "another"):
        user.api.delete(PODS, name, made)
    eventually(lambda: judged(user, "Accepted"), "the same edit is accepted")
    late = pod("lab-old", containers=[SMALL], metadata={"name": "late", "namespace": made})
    eventually(lambda: "UnknownClass" in user.apply(late, "--dry-run=server").stderr, "nobody gets it any more")


@pytest.mark.usefixtures("lab_node")
def test_an_annotation_lets_a_class_go_while_its_pods_run(user: User, namespace: Callable[..., str]) -> None:
    made = namespace()
    publish(user, lab("1M", 3000, "lab-net", "lab-old"))
    old = create(user, made, "old", "lab-old")
    eventually(lambda: publish(user, lab("1M", 3000, "lab-net"), "ClassInUse"), "the edit is refused")
    generation = judged(user, "ClassInUse")["metadata"]["generation"]

    assert user.kubectl("annotate", "speccatalog/lab", "podsla.io/allow-removal=lab-old").returncode == 0

    thing = eventually(lambda: judged(user, "Accepted"), "the edit is accepted")
    assert thing["metadata"]["generation"] == generation, "an annotation is no edit of the spec"
    now = running(user, made, "old")
    assert now["metadata"]["uid"] == old["metadata"]["uid"]
    late = pod("lab-old", containers=[SMALL], metadata={"name": "late", "namespace": made})
    eventually(lambda: "UnknownClass" in user.apply(late, "--dry-run=server").stderr, "nobody gets it any more")


@pytest.mark.usefixtures("lab_node")
def test_what_a_record_names_is_kept_while_its_pod_runs(user: User, namespace: Callable[..., str]) -> None:
    made = namespace()
    publish(user, lab("1M", 3000, "lab-net"))
    thing = create(user, made, "first", "lab-net")
    named = json.loads(thing["metadata"]["annotations"][RECORD])["revision"]

    for mhz in range(3001, 3001 + KEPT + 2):
        publish(user, lab("1M", mhz, "lab-net"))
        eventually(lambda mhz=mhz: lab_kept(user, mhz), "the edit is kept")  # type: ignore[misc]

    assert lab_kept(user, 3000)
    assert named in merged_revisions(user)
    user.api.delete(PODS, "first", made)
    publish(user, lab("1M", 4000, "lab-net"))
    eventually(lambda: not lab_kept(user, 3000), "what nobody names goes")


@pytest.mark.usefixtures("lab_node")
def test_a_record_of_an_earlier_revision_is_believed(user: User, namespace: Callable[..., str]) -> None:
    """As where a manifest is restored from a backup: what we wrote then does not count as the pod's own wish."""
    made = namespace()
    publish(user, lab("1M", 3000, "lab-net", floor="600k"))
    first = create(user, made, "first", "lab-net")
    publish(user, lab("1M", 3000, "lab-net", floor="400k"))
    copy = restored(first, "copy")

    def sized_anew() -> Object:
        done = user.apply(copy, "--dry-run=server", "-o=json")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        thing: Object = json.loads(done.stdout)
        assert reserved(thing) == "400k"
        return thing

    assert reserved(first) == "600k"
    eventually(sized_anew, "the copy gets what a new pod gets")


def restored(thing: Object, name: str) -> dict[str, Any]:
    """A pod as a backup tool creates it again: all but what the API server and the scheduler filled in."""
    metadata = {key: thing["metadata"][key] for key in ("namespace", "labels", "annotations")}
    spec = {key: value for key, value in thing["spec"].items() if key not in ("nodeName", "volumes")}
    containers = [{k: v for k, v in c.items() if k != "volumeMounts"} for c in spec["containers"]]
    head = {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "name": name}}
    return {**head, "spec": {**spec, "containers": containers}}


def reserved(thing: Object) -> str:
    """The packets/s that a pod reserves."""
    return str(thing["spec"]["containers"][0]["resources"]["requests"][PPS])


def lab_kept(user: User, mhz: int) -> bool:
    """Whether the accepted spec with this base clock is still kept."""
    kept = user.api.list(CONTROLLER_REVISIONS, "podsla-system", labelSelector="podsla.io/catalog=lab")
    return mhz in {one["data"]["spec"]["sizes"][0]["cpu"]["baseMHz"] for one in kept}


def merged_revisions(user: User) -> set[str]:
    kept = user.api.list(CONTROLLER_REVISIONS, "podsla-system", labelSelector=MERGED)
    return {one["metadata"]["annotations"][REVISION] for one in kept}

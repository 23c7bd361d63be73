"""
What is kept ready is one attachment's, or given back, and never both, whoever leads and however old what it knows is.

The controller's own code runs over a store of objects in memory, which judges versions as the API server does; one GPU
never open to two pods is the model's to find out, since nothing here is seen as it is now but by chance.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from itertools import count
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from attach.api import Attachment, Condition, Type, merge_conditions, parse_attachment
from catalog.keys import PLACEHOLDER, WARM
from controller.attachments import Attachments
from controller.metrics import Metrics
from controller.serving import Serving
from controller.warm import Warm
from controller.world import World
from kube.api import Api, ApiError
from tests.attach.test_api import NOW

NODE: Final = "n1"
GPUS: Final = 2
QUOTA: Final = 2
PODS: Final = ("a", "b", "c")
Object = dict[str, Any]


def merged(old: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return deepcopy(patch)
    found = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


class Died(BaseException):
    """Stands for the controller's process dying: nothing may catch it."""


class Store(Api):
    """Objects by path, and what the API server does with them."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.numbers, self.may_write = count(1), lambda: True
        self.before_patch: Callable[[str], None] = lambda _: None
        self.lives_for: int | None = None  # writes, after the last of which the process dies

    def call(self, method: str, path: str, query: Any = None, body: Any = None, *_: Any, **__: Any) -> Object:
        """Answer as the API server does."""
        answer = self._answer(method, path.removesuffix("/status"), body)
        if method != "GET" and not path.endswith("/events") and self.lives_for is not None:
            self.lives_for -= 1
            if not self.lives_for:
                raise Died
        return answer

    def _answer(self, method: str, path: str, body: Any) -> Object:
        if method == "PATCH":
            self.before_patch(path)
        if method == "POST":
            return self._create(path, body)
        if path not in self.objects:
            raise ApiError(path, 404, "NotFound", "not found")
        found = self.objects[path]
        if method == "GET":
            return deepcopy(found)
        wanted = body.get("preconditions", {}) if method == "DELETE" else body.get("metadata", {})
        known = found["metadata"]
        if any(key in wanted and wanted[key] != known[key] for key in ("uid", "resourceVersion")):
            raise ApiError(path, 409, "Conflict", "the object has been modified")
        if method == "DELETE":
            del self.objects[path]
            return {}
        return self._write(path, merged(found, body))

    def _create(self, path: str, body: Any) -> Object:
        made = deepcopy(dict(body))
        metadata = made["metadata"] = {"uid": f"u{next(self.numbers)}", "generation": 1, **made["metadata"]}
        if path.endswith("/events"):
            return made
        path = f"{path}/{metadata['name']}"
        if path in self.objects:
            raise ApiError(path, 409, "AlreadyExists", "already exists")
        if PLACEHOLDER in metadata.get("labels", {}):
            held = sum(gpus(pod) for pod in self.placeholders() if not ended(pod))
            if held + gpus(made) > QUOTA:
                raise ApiError(path, 403, "Forbidden", "exceeded quota: gpus")
            made["status"] = {"phase": "Pending"}
        return self._write(path, made)

    def _write(self, path: str, thing: Object) -> Object:
        thing["metadata"]["resourceVersion"] = str(next(self.numbers))
        if "deletionTimestamp" in thing["metadata"] and not thing["metadata"].get("finalizers"):
            self.objects.pop(path, None)
        else:
            self.objects[path] = thing
        return deepcopy(thing)

    def under(self, part: str) -> list[Object]:
        """List a collection."""
        return [deepcopy(thing) for path, thing in sorted(self.objects.items()) if f"/{part}/" in path]

    def placeholders(self) -> list[Object]:
        """List pods that reserve."""
        return [pod for pod in self.under("pods") if PLACEHOLDER in pod["metadata"].get("labels", {})]

    def attachments(self) -> list[Attachment]:
        """List attachments."""
        return [parse_attachment(thing) for thing in self.under("gpuattachments")]


def gpus(pod: Object) -> int:
    requests = pod["spec"]["containers"][0]["resources"]["requests"]
    return int(requests.get("nvidia.com/gpu", 0))


def ended(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


class Watch:
    """What a watch has shown up to some moment."""

    def __init__(self, things: Iterable[Object] = ()) -> None:
        self.things = list(things)

    def items(self) -> list[Object]:
        """List what was seen."""
        return self.things

    def get(self, name: str, namespace: str = "") -> Object | None:
        """Find one that was seen."""
        every = (thing for thing in self.things if thing["metadata"]["name"] == name)
        return next((thing for thing in every if thing["metadata"].get("namespace", "") == namespace), None)


class Leader:
    """A controller; it knows what was when it looked last."""

    def __init__(self, store: Store) -> None:
        self.store = store
        node = {"metadata": {"name": NODE, "labels": {}}, "status": {"capacity": {"nvidia.com/gpu": str(GPUS)}}}
        bound = [SimpleNamespace(pod=f"team/{name}", node=NODE, figures={"podsla.io/gpu-seats": 1}) for name in PODS]
        self.world = SimpleNamespace(
            api=store, namespace="podsla-system", nodes=Watch([node]), ledger=Watch(), catalogs=Watch(),
            targets=Watch(), revisions=Watch(), runtime_classes=Watch(), bound=lambda: bound,
        )  # fmt: skip
        self.look()
        world, metrics = cast(World, self.world), Metrics(lambda: True)
        serving = Serving(world)
        self.attachments = Attachments(world, metrics, serving)
        self.warm = Warm(world, metrics, serving, self.attachments)

    def look(self) -> None:
        """See everything as it is."""
        self.world.attachments = Watch(self.store.under("gpuattachments"))
        self.world.placeholders = Watch(self.store.placeholders())
        self.world.namespaces = Watch(self.store.under("namespaces"))


class Handing(RuleBasedStateMachine):
    """Two controllers that both believe to lead, a scheduler, an agent, and people."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        for name in PODS:
            spec = {"nodeName": NODE, "containers": [{"name": "c", "resources": {"requests": {}}}]}
            self._put("pods", name, apiVersion="v1", kind="Pod", spec=spec, status={"phase": "Running"})
        self.store.objects["/api/v1/namespaces/team"] = {"metadata": {"name": "team", "labels": {}}}
        self.leaders = [Leader(self.store), Leader(self.store)]
        self.open: dict[str, str] = {}  # UID of an attachment → UID of the pod by which it has a GPU
        self.names = count(1)

    def _put(self, plural: str, name: str, **fields: Any) -> None:
        group = "/api/v1" if plural == "pods" else "/apis/podsla.io/v1beta1"
        self.store._create(
            f"{group}/namespaces/team/{plural}", {"metadata": {"name": name, "namespace": "team"}, **fields}
        )

    @rule(text=st.sampled_from(["0", "1", "2"]))
    def ask_to_keep(self, text: str) -> None:
        labels = {"metadata": {"labels": {"podsla.io/warm-gpus": text}}}
        self.store.objects["/api/v1/namespaces/team"] = merged(self.store.objects["/api/v1/namespaces/team"], labels)

    @precondition(lambda self: len(self.store.attachments()) < 5)
    @rule(pod=st.sampled_from(PODS), wants=st.integers(1, 2))
    def ask(self, pod: str, wants: int) -> None:
        head = {"apiVersion": "podsla.io/v1beta1", "kind": "GPUAttachment"}
        body = {"spec": {"podName": pod, "count": wants}, "status": {}, **head}
        self._put("gpuattachments", f"ask-{next(self.names)}", **body)
        path = next(reversed(self.store.objects))
        self.store.objects[path]["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"

    @rule(which=st.integers(0, 4))
    def release(self, which: int) -> None:
        things = self.store.under("gpuattachments")
        if which < len(things):
            path = f"/apis/podsla.io/v1beta1/namespaces/team/gpuattachments/{things[which]['metadata']['name']}"
            self.store.call("PATCH", path, body={"spec": {"release": True}})

    @rule(which=st.integers(0, 1), looks=st.booleans())
    def reconcile(self, which: int, looks: bool) -> None:
        leader = self.leaders[which]
        if looks:
            leader.look()
        for step in (leader.attachments.reconcile, leader.warm.reconcile):
            try:
                step()
            except ApiError as error:
                if error.status != 409:  # what another wrote in between is looked at again
                    raise

    @rule(which=st.integers(0, 1))
    def look(self, which: int) -> None:
        self.leaders[which].look()

    @rule()
    def schedule(self) -> None:
        free = GPUS - sum(
            gpus(pod) for pod in self.store.placeholders() if pod["spec"].get("nodeName") and not ended(pod)
        )
        for pod in self.store.placeholders():
            if not pod["spec"].get("nodeName") and gpus(pod) <= free:
                free -= gpus(pod)
                said = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}
                self._edit(pod, {"spec": {"nodeName": NODE}, "status": {"phase": "Running", "conditions": [said]}})

    @rule()
    def attach_and_take_back(self) -> None:
        """The agent: label and UID say whose a pod is; it ends the pod once access has ended, and says so then."""
        pods = {pod["metadata"]["name"]: pod for pod in self.store.placeholders()}
        for one in self.store.attachments():
            pod = pods.get(one.reserving)
            intent = one.status.placeholder
            if one.is_finished or intent is None or pod is None or pod["metadata"]["uid"] != intent.uid:
                continue
            if pod["metadata"]["labels"][PLACEHOLDER] != one.uid or not pod["spec"].get("nodeName"):
                continue
            if one.spec.release:
                self.open.pop(one.uid, None)
                self._edit(pod, {"status": {"phase": "Succeeded"}})
                self._say(one, Condition(Type.RELEASED, True, "Released", ""))
            elif one.uid not in self.open:
                self.open[one.uid] = intent.uid
                self._say(one, Condition(Type.ATTACHED, True, "Attached", ""))

    def _edit(self, pod: Object, body: Mapping[str, Any]) -> None:
        self.store.call("PATCH", f"/api/v1/namespaces/team/pods/{pod['metadata']['name']}", body=body)

    def _say(self, one: Attachment, condition: Condition) -> None:
        conditions = merge_conditions(one.status.conditions, [condition], 1, NOW)
        path = f"/apis/podsla.io/v1beta1/namespaces/team/gpuattachments/{one.name}"
        self.store.call("PATCH", path, body={"status": {"conditions": json.loads(json.dumps(conditions))}})

    @invariant()
    def what_is_open_is_reserved_for_it_alone(self) -> None:
        pods = {pod["metadata"]["uid"]: pod for pod in self.store.placeholders()}
        assert len(set(self.open.values())) == len(self.open), "one pod's GPU is open to two"
        for uid, reserved in self.open.items():
            assert reserved in pods, "a GPU is open, and nothing reserves it"
            assert pods[reserved]["metadata"]["labels"][PLACEHOLDER] == uid
            assert not ended(pods[reserved])

    @invariant()
    def nothing_is_held_beyond_quota(self) -> None:
        assert sum(gpus(pod) for pod in self.store.placeholders() if not ended(pod)) <= QUOTA

    def teardown(self) -> None:
        """One controller goes on alone: everything is released, and nothing that was kept ready is left."""
        self.ask_to_keep("0")
        leader = self.leaders[0]
        for _ in range(8):
            for which in range(len(self.store.under("gpuattachments"))):
                self.release(which)
            self.reconcile(0, looks=True)
            self.schedule()
            self.attach_and_take_back()
            missing = leader.attachments._missing_since_s  # a placeholder whose deletion nobody could note waits 15 s
            missing.update(dict.fromkeys(missing, float("-inf")))
        leader.look()
        assert [pod for pod in self.store.placeholders() if pod["metadata"]["labels"][PLACEHOLDER] == WARM] == []
        assert self.open == {}
        assert all(one.is_finished for one in self.store.attachments())


Handing.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestHanding = Handing.TestCase


def one_ready() -> Handing:
    """A namespace whose one GPU that it keeps ready is there."""
    world = Handing()
    world.ask_to_keep("1")
    world.reconcile(0, looks=True)
    world.schedule()
    return world


def test_what_is_kept_ready_is_handed_over_in_one_round() -> None:
    """Cold, a scheduler is in between; here the pod that was there is the attachment's after one look."""
    world = one_ready()
    (kept,) = world.store.placeholders()
    assert kept["metadata"]["labels"][PLACEHOLDER] == WARM

    world.ask("a", 1)
    world.reconcile(0, looks=True)

    (one,) = world.store.attachments()
    assert one.status.placeholder is not None
    assert one.status.placeholder.uid == kept["metadata"]["uid"]
    world.attach_and_take_back()
    assert world.open == {one.uid: kept["metadata"]["uid"]}


def test_nothing_is_asked_and_nothing_told_before_what_is_ready_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is a part of the way from asking to access."""
    world = one_ready()
    (kept,) = world.store.placeholders()
    world.ask("a", 1)
    calls, answer = list[tuple[str, str, Any]](), world.store.call

    def call(method: str, path: str, query: Any = None, body: Any = None, *_: Any, **__: Any) -> Object:
        calls.append((method, path.partition("/team/")[2], (body or {}).get("status")))
        return answer(method, path, query, body)

    monkeypatch.setattr(world.store, "call", call)
    world.reconcile(0, looks=True)

    name, uid = kept["metadata"]["name"], kept["metadata"]["uid"]
    assert calls[:5] == [
        ("GET", "pods/a", None),
        ("PATCH", "gpuattachments/ask-1", None),
        ("PATCH", "gpuattachments/ask-1/status", {**settled(world), "placeholder": {"name": name}}),
        ("PATCH", f"pods/{name}", None),
        ("PATCH", "gpuattachments/ask-1/status", {"placeholder": {"name": name, "uid": uid}}),
    ]


def settled(world: Handing) -> Object:
    """Write for whom the attachment is, as its status says it."""
    (one,) = world.store.attachments()
    return {"podUID": one.status.pod_uid, "container": "c", "node": NODE}


def test_who_is_slower_takes_nothing_from_who_was_faster() -> None:
    """Another has it between the look at the pod and the write on it."""
    world = one_ready()
    world.ask("a", 1)
    (kept,) = world.store.placeholders()

    def other(path: str) -> None:
        if path.endswith(kept["metadata"]["name"]):
            world.store.before_patch = lambda _: None
            world._edit(kept, {"metadata": {"labels": {PLACEHOLDER: "another"}}})

    world.store.before_patch = other
    world.reconcile(0, looks=True)

    pods = {pod["metadata"]["name"]: pod["metadata"]["labels"][PLACEHOLDER] for pod in world.store.placeholders()}
    (one,) = world.store.attachments()
    assert pods[kept["metadata"]["name"]] == "another"
    assert one.reserving != kept["metadata"]["name"]
    assert pods[one.reserving] == one.uid, "it is reserved for as if nothing had been kept ready"


def test_a_leader_that_wakes_up_gives_back_nothing_that_was_handed_over_since() -> None:
    world = one_ready()
    world.ask_to_keep("0")
    world.look(1)
    world.ask("a", 1)
    world.reconcile(0, looks=True)
    world.attach_and_take_back()
    assert len(world.open) == 1

    world.reconcile(1, looks=False)

    world.what_is_open_is_reserved_for_it_alone()


@pytest.mark.parametrize(
    "writes", range(1, 9)
)  # claimed, chosen, handed over, its UID, Scheduled; and what comes after
def test_whoever_comes_next_goes_on_wherever_a_controller_died(writes: int) -> None:
    """In the middle of handing over, of giving back and of making anew."""
    world = one_ready()
    (kept,) = world.store.placeholders()
    world.ask("a", 1)
    world.ask("b", 1)
    world.store.lives_for = writes
    with suppress(Died):
        world.reconcile(0, looks=True)
    world.store.lives_for = None
    world.what_is_open_is_reserved_for_it_alone()

    world.leaders[0] = Leader(world.store)
    for _ in range(3):
        world.reconcile(0, looks=True)
        world.schedule()
        world.attach_and_take_back()

    names = sorted(one.reserving for one in world.store.attachments())
    assert kept["metadata"]["name"] in names, "what was ready went to one of the two"
    assert len(world.open) == 2
    assert len(world.store.placeholders()) == 2
    world.what_is_open_is_reserved_for_it_alone()
    world.teardown()

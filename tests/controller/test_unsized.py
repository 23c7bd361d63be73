"""Pods that were created without podsla: each is told of once, and they are looked for now and then."""

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from prometheus_client import generate_latest

from controller.metrics import Metrics
from controller.unsized import CLOSED_S, OPEN_S, TOLD_AT_ONCE, UnsizedPods
from kube.api import Object
from kube.kinds import EVENTS, PODS


class Site:
    """A cluster with pods, and what a controller makes of them."""

    def __init__(self, policy: str) -> None:
        self.now_s, self.pods, self.events, self.lists = 0.0, list[Object](), list[Object](), 0
        hook = {"name": "pods.podsla.io", "failurePolicy": policy}
        own = {"name": "templates.podsla.io", "failurePolicy": "Ignore"}  # it never holds up a workload
        self.hooks = [SimpleNamespace(items=lambda: [{"webhooks": [hook, own]}])]
        world: Any = SimpleNamespace(api=self, webhooks=self.hooks)
        self.metrics = Metrics(lambda: True)
        self.unsized = UnsizedPods(world, self.metrics, lambda: self.now_s)

    def list_metadata(self, resource: object, **_: str) -> Iterator[Object]:
        assert resource == PODS
        self.lists += 1
        return iter(self.pods)

    def create(self, resource: object, body: Object, namespace: str) -> None:
        assert (resource, namespace) == (EVENTS, "shop")
        self.events.append(body)

    def told(self) -> Counter[str]:
        return Counter(event["regarding"]["uid"] for event in self.events)


def pod(number: int) -> Object:
    annotations = {"podsla.io/class": "net"}
    return {"metadata": {"namespace": "shop", "name": f"web-{number}", "uid": f"u{number}", "annotations": annotations}}


def test_each_is_told_of_once_and_counted_until_it_is_gone() -> None:
    site = Site("Ignore")
    site.pods = [pod(1), pod(2)]
    assert site.unsized.reconcile()
    assert site.unsized.reconcile()
    site.pods = [pod(2), pod(3)]
    site.now_s = OPEN_S
    assert site.unsized.reconcile()

    assert site.told() == {"u1": 1, "u2": 1, "u3": 1}
    assert [one.pod for one in site.unsized.found] == ["shop/web-2", "shop/web-3"]
    assert b"podsla_pods_not_sized 2.0" in generate_latest(site.metrics.registry)
    (event,) = (event for event in site.events if event["regarding"]["uid"] == "u3")
    assert (event["regarding"]["kind"], event["regarding"]["name"], event["reason"]) == ("Pod", "web-3", "PodNotSized")


def test_many_are_told_of_in_several_rounds() -> None:
    site = Site("Ignore")
    site.pods = [pod(number) for number in range(2 * TOLD_AT_ONCE + 1)]

    assert [site.unsized.reconcile() for _ in range(3)] == [False, False, True]
    assert site.told().total() == len(site.told()) == len(site.pods)
    assert site.lists == 1


def test_they_are_looked_for_more_often_while_it_fails_open() -> None:
    often, seldom = Site("Ignore"), Site("Fail")
    for site in (often, seldom):
        for _ in range(int(CLOSED_S)):
            site.unsized.reconcile()
            site.now_s += 1.0
    assert (often.lists, seldom.lists) == (CLOSED_S / OPEN_S, 1)

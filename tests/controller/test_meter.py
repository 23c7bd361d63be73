"""GPU-seconds are counted by what GPUs were for, while this process leads."""

import json
from types import SimpleNamespace
from typing import Any, Final

import pytest

from attach.api import Attachment, Type
from controller.meter import MOST_S, Meter
from controller.metrics import Metrics
from nodes.bound import keep_promises, read_bound
from tests.attach.test_meter import said
from tests.attach.test_warm import thing as warm_placeholder
from tests.controller.test_handing_over import Watch

SEATS: Final = {"podsla.io/gpu-seats": "5"}
RECORD: Final = {"class": "infer", "revision": "sha256:1", "dimensions": {"gpu.count": {"kept": "1"}}}


def node(name: str, **allocatable: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"allocatable": allocatable}}


def sized(name: str, requests: dict[str, str]) -> dict[str, Any]:
    """A pod on n1 whose record speaks of one GPU."""
    metadata = {"namespace": "team-a", "name": name, "annotations": {"podsla.io/record": json.dumps(RECORD)}}
    containers = [{"name": "c", "resources": {"requests": requests}}]
    return {"metadata": metadata, "spec": {"nodeName": "n1", "containers": containers}}


class Site:
    """Two nodes of four GPUs, of which one has seats; a pod with a GPU for its life, and one with a seat."""

    def __init__(self) -> None:
        gpus, self.now_s, self.listed = {"nvidia.com/gpu": "4"}, 1000.0, list[Attachment]()
        pods = [sized("whole", {"nvidia.com/gpu": "1"}), sized("borrower", {"podsla.io/gpu-seats": "1"})]
        bound = tuple(read_bound(map(keep_promises, pods)))
        world: Any = SimpleNamespace(
            nodes=Watch([node("n1", **gpus, **SEATS), node("n2", **gpus)]),
            placeholders=Watch([warm_placeholder()]),
            bound=lambda: bound,
        )
        target = SimpleNamespace(gpu=SimpleNamespace(resource="nvidia.com/gpu"))
        serving: Any = SimpleNamespace(current=lambda: SimpleNamespace(target=target))
        attachments: Any = SimpleNamespace(all=lambda: tuple(self.listed))
        self.metrics = Metrics(lambda: True)
        self.meter = Meter(world, self.metrics, serving, attachments, lambda: self.now_s)

    def look_after(self, seconds: float) -> None:
        self.now_s += seconds
        self.meter.reconcile()

    def counted(self) -> dict[str, float]:
        """GPU-seconds by use."""
        return {sample.labels["use"]: sample.value for sample in self._samples("podsla_gpu_use_seconds")}

    def lent(self) -> list[tuple[str, ...]]:
        return [
            tuple(sample.labels[key] for key in ("node", "gpu", "namespace"))
            for sample in self._samples("podsla_gpu_lent")
        ]

    def _samples(self, name: str) -> list[Any]:
        found = [metric for metric in self.metrics.registry.collect() if metric.name == name]
        return [sample for metric in found for sample in metric.samples if not sample.name.endswith("_created")]


def test_what_was_seen_counts_for_the_time_until_the_next_look() -> None:
    site = Site()
    site.look_after(0)
    assert not any(site.counted().values()), "what was before is not known"
    site.listed = [said(Type.RESERVED, Type.ATTACHED)]
    site.look_after(10)
    assert site.counted() == {"lent": 0, "quarantined": 0, "ready": 10, "whole-life": 10, "idle": 20}
    assert site.lent() == [("n1", "GPU-1", "team-a")]
    site.listed = [said(Type.RELEASED)]
    site.look_after(5)
    assert site.counted() == {"lent": 5, "quarantined": 0, "ready": 15, "whole-life": 15, "idle": 25}
    assert site.lent() == []


def test_a_round_that_fails_counts_nothing_twice_and_a_long_pause_is_nobody_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the pause another may have led, and counted."""
    site = Site()
    site.listed = [said(Type.RESERVED, Type.ATTACHED)]
    site.look_after(0)
    with monkeypatch.context() as patch:
        patch.setattr(site.meter.serving, "current", lambda: 1 / 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                site.look_after(10)
    assert site.counted()["lent"] == 10
    site.look_after(10)
    site.look_after(1000)
    assert site.counted()["lent"] == 10 + MOST_S


def test_time_in_which_another_leads_is_not_counted() -> None:
    """Seen to fail where nothing is forgotten."""
    site = Site()
    site.listed = [said(Type.RESERVED, Type.ATTACHED)]
    site.look_after(0)
    site.meter.forget()
    assert site.lent() == [], "the one that leads says who has one"
    site.look_after(1000)
    assert not any(site.counted().values())
    site.look_after(1)
    assert site.counted() == {"lent": 1, "quarantined": 0, "ready": 1, "whole-life": 1, "idle": 1}

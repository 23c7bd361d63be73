"""A played kubelet gives devices as a real one does: to who is bound, one each, and anew once a pod is gone."""

from typing import Any, cast

from attach.reservation import PodDevices
from bench.cluster.played import PlayedKubelet
from kube.watch import Watched


class Listed:
    """Placeholders of a node."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}

    def items(self) -> tuple[dict[str, Any], ...]:
        return tuple(self.pods.values())

    def bind(self, uid: str, phase: str = "Pending") -> None:
        meta = {"name": f"pod-{uid}", "namespace": "team-a", "uid": uid}
        self.pods[uid] = {"metadata": meta, "status": {"phase": phase}}


def given(pods: tuple[PodDevices, ...]) -> dict[str, list[str]]:
    return {pod.name: [device.name for device in pod.devices] for pod in pods}


def test_each_has_one_and_what_is_given_back_is_given_again() -> None:
    listed = Listed()
    kubelet = PlayedKubelet(["g0", "g1"], cast("Watched", listed))
    for uid in ("a", "b", "c"):
        listed.bind(uid)
    first = given(kubelet.pods())
    assert first == {"pod-a": ["g0"], "pod-b": ["g1"]}
    assert given(kubelet.pods()) == first

    listed.bind("a", "Succeeded")
    assert given(kubelet.pods()) == {"pod-b": ["g1"], "pod-c": ["g0"]}
    del listed.pods["b"]
    assert given(kubelet.pods()) == {"pod-c": ["g0"]}

"""What the kubelet says of devices: the fake and a real gRPC server on a socket keep the same promises."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from attach.errors import Unknown
from attach.podresources import KubeletReservations
from attach.reservation import Device, PodDevices, Reservations, reserved
from tests.attach.fakes import FakeKubelet
from tests.attach.kubelet import kubelet

PLAIN: Final = PodDevices("team-a", "plain", (Device("nvidia.com/gpu", "GPU-1"), Device("nvidia.com/gpu", "GPU-2")))
DYNAMIC: Final = PodDevices("team-a", "dynamic", (Device("", "gpu-0", "gpu.example.com", "node-1"),))
BARE: Final = PodDevices("team-b", "plain", ())


Make = Callable[[tuple[PodDevices, ...]], Reservations]


@pytest.fixture(params=["fake", "real"])
def answering(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make what says that these pods have these devices."""
    if request.param == "fake":
        yield FakeKubelet
        return
    with ExitStack() as stack:

        def make(pods: tuple[PodDevices, ...]) -> Reservations:
            stack.enter_context(kubelet(tmp_path / "kubelet.sock", pods))
            return KubeletReservations(tmp_path / "kubelet.sock")

        yield make


def test_every_pod_is_told_with_its_devices(answering: Make) -> None:
    """By device plugins and dynamic ones; a pod without any is there too."""
    assert answering((PLAIN, DYNAMIC, BARE)).pods() == (PLAIN, DYNAMIC, BARE)


def test_a_kubelet_without_pods_says_so(answering: Make) -> None:
    """Which is an answer, unlike silence."""
    assert answering(()).pods() == ()


@pytest.mark.parametrize("which", ["fake", "real"])
def test_a_kubelet_that_is_away_is_unknown(which: str, tmp_path: Path) -> None:
    """Never taken for one that has given nothing away."""
    silent: Reservations = FakeKubelet(None) if which == "fake" else KubeletReservations(tmp_path / "none.sock")

    with pytest.raises(Unknown) as raised:
        silent.pods()

    assert raised.value.reason == "KubeletSilent"


def test_a_kubelet_that_comes_back_is_heard_again(tmp_path: Path) -> None:
    """It makes its socket anew, and the one who asks was there before."""
    asking = KubeletReservations(tmp_path / "kubelet.sock")
    with pytest.raises(Unknown):
        asking.pods()
    with kubelet(tmp_path / "kubelet.sock", (PLAIN,)):
        assert asking.pods() == (PLAIN,)


SLICE: Final = {
    "spec": {
        "driver": "gpu.example.com",
        "pool": {"name": "node-1"},
        "devices": [{"name": "gpu-0", "attributes": {"uuid": {"string": "GPU-9"}}}],
    }
}


@pytest.mark.parametrize(
    ("pod", "resource", "slices", "uuids"),
    [
        pytest.param(PLAIN, "nvidia.com/gpu", (), ("GPU-1", "GPU-2"), id="a device plugin's IDs are UUIDs"),
        pytest.param(PLAIN, "example.com/nic", (), (), id="devices of another resource are not meant"),
        pytest.param(DYNAMIC, "nvidia.com/gpu", (SLICE,), ("GPU-9",), id="a dynamic device is told by its slice"),
        pytest.param(DYNAMIC, "nvidia.com/gpu", (), ("gpu-0",), id="and by its own name where no slice tells"),
        pytest.param(BARE, "nvidia.com/gpu", (), (), id="a pod of another namespace has a name of its own"),
    ],
)
def test_reserved(pod: PodDevices, resource: str, slices: Any, uuids: tuple[str, ...]) -> None:
    assert reserved((PLAIN, DYNAMIC, BARE), pod.namespace, pod.name, resource, slices) == uuids

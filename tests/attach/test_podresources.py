"""What the kubelet says of devices: the fake and a real gRPC server on a socket keep the same promises."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from attach.errors import Unknown
from attach.podresources import KubeletReservations
from attach.reservation import Device, PodDevices, Reservations, reserved
from tests.attach.fakes import FakeKubelet

PLAIN: Final = PodDevices("team-a", "plain", (Device("nvidia.com/gpu", "GPU-1"), Device("nvidia.com/gpu", "GPU-2")))
DYNAMIC: Final = PodDevices("team-a", "dynamic", (Device("", "gpu-0", "gpu.example.com", "node-1"),))
BARE: Final = PodDevices("team-b", "plain", ())


def field(number: int, *contents: bytes) -> bytes:
    """Encode a length-delimited field, as the wire format of protobuf has it; contents stay below 16 KiB."""
    return b"".join(
        bytes([number << 3 | 2, *([len(c)] if len(c) < 128 else [len(c) & 127 | 128, len(c) >> 7])]) + c
        for c in contents
    )


def encode(pods: tuple[PodDevices, ...]) -> bytes:
    """Write a ListPodResourcesResponse by the numbers of the published .proto, with fields that nobody reads."""
    return field(1, *map(_pod, pods))


def _pod(pod: PodDevices) -> bytes:
    plain = [_container_devices(device) for device in pod.devices if device.resource]
    dynamic = [
        field(5, field(2, b"claim") + field(4, _claimed(device))) for device in pod.devices if not device.resource
    ]
    container = field(1, b"main") + b"".join([*plain, *dynamic]) + b"\x18\x07"  # cpu_ids: 7
    return field(1, pod.name.encode()) + field(2, pod.namespace.encode()) + field(3, container)


def _container_devices(device: Device) -> bytes:
    topology = field(3, field(1, b"\x08\x01"))
    return field(2, field(1, device.resource.encode()) + field(2, device.name.encode()) + topology)


def _claimed(device: Device) -> bytes:
    cdi = field(1, field(1, b"example.com/gpu=0"))
    return cdi + field(2, device.driver.encode()) + field(3, device.pool.encode()) + field(4, device.name.encode())


Make = Callable[[tuple[PodDevices, ...]], Reservations]


@pytest.fixture(params=["fake", "real"])
def answering(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make what says that these pods have these devices."""
    if request.param == "fake":
        yield FakeKubelet
        return
    server = grpc.server(ThreadPoolExecutor(1))

    def make(pods: tuple[PodDevices, ...]) -> Reservations:
        def answer(_request: bytes, _context: Any) -> bytes:
            return encode(pods)

        methods = {"List": grpc.unary_unary_rpc_method_handler(answer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1.PodResourcesLister", methods),))
        server.add_insecure_port(f"unix:{tmp_path}/kubelet.sock")
        server.start()
        return KubeletReservations(tmp_path / "kubelet.sock")

    yield make
    server.stop(None).wait()


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
    methods = {"List": grpc.unary_unary_rpc_method_handler(lambda _request, _context: encode((PLAIN,)))}
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1.PodResourcesLister", methods),))
    server.add_insecure_port(f"unix:{tmp_path}/kubelet.sock")
    server.start()

    assert asking.pods() == (PLAIN,)

    server.stop(None).wait()


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

"""A kubelet's pod-resources socket: a real gRPC server that answers by the numbers of the published .proto."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc

from attach.reservation import Device, PodDevices


@contextmanager
def kubelet(socket: Path, pods: tuple[PodDevices, ...]) -> Iterator[None]:
    """Say on a socket that these pods have these devices."""
    methods = {"List": grpc.unary_unary_rpc_method_handler(lambda _request, _context: encode(pods))}
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1.PodResourcesLister", methods),))
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()


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

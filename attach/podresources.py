"""EDGE: which devices the kubelet has given to which pod, from its pod-resources socket (v1)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from attach.errors import Unknown
from attach.reservation import Device, PodDevices
from kube.messages import make_messages

DEADLINE_S: Final = 2.0
_MAX_ANSWER: Final = 64 << 20
_METHOD: Final = "/v1.PodResourcesLister/List"

MESSAGES: Final = make_messages(
    "v1",
    {
        "ListPodResourcesRequest": {},
        "ListPodResourcesResponse": {"pod_resources": (1, "PodResources[]")},
        "PodResources": {
            "name": (1, "string"),
            "namespace": (2, "string"),
            "containers": (3, "ContainerResources[]"),
        },
        "ContainerResources": {
            "name": (1, "string"),
            "devices": (2, "ContainerDevices[]"),
            "dynamic_resources": (5, "DynamicResource[]"),
        },
        "ContainerDevices": {"resource_name": (1, "string"), "device_ids": (2, "string[]")},
        "DynamicResource": {"claim_resources": (4, "ClaimResource[]")},
        "ClaimResource": {"driver_name": (2, "string"), "pool_name": (3, "string"), "device_name": (4, "string")},
    },
)


class KubeletReservations:
    """
    The kubelet of this node.

    A connection of its own for each question: a kubelet that was restarted has made its socket anew.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def pods(self) -> tuple[PodDevices, ...]:
        """See the port."""
        import grpc  # 10 MiB, which an agent does without until a device is reserved on its node

        options = [("grpc.max_receive_message_length", _MAX_ANSWER), ("grpc.enable_http_proxy", 0)]
        try:
            with grpc.insecure_channel(f"unix:{self._socket}", options=options) as channel:
                ask = channel.unary_unary(
                    _METHOD,
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=MESSAGES["ListPodResourcesResponse"].FromString,
                )
                answer = ask(MESSAGES["ListPodResourcesRequest"](), timeout=DEADLINE_S)
        except grpc.RpcError as error:
            raise Unknown(
                "KubeletSilent", f"{self._socket}: the kubelet does not answer ({error.code().name})"
            ) from None
        return tuple(_pod(pod) for pod in answer.pod_resources)


def _pod(pod: Any) -> PodDevices:
    containers: Iterable[Any] = pod.containers
    plain = [
        Device(given.resource_name, device)
        for container in containers
        for given in container.devices
        for device in given.device_ids
    ]
    dynamic = [
        Device("", claimed.device_name, claimed.driver_name, claimed.pool_name)
        for container in containers
        for resource in container.dynamic_resources
        for claimed in resource.claim_resources
    ]
    return PodDevices(pod.namespace, pod.name, tuple(sorted({*plain, *dynamic})))

"""
EDGE: a device plugin for tests: the devices of an inventory file as `nvidia.com/gpu`, each by its UUID.

It runs in podsla's image on a node, as a real one does, and offers what the agent's inventory says: stand-in character
devices. A file beside its socket names devices that are unhealthy, one a line. It is one file, for it is mounted.
"""

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import grpc
import yaml

from kube.messages import make_messages

RESOURCE: Final = "nvidia.com/gpu"
FOLDER: Final = Path("/var/lib/kubelet/device-plugins")
SOCKET: Final = "podsla-test-gpu.sock"
UNHEALTHY: Final = "podsla-test-unhealthy"
LOOK_EVERY_S: Final = 0.5

MESSAGES: Final = make_messages(
    "v1beta1",
    {
        "Empty": {},
        "RegisterRequest": {"version": (1, "string"), "endpoint": (2, "string"), "resource_name": (3, "string")},
        "DevicePluginOptions": {"pre_start_required": (1, "bool")},
        "Device": {"ID": (1, "string"), "health": (2, "string")},
        "ListAndWatchResponse": {"devices": (1, "Device[]")},
        "ContainerAllocateRequest": {"devices_ids": (1, "string[]")},
        "AllocateRequest": {"container_requests": (1, "ContainerAllocateRequest[]")},
        "Variable": {"key": (1, "string"), "value": (2, "string")},  # what a map<string, string> is on the wire
        "ContainerAllocateResponse": {"envs": (1, "Variable[]")},
        "AllocateResponse": {"container_responses": (1, "ContainerAllocateResponse[]")},
    },
)


class DevicePlugin:
    """Offers devices to the kubelet of this node, also to one that was started anew."""

    def __init__(self, uuids: list[str], folder: Path = FOLDER) -> None:
        self._uuids, self._folder = uuids, folder
        self._stopped = threading.Event()

    def run(self) -> None:
        """Serve until `stop`; a kubelet that starts removes every socket here, and has to be told again."""
        while not self._stopped.is_set():
            server = self._serve()
            try:
                seen = self._kubelet()
                if seen is not None and self._register():
                    while self._kubelet() == seen and (self._folder / SOCKET).exists():
                        if self._stopped.wait(LOOK_EVERY_S):
                            break
            finally:
                server.stop(None).wait()
            self._stopped.wait(LOOK_EVERY_S)

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    def _kubelet(self) -> object:
        """Tell one kubelet's socket from the next one's."""
        with suppress(FileNotFoundError):
            found = (self._folder / "kubelet.sock").stat()
            return found.st_ino, found.st_ctime_ns
        return None

    def _serve(self) -> Any:
        (self._folder / SOCKET).unlink(missing_ok=True)
        server = grpc.server(ThreadPoolExecutor(8))
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler

        def reading(name: str) -> dict[str, Any]:
            return {
                "request_deserializer": MESSAGES[name].FromString,
                "response_serializer": lambda message: message.SerializeToString(),
            }

        methods = {
            "GetDevicePluginOptions": unary(
                lambda _request, _context: MESSAGES["DevicePluginOptions"](), **reading("Empty")
            ),
            "ListAndWatch": stream(self._list_and_watch, **reading("Empty")),
            "Allocate": unary(self._allocate, **reading("AllocateRequest")),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", methods),))
        server.add_insecure_port(f"unix:{self._folder / SOCKET}")
        server.start()
        return server

    def _register(self) -> bool:
        request = MESSAGES["RegisterRequest"](version="v1beta1", endpoint=SOCKET, resource_name=RESOURCE)
        with grpc.insecure_channel(f"unix:{self._folder}/kubelet.sock") as channel:
            ask = channel.unary_unary(
                "/v1beta1.Registration/Register", request_serializer=lambda message: message.SerializeToString()
            )
            try:
                ask(request, timeout=5.0)
            except grpc.RpcError as error:
                print(f"not registered: {error}", flush=True)
                return False
        print(f"registered {', '.join(self._uuids)}", flush=True)
        return True

    def _list_and_watch(self, _request: Any, context: Any) -> Iterator[Any]:
        """Tell all devices, and again whenever one changes its health."""
        told: list[tuple[str, str]] | None = None
        while context.is_active() and not self._stopped.is_set():
            now = [(uuid, "Unhealthy" if uuid in self._unhealthy() else "Healthy") for uuid in self._uuids]
            if now != told:
                devices = [MESSAGES["Device"](ID=uuid, health=health) for uuid, health in now]
                yield MESSAGES["ListAndWatchResponse"](devices=devices)
            told = now
            time.sleep(LOOK_EVERY_S)

    def _unhealthy(self) -> list[str]:
        with suppress(FileNotFoundError):
            return (self._folder / UNHEALTHY).read_text().split()
        return []

    def _allocate(self, request: Any, _context: Any) -> Any:
        """Answer as NVIDIA's does by default: which devices, by a variable that its runtime reads."""
        variable, container = MESSAGES["Variable"], MESSAGES["ContainerAllocateResponse"]
        answers = [
            container(envs=[variable(key="NVIDIA_VISIBLE_DEVICES", value=",".join(asked.devices_ids))])
            for asked in request.container_requests
        ]
        return MESSAGES["AllocateResponse"](container_responses=answers)


if __name__ == "__main__":
    DevicePlugin([gpu["uuid"] for gpu in yaml.safe_load(Path(sys.argv[1]).read_text())["gpus"]]).run()

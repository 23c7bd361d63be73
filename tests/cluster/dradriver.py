"""
EDGE: a DRA driver for tests: the one device of a node, of which a ResourceSlice and a DeviceClass say what it is.

It runs in podsla's image, registers with the kubelet as any such driver does, and prepares claims by naming the device.
It is one file, for it is mounted.

Kubernetes' own (test/e2e/dra/test-driver) is not used: run by itself it gives its devices names and no attributes, so
no ResourceSlice would say a device's UUID; it writes CDI files on the machine, and is in no image.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc

from kube.messages import make_messages

NAME: Final = "gpu.podsla.test"
DEVICE: Final = "gpu-0"
PLUGINS: Final = Path("/var/lib/kubelet/plugins")
REGISTRY: Final = Path("/var/lib/kubelet/plugins_registry")
_SERVICE: Final = "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"

REGISTRATION: Final = make_messages(
    "pluginregistration",
    {
        "InfoRequest": {},
        "PluginInfo": {
            "type": (1, "string"),
            "name": (2, "string"),
            "endpoint": (3, "string"),
            "supported_versions": (4, "string[]"),
        },
        "RegistrationStatus": {"plugin_registered": (1, "bool"), "error": (2, "string")},
        "RegistrationStatusResponse": {},
    },
)
MESSAGES: Final = make_messages(
    "v1",
    {
        "Claim": {"namespace": (1, "string"), "uid": (2, "string"), "name": (3, "string")},
        "Claims": {"claims": (1, "Claim[]")},  # what both calls ask
        "Device": {"pool_name": (2, "string"), "device_name": (3, "string")},
        "Answer": {"devices": (1, "Device[]")},
        "Answered": {"key": (1, "string"), "value": (2, "Answer")},  # what a map is on the wire
        "Answers": {"claims": (1, "Answered[]")},
    },
)


def serve(socket: Path, service: str, **methods: Any) -> grpc.Server:
    """Answer calls of a service on a socket: name → messages that are asked, and the function that answers."""
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            lambda request, _context, answer=answer: answer(request),
            request_deserializer=asked.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for name, (asked, answer) in methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    socket.unlink(missing_ok=True)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    return server


def run(node: str) -> None:
    """Serve until the end of the process."""
    endpoint = PLUGINS / f"{NAME}.sock"
    info = REGISTRATION["PluginInfo"](
        type="DRAPlugin", name=NAME, endpoint=str(endpoint), supported_versions=["v1.DRAPlugin"]
    )
    answered, device = MESSAGES["Answered"], MESSAGES["Device"](pool_name=node, device_name=DEVICE)

    def answers(request: Any, *devices: Any) -> Any:
        claims = [answered(key=claim.uid, value=MESSAGES["Answer"](devices=devices)) for claim in request.claims]
        return MESSAGES["Answers"](claims=claims)

    def registered(status: Any) -> Any:
        print(f"registered: {status.plugin_registered} {status.error}", flush=True)
        return REGISTRATION["RegistrationStatusResponse"]()

    plugin = serve(
        endpoint,
        _SERVICE,
        NodePrepareResources=(MESSAGES["Claims"], lambda request: answers(request, device)),
        NodeUnprepareResources=(MESSAGES["Claims"], answers),
    )
    registration = serve(
        REGISTRY / f"{NAME}-reg.sock",
        "pluginregistration.Registration",
        GetInfo=(REGISTRATION["InfoRequest"], lambda _: info),
        NotifyRegistrationStatus=(REGISTRATION["RegistrationStatus"], registered),
    )
    for server in (plugin, registration):  # one that nobody holds stops
        server.wait_for_termination()


if __name__ == "__main__":
    run(sys.argv[1])

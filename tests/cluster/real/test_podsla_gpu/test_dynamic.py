"""The resource that is asked for is backed by DRA: a driver has the devices, and no node publishes how many."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from kube.kinds import PODS
from tests.cluster.archives import PODSLA
from tests.cluster.dradriver import DEVICE, NAME, PLUGINS, REGISTRY
from tests.cluster.gpus import AGENTS, INVENTORY
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.borrow import MOVES_S, Gpus, create_attachment, lend, opens, take_back, wait_condition
from tests.cluster.real.pods import NAMESPACE, create_pod, wait_running
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes

RESOURCE: Final = "test.podsla.io/gpu"
SLICE: Final = f"{HOST}-{NAME}"
FOLDERS: Final = {"gpus": "/gpus", "plugins": str(PLUGINS), "registry": str(REGISTRY)}


@pytest.fixture
def driver(installed: User, gpus: Gpus) -> Iterator[None]:
    """A driver on this machine that has the same device as the device plugin."""
    mounts = [{"name": name, "mountPath": path} for name, path in FOLDERS.items()]
    folders = [{"name": name, "hostPath": {"path": FOLDERS[name]}} for name in ("plugins", "registry")]
    container = {
        "image": PODSLA,
        "command": ["python3", "/gpus/dradriver.py", HOST],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": mounts,
    }
    volumes = [{"name": "gpus", "configMap": {"name": INVENTORY}}, *folders]
    create_pod(installed, "dra-driver", HOST, container, AGENTS, volumes=volumes)
    wait_running(installed, "dra-driver", AGENTS)
    logs = ("-n", AGENTS, "logs", "dra-driver")
    eventually(lambda: "registered: True" in installed.kubectl(*logs).stdout, "the kubelet has registered it", MOVES_S)
    (gpu,) = gpus[HOST]
    for body in (resource_slice(gpu["uuid"]), device_class()):
        done = installed.apply(body)
        assert done.returncode == 0, done.stderr
    yield
    for what in (("deviceclass", NAME), ("resourceslice", SLICE), ("-n", AGENTS, "pod", "dra-driver", "--now")):
        assert installed.kubectl("delete", *what, "--ignore-not-found").returncode == 0


def resource_slice(uuid: str) -> dict[str, Any]:
    """Say which device the driver has."""
    pool = {"name": HOST, "generation": 1, "resourceSliceCount": 1}
    devices = [{"name": DEVICE, "attributes": {"uuid": {"string": uuid}}}]
    spec = {"driver": NAME, "nodeName": HOST, "pool": pool, "devices": devices}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": SLICE}, "spec": spec}


def device_class() -> dict[str, Any]:
    """Say that the resource's name means the driver's devices."""
    selectors = [{"cel": {"expression": f"device.driver == '{NAME}'"}}]
    spec = {"selectors": selectors, "extendedResourceName": RESOURCE}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": NAME}, "spec": spec}


@pytest.mark.usefixtures("driver")
def test_a_device_of_a_driver_is_lent_and_given_back(installed: User, gpus: Gpus, borrower: str, rival: str) -> None:
    """The placeholder asks as ever; the scheduler makes a claim of that, and the agent finds whose device it is."""
    (gpu,) = gpus[HOST]
    placeholder = lend(installed, "dynamic", borrower, HOST, resource=RESOURCE)
    create_attachment(installed, "after-dynamic", rival, resource=RESOURCE)
    pod = installed.api.get(PODS, placeholder, NAMESPACE)
    assert pod is not None
    assert pod["status"]["extendedResourceClaimStatus"]["resourceClaimName"]
    assert (opens(installed, borrower, gpu), opens(installed, rival, gpu)) == ("opens", "denied")

    told = take_back(installed, "dynamic")["status"]

    assert told["devices"] == [{"uuid": gpu["uuid"]}]
    wait_condition(installed, "after-dynamic", "Attached")
    assert (opens(installed, borrower, gpu), opens(installed, rival, gpu)) == ("denied", "opens")
    take_back(installed, "after-dynamic")

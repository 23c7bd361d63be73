"""
Nodes that run containers: this machine (cgroup version 1 or 2, as it is) and a virtual one (systemd, version 2).

Each runs pods under each of its runtime handlers: clients under rund, servers under rune, those of a late image runc.
"""

import tarfile
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final

import pytest

from kube.api import Object
from tests.cluster import vm
from tests.cluster.archives import AGNHOST, PODSLA, member, pause, write_archive
from tests.cluster.binaries import cache_folder
from tests.cluster.images import load
from tests.cluster.network import HOST_POD_CIDR, SERVICE_ADDRESS, VM_POD_CIDR
from tests.cluster.nodeconfig import HOST, VM
from tests.cluster.qemu import Ran
from tests.cluster.real.pods import RUNNING_S, create_pod, run_in, wait_running
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually

NODES: Final = {HOST: HOST_POD_CIDR, VM: VM_POD_CIDR}
RESTRICTED: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
ASK_API_SERVER: Final = """
import ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
trust = ssl.create_default_context(cafile=folder + "ca.crt")
bearer = {{"Authorization": "Bearer " + open(folder + "token").read()}}
asked = urllib.request.Request("https://{address}/version", headers=bearer)
print(urllib.request.urlopen(asked, context=trust, timeout=20).status)
"""
FETCH: Final = (
    "from urllib.request import urlopen; print(urlopen('http://{address}/hostname', timeout=20).read().decode())"
)

pytestmark = pytest.mark.nodes


@pytest.fixture(scope="module", params=NODES)
def node(request: pytest.FixtureRequest) -> str:
    """Each real node in turn."""
    return str(request.param)


@pytest.fixture(scope="module", autouse=True)
def _no_pods_stay(user: User) -> Iterator[None]:
    """Room for what comes after."""
    yield
    assert user.kubectl("delete", "pods", "--all", "--now").returncode == 0


@pytest.fixture(scope="module")
def clients(user: User) -> dict[str, Object]:
    """On each node a pod of our image, as little allowed as Pod Security's `restricted` wants."""
    container = {
        "image": PODSLA,
        "command": ["sh", "-c", "podsla --help && exec sleep 3600"],
        "securityContext": RESTRICTED,
        "resources": {"requests": {"cpu": "50m"}},
    }
    for node in NODES:
        create_pod(user, f"client-{node}", node, container, runtimeClassName="rund")
    return {node: wait_running(user, f"client-{node}") for node in NODES}


@pytest.fixture(scope="module")
def servers(user: User) -> dict[str, str]:
    """On each node a web server that says its name, under another runtime; the address of the Service before it."""
    for node in NODES:
        name = f"web-{node}"
        create_pod(
            user, name, node, {"image": AGNHOST, "args": ["netexec", "--http-port=8080"]}, runtimeClassName="rune"
        )
        spec = {"selector": {"name": name}, "ports": [{"port": 80, "targetPort": 8080}]}
        user.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
    for node in NODES:
        wait_running(user, f"web-{node}")
    address = "jsonpath={.spec.clusterIP}"
    return {node: user.kubectl("get", "service", f"web-{node}", "-o", address).stdout for node in NODES}


def test_a_pod_has_an_address_of_its_node_and_the_overhead_of_its_runtime(
    clients: dict[str, Object], node: str
) -> None:
    """So the CNI plugin and RuntimeClass are the real ones."""
    assert ip_address(clients[node]["status"]["podIP"]) in ip_network(NODES[node])
    assert clients[node]["spec"]["overhead"] == {"cpu": "250m", "memory": "160Mi"}


@pytest.mark.usefixtures("clients")
def test_the_image_works_as_a_user_without_rights_on_a_read_only_root(user: User, node: str) -> None:
    """The command line has spoken, and nothing can be written."""
    pod = f"client-{node}"

    eventually(lambda: "SLA classes" in user.kubectl("logs", pod).stdout, "the help is printed", RUNNING_S)
    assert run_in(user, pod, "sh", "-c", "id -u; touch /x 2>&1 || true").splitlines() == [
        "65532",
        "touch: cannot touch '/x': Read-only file system",
    ]


@pytest.mark.usefixtures("clients")
def test_the_api_server_answers_at_its_service_address(user: User, node: str) -> None:
    """With the token and the CA that the kubelet mounted, as any controller in a pod does."""
    assert run_in(user, f"client-{node}", "python3", "-c", ASK_API_SERVER.format(address=SERVICE_ADDRESS)) == "200"


@pytest.mark.usefixtures("clients")
@pytest.mark.parametrize("server", NODES)
def test_a_service_is_reached_from_every_node(user: User, servers: dict[str, str], node: str, server: str) -> None:
    """Whichever node serves it."""
    fetch = f'python3 -c "{FETCH.format(address=servers[server])}" 2>/dev/null || true'

    eventually(lambda: run_in(user, f"client-{node}", "sh", "-c", fetch) == f"web-{server}", "an answer", 60.0)


def test_an_image_can_be_given_to_running_nodes(user: User, cluster: Cluster, tmp_path: Path) -> None:
    """As `kind load docker-image` does; the VM is sent it as a disk."""
    image = "docker.io/local/late:1"
    with tarfile.open(pause(cache_folder())) as tar:
        write_archive(tmp_path / "late.tar", image, member(tar, "layer.tar"), {"Entrypoint": ["/pause"]})
    load(cluster, str(tmp_path / "late.tar"))

    for node in NODES:
        create_pod(user, f"late-{node}", node, {"image": image}, runtimeClassName="runc")

    for node in NODES:
        assert wait_running(user, f"late-{node}")["spec"]["nodeName"] == node


@pytest.mark.usefixtures("user")
def test_systemd_is_real_in_the_virtual_machine() -> None:
    """What `systemctl daemon-reload` does to device rules can be shown there."""
    assert vm.run(["cat", "/proc/1/comm"]).output == "systemd\n"
    assert vm.run(["stat", "--file-system", "--format=%T", "/sys/fs/cgroup"]).output == "cgroup2fs\n"
    assert vm.run(["systemctl", "daemon-reload"]).returncode == 0
    assert vm.run(["sh", "-c", "echo said; exit 3"]) == Ran(3, "said\n")

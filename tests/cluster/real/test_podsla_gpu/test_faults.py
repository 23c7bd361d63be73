"""What goes wrong on a real node while a pod borrows a GPU: it is never open in two pods, and the next one gets it."""

from typing import Final

import pytest

from attach.api import Type
from kube.kinds import NODES
from tests.cluster import host
from tests.cluster.archives import PAUSE
from tests.cluster.gpus import AGENTS, run_in_container
from tests.cluster.install import kubectl
from tests.cluster.nodeconfig import HOST
from tests.cluster.real.borrow import (
    MOVES_S,
    Gpus,
    create_attachment,
    hold,
    lend,
    make_namespace,
    open_by,
    opens,
    phase,
    read,
    run_borrower,
    take_back,
    wait_condition,
    why_released,
)
from tests.cluster.real.faults import Strike, api_server_away, clocks_ahead, kill_agent, killed_meanwhile
from tests.cluster.real.pods import NAMESPACE, create_pod, state, wait_running
from tests.cluster.real.windows import watching
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes


TURNS: Final = 1
LEASE_S: Final = 600
DELETED: Final = frozenset({"PlaceholderDeleted"})
STRIKES: Final = {
    "its placeholder is deleted": Strike("Terminate", "delete pod {placeholder} --wait=false", reasons=DELETED),
    "its placeholder is evicted": Strike(
        "Terminate",
        "create -f - --raw /api/v1/namespaces/{namespace}/pods/{placeholder}/eviction",
        '{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {{"name": "{placeholder}"}}}}',
        DELETED,
    ),
    "its placeholder is gone": Strike(
        "Wait", "delete pod {placeholder} --force --grace-period=0", reasons=DELETED | {"ReservationLost"}
    ),
    "it is gone": Strike("Wait", "delete pod struck --force --grace-period=0"),
    "its namespace is deleted": Strike("Wait", "delete namespace {namespace} --wait=false"),
}


def test_the_agent_is_killed_and_goes_on(installed: User, gpus: Gpus, borrower: str) -> None:
    """The device stays the pod's meanwhile; what was asked while no agent ran is done by the next one."""
    (gpu,) = gpus[HOST]
    lend(installed, "killed", borrower, HOST)
    agent = installed.kubectl(
        "-n", AGENTS, "get", "pods", "-l", "app.kubernetes.io/name=podsla-agent",
        f"--field-selector=spec.nodeName={HOST}", "-o", "jsonpath={.items[*].metadata.name}",
    ).stdout  # fmt: skip

    killed = installed.kubectl("-n", AGENTS, "delete", "pod", agent, "--grace-period=0", "--force")

    assert killed.returncode == 0, killed.stderr
    assert opens(installed, borrower, gpu) == "opens"
    take_back(installed, "killed")
    assert opens(installed, borrower, gpu) == "denied"


def test_an_agent_that_is_killed_over_and_over_gives_a_device_from_one_to_the_other(
    installed: User, gpus: Gpus, borrower: str, rival: str
) -> None:
    """In its pod, at any moment; at which steps it can die, the tests of the node know, and kill it at each."""
    (gpu,) = gpus[HOST]
    with watching(installed, gpu, {borrower: NAMESPACE, rival: NAMESPACE}) as seen:
        for number, pod in enumerate((borrower, rival) * TURNS):
            with killed_meanwhile():
                lend(installed, f"turn-{number}", pod, HOST)
            with killed_meanwhile():
                take_back(installed, f"turn-{number}")

    assert seen.turns() == [borrower, rival] * TURNS


@pytest.mark.parametrize("restarted", [False, True], ids=["its agent goes on", "its agent is restarted"])
def test_a_lease_ends_while_the_api_server_is_away(
    installed: User, cluster: Cluster, gpus: Gpus, borrower: str, rival: str, restarted: bool
) -> None:
    """
    The API server stands still for ten minutes of the agent's clocks; the device is taken back all the same.

    An agent that begins meanwhile hears of nothing that is wanted, and knows the lease from its journal alone.
    """
    (gpu,) = gpus[HOST]
    name = f"lease-{restarted:d}"
    lend(installed, name, borrower, HOST, leaseSeconds=LEASE_S)
    create_attachment(installed, f"after-{name}", rival)
    assert (opens(installed, borrower, gpu), opens(installed, rival, gpu)) == ("opens", "denied")
    (container,) = wait_running(installed, borrower)["status"]["containerStatuses"]
    container_id = container["containerID"].rpartition("://")[2]
    own = f"exec 3<>/tmp/{gpu['uuid']}"  # the node that the pod has made for itself

    with api_server_away(cluster):
        if restarted:
            kill_agent()
        assert run_in_container(cluster, HOST, container_id, own)
        with clocks_ahead(LEASE_S):
            eventually(lambda: not run_in_container(cluster, HOST, container_id, own), "it is taken back", MOVES_S)

    wait_condition(installed, name, "Released")
    assert why_released(installed, name) == "LeaseExpired"
    wait_condition(installed, f"after-{name}", "Attached")
    assert (opens(installed, borrower, gpu), opens(installed, rival, gpu)) == ("denied", "opens")
    take_back(installed, f"after-{name}")


@pytest.mark.parametrize("name", STRIKES)
def test_whatever_strikes_who_has_it_open_the_next_one_gets_it_closed(
    installed: User, gpus: Gpus, rival: str, name: str
) -> None:
    """Where the kubelet frees it by itself, the agent ends who has it open, whatever the policy says."""
    (gpu,), strike, number = gpus[HOST], STRIKES[name], list(STRIKES).index(name)
    where, after = make_namespace(installed, f"struck-{number}"), f"after-strike-{number}"
    pod = run_borrower(installed, "struck", HOST, where)
    placeholder = lend(installed, "struck", pod, HOST, where, detachPolicy=strike.policy)
    held = hold(installed, pod, gpu, where)
    create_attachment(installed, after, rival)

    names = {"namespace": where, "placeholder": placeholder}
    struck = installed.kubectl("-n", where, *strike.argv(**names), text=strike.text.format(**names))

    assert struck.returncode == 0, struck.stderr
    wait_condition(installed, after, "Attached")
    assert not held & open_by(gpu)
    assert opens(installed, rival, gpu) == "opens"
    if not strike.reasons:
        gone = ("-n", where, "get", "gpuattachment", "struck", "--ignore-not-found", "-o", "name")
        eventually(lambda: not installed.kubectl(*gone).stdout, "the attachment is gone", MOVES_S)
    else:
        assert opens(installed, pod, gpu, where) == "denied"
        wait_condition(installed, "struck", "Released", where)  # of both, which is told first is chance
        assert why_released(installed, "struck", where) in strike.reasons
    take_back(installed, after)


def test_kubelet_and_containerd_restart_under_a_pod_that_borrows(
    installed: User, cluster: Cluster, gpus: Gpus, borrower: str, rival: str
) -> None:
    """It keeps its access, nobody else gets any, and afterwards all goes on as ever."""
    (gpu,) = gpus[HOST]
    placeholder = lend(installed, "outlives", borrower, HOST)
    eventually(lambda: phase(installed, placeholder) == "Running", "the placeholder runs", MOVES_S)
    create_attachment(installed, "after-restart", rival)
    pod, since_s = state(installed, borrower), read(installed, "outlives").status.attached_s

    host.restart_containerd(cluster)
    host.restart_kubelet(cluster)
    where = make_namespace(installed, "restarted")
    create_pod(installed, "more", HOST, {"image": PAUSE}, where)
    wait_running(installed, "more", where)  # by then it has admitted its pods anew

    eventually(lambda: opens(installed, borrower, gpu) == "opens", "the pod can be looked into, and has access")
    assert opens(installed, rival, gpu) == "denied"
    assert state(installed, borrower) == pod
    assert read(installed, "outlives").status.attached_s == since_s
    assert not read(installed, "after-restart").status.has(Type.ATTACHED)

    take_back(installed, "outlives")

    wait_condition(installed, "after-restart", "Attached")
    assert (opens(installed, borrower, gpu), opens(installed, rival, gpu)) == ("denied", "opens")
    take_back(installed, "after-restart")


def test_a_device_plugin_that_starts_again_takes_nothing_away(
    installed: User, cluster: Cluster, gpus: Gpus, borrower: str
) -> None:
    """While it is away the kubelet offers none of its devices, and what asks for one waits until it is back."""
    (gpu,) = gpus[HOST]
    lend(installed, "plugin-held", borrower, HOST)
    move_plugin(cluster, '{"away": "true"}')
    eventually(lambda: offered(installed) == "0", "the plugin is gone", MOVES_S)
    assert opens(installed, borrower, gpu) == "opens"
    take_back(installed, "plugin-held")
    create_attachment(installed, "plugin-early", borrower)
    eventually(lambda: "Insufficient" in why_queued(installed, "plugin-early"), "it waits for a device", MOVES_S)
    assert opens(installed, borrower, gpu) == "denied"

    move_plugin(cluster, '{"away": null}')

    wait_condition(installed, "plugin-early", "Attached")
    assert opens(installed, borrower, gpu) == "opens"
    take_back(installed, "plugin-early")


def move_plugin(cluster: Cluster, selector: str) -> None:
    """Say which further label nodes of the device plugin have to have; no node has `away`."""
    patch = f'{{"spec": {{"template": {{"spec": {{"nodeSelector": {selector}}}}}}}}}'
    kubectl(cluster, "-n", AGENTS, "patch", "daemonset", "test-gpus", "--type=merge", "-p", patch)


def offered(user: User) -> str:
    """How many devices the kubelet of this machine offers."""
    node = user.api.get(NODES, HOST)
    assert node is not None
    return str(node["status"]["allocatable"]["nvidia.com/gpu"])


def why_queued(user: User, name: str) -> str:
    """What an attachment that waits says."""
    return str(read(user, name).status.condition(Type.RESERVED).get("message", ""))

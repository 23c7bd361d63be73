"""Borrowing on a real API server, as a pod's own service account and as a person; a stand-in plays the agent."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kube.kinds import GPU_ATTACHMENTS
from podsla import gpu
from podsla.lending import Kubeconfig
from tests.cluster.install import PODSLA, ROOT
from tests.cluster.own import own_cluster
from tests.podsla.lending.agent import UUID, StandInAgent, condition
from tests.podsla.lending.work import program, use_cuda
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.cluster
NAMESPACE = "lending"
POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "eval-x", "namespace": NAMESPACE},
    "spec": {"containers": [{"name": "worker", "image": "x"}], "serviceAccountName": "borrower"},
}  # fmt: skip


@pytest.fixture(scope="module")
def admin(request: pytest.FixtureRequest) -> Iterator[User]:
    """An administrator of a cluster without nodes, with the CRD and a pod that may borrow."""
    with own_cluster(request, "podsla-lending", "control-plane") as cluster:
        admin = User(cluster, PODSLA)
        crd = "crd/gpuattachments.podsla.io"
        for command in (
            ("apply", "--server-side", "-f", str(ROOT / "manifests/base/crds")),
            ("wait", "--for=condition=Established", crd, "--timeout=30s"),
            ("create", "namespace", NAMESPACE),
            ("-n", NAMESPACE, "create", "serviceaccount", "borrower"),
            (
                "-n",
                NAMESPACE,
                "create",
                "role",
                "borrower",
                "--verb=create,get,watch,patch",
                "--resource=gpuattachments",
            ),
            (
                "-n",
                NAMESPACE,
                "create",
                "rolebinding",
                "borrower",
                "--role=borrower",
                f"--serviceaccount={NAMESPACE}:borrower",
            ),
        ):
            done = admin.kubectl(*command)
            assert done.returncode == 0, done.stderr
        done = admin.apply(POD)
        assert done.returncode == 0, done.stderr
        yield admin


@pytest.fixture
def in_pod(admin: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kubelet gives the pod: a token that is bound to it, the CA, the namespace."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    bound = ("--bound-object-kind=Pod", "--bound-object-name=eval-x")
    done = admin.kubectl("-n", NAMESPACE, "create", "token", "borrower", *bound)
    assert done.returncode == 0, done.stderr
    (folder / "token").write_text(done.stdout.strip())
    (folder / "namespace").write_text(NAMESPACE)
    cluster = yaml.safe_load(admin.kubeconfig.read_text())["clusters"][0]["cluster"]
    (folder / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    host, _, port = cluster["server"].removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setenv("PODSLA_SERVICE_ACCOUNT", str(folder))
    return folder


@pytest.fixture
def agent(admin: User, node: Path) -> Iterator[StandInAgent]:
    """Plays the agent's part by patching the status."""

    def write(thing: Any, status: dict[str, Any]) -> None:
        name = thing["metadata"]["name"]
        admin.api.patch(GPU_ATTACHMENTS, name, {"status": status}, namespace=NAMESPACE, subresource="status")

    with StandInAgent(lambda: list(admin.api.list(GPU_ATTACHMENTS, NAMESPACE)), write, node) as agent:
        yield agent
    admin.kubectl("-n", NAMESPACE, "delete", "gpua", "--all")


def podsla(admin: User, *arguments: str) -> Any:
    """Run a command as a person; its JSON, or what went wrong."""
    done = admin.podsla("gpu", *arguments, "-n", NAMESPACE)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "json" in arguments else done.stdout


def test_a_pod_borrows_with_its_own_token(
    admin: User, in_pod: Path, agent: StandInAgent, node: Path, libcuda: str
) -> None:
    assert gpu.call(use_cuda, libcuda, timeout=30.0)["cuInit"] == 0

    (one,) = admin.api.list(GPU_ATTACHMENTS, NAMESPACE)
    pod = admin.kubectl("-n", NAMESPACE, "get", "pod", "eval-x", "-o", "jsonpath={.metadata.uid}").stdout
    assert (one["spec"]["podName"], one["spec"]["podUID"], one["spec"]["release"]) == ("eval-x", pod, True)
    assert gpu.read_state(one).word == "Released"
    assert not node.exists()


def test_its_lease_is_renewed_as_the_api_writes_times(admin: User, in_pod: Path, agent: StandInAgent) -> None:
    with gpu.borrow(lease=10, timeout=30.0) as lent:
        thing = eventually(lambda: _renewed(admin, lent.name), "a renewal")
    assert thing["spec"]["renewTime"].endswith("Z")


def _renewed(admin: User, name: str) -> Any:
    thing = admin.api.get(GPU_ATTACHMENTS, name, NAMESPACE) or {"spec": {}}
    return thing if "renewTime" in thing["spec"] else None


def test_a_watch_sees_it_deleted(admin: User, in_pod: Path, agent: StandInAgent) -> None:
    told: list[gpu.Revoked] = []

    def lose() -> None:
        with gpu.borrow(timeout=30.0, on_revoke=told.append) as lent:
            admin.api.delete(GPU_ATTACHMENTS, lent.name, NAMESPACE)
            eventually(lambda: told, "the callback")

    with pytest.raises(gpu.Revoked, match="Deleted"):
        lose()


def test_an_account_without_the_right_is_told_which(admin: User, in_pod: Path) -> None:
    (in_pod / "token").write_text(admin.kubectl("-n", NAMESPACE, "create", "token", "default").stdout.strip())
    with pytest.raises(gpu.Refused, match=r"cannot create resource .gpuattachments.*gpu-borrower"):
        gpu.borrow(pod=gpu.Pod(NAMESPACE, "eval-x")).__enter__()


def test_a_person_attaches_lists_and_detaches(admin: User, agent: StandInAgent) -> None:
    (one,) = podsla(admin, "attach", "eval-x", "--name", "by-hand", "--container", "worker", "-o", "json")
    assert one["status"]["devices"] == [{"uuid": UUID}]

    head, row = podsla(admin, "list", "-o", "wide").splitlines()
    assert " ".join(head.split()) == "NAME POD STATE QUEUE DEVICES HELD WHY NODE RESOURCE COUNT LEASE ENDS"
    assert row.split()[:5] == ["by-hand", "eval-x", "Attached", "-", UUID]

    podsla(admin, "wait", "by-hand")
    podsla(admin, "detach", "by-hand")
    podsla(admin, "wait", "by-hand", "--for", "released")
    assert [one["metadata"]["name"] for one in podsla(admin, "list", "-o", "json")] == ["by-hand"]


def test_a_person_runs_a_command_from_outside(admin: User, agent: StandInAgent) -> None:
    done = admin.podsla(
        "gpu", "run", "-n", NAMESPACE, "--pod", "eval-x", "--kubeconfig", str(admin.kubeconfig),
        "--", *program("print(os.environ['CUDA_VISIBLE_DEVICES']); sys.exit(5)"),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (5, f"{UUID}\n")


def test_a_wait_that_is_over_says_how_to_go_on(admin: User, agent: StandInAgent) -> None:
    agent.paused.set()
    done = admin.podsla("gpu", "attach", "eval-x", "--name", "queued", "--wait", "1", "-n", NAMESPACE)
    assert done.returncode == 1
    assert "queued is not attached after 1 s, and stays in the queue" in done.stderr


def test_a_quarantine_is_ended_by_force_alone(admin: User, agent: StandInAgent) -> None:
    podsla(admin, "attach", "eval-x", "--name", "stuck")
    status = {"conditions": [condition("Quarantined", "Unhealthy", message="Xid 79")]}
    assert admin.podsla("gpu", "release", "stuck", "-n", NAMESPACE).returncode == 2
    agent.paused.set()
    admin.api.patch(GPU_ATTACHMENTS, "stuck", {"status": status}, namespace=NAMESPACE, subresource="status")
    podsla(admin, "release", "stuck", "--force")
    found = admin.api.get(GPU_ATTACHMENTS, "stuck", NAMESPACE)
    assert found is not None
    assert found["metadata"]["annotations"] == {"podsla.io/force-release": "true"}


def test_an_unknown_attachment_is_said_to_be_none(admin: User) -> None:
    done = admin.podsla("gpu", "detach", "nobody", "-n", NAMESPACE)
    assert (done.returncode, done.stderr) == (
        3, f"there is no attachment nobody in namespace {NAMESPACE}; see `podsla gpu list -n {NAMESPACE}`\n",
    )  # fmt: skip


def test_the_in_code_client_works_over_a_kubeconfig(admin: User, agent: StandInAgent) -> None:
    pod = gpu.Pod(NAMESPACE, "eval-x")
    with gpu.borrow(timeout=30.0, api=Kubeconfig(admin.api), pod=pod) as lent:
        assert lent.run(program("")).returncode == 0

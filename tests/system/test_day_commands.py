"""The commands that a platform team uses every day, each against a real control plane."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final

import pytest

from catalog.quantity import parse_integer
from kube.api import Object
from kube.kinds import CONTROLLER_REVISIONS, NAMESPACES, PODS, SPEC_CATALOGS
from tests.builders import container, pod
from tests.cluster.install import PODSLA
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

Namespace = Callable[..., str]

SMALL: Final = container(requests={"cpu": "100m", "memory": "64Mi"})
PPS: Final = "podsla.io/pps"
READ: Final = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]
IN_NAMESPACE: Final = [{"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["get", "list"]}]


def create(user: User, there: str, name: str, pps: str = "", **spec: Any) -> None:
    """A pod of class every-figure, with more packets a second where *pps* says so."""
    annotations = {"podsla.io/min-pps": pps} if pps else {}
    metadata = {"name": name, "namespace": there}
    made = pod("every-figure", annotations=annotations, metadata=metadata, containers=[SMALL], **spec)
    done = user.apply(made)
    assert done.returncode == 0, done.stderr


def read(user: User, there: str, name: str) -> Object:
    found = user.api.get(PODS, name, there)
    assert found is not None
    return found


def is_unschedulable(found: Object) -> bool:
    conditions = found["status"].get("conditions") or ()
    return any(one["type"] == "PodScheduled" and one.get("reason") == "Unschedulable" for one in conditions)


def placed(user: User, there: str, name: str) -> str:
    """The node that a pod got."""
    return eventually(lambda: str(read(user, there, name)["spec"].get("nodeName") or ""), f"{name} is placed")


def printed(done: CompletedProcess[str], code: int = 0) -> Any:
    """What a command printed as JSON, once it ended as expected."""
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_why_names_what_is_missing_who_holds_it_and_what_would_help(user: User, namespace: Namespace) -> None:
    there = namespace()
    for name in ("first", "second"):  # two nodes have 2,850k packets/s and all else that the class asks
        create(user, there, name, "2800k")
        placed(user, there, name)
    create(user, there, "third", "2800k")
    eventually(lambda: is_unschedulable(read(user, there, "third")), "the scheduler has judged the third")

    found = printed(user.podsla("why", "third", "-n", there, "-o", "json"), code=1)

    assert (found["state"], found["nodes"], found["fitting"]) == ("FitsNoNode", 12, [])
    held = {row["nodeType"]: row for row in found["missing"] if row["reason"] == "Insufficient"}
    assert held.keys() == {"ecs.g7.4xlarge", "ecs.g7ne.4xlarge"}
    assert {(row["what"], row["asked"], row["allocatable"]) for row in held.values()} == {(PPS, 2_800_000, 2_850_000)}
    assert {one["pod"] for one in found["holders"]} == {f"{there}/first", f"{there}/second"}
    assert [one["change"] for one in found["changes"]] == ["AskLess", "MakeRoom", "AddNode"]
    assert found["changes"][2]["node"] == read(user, there, "third")["metadata"]["labels"]["podsla.io/size"]

    told = user.podsla("why", "third", "-n", there).stdout
    assert told.startswith(f"Pod/third in {there}: fits none of 12 nodes\n")
    assert "NODE TYPE" in told

    user.api.delete(PODS, "first", there)  # what was proposed is done, and is right
    placed(user, there, "third")


def test_why_of_a_placed_pod_says_where_and_what_its_node_has(user: User, namespace: Namespace) -> None:
    create(user, there := namespace(), "trader")
    node = placed(user, there, "trader")

    found = printed(user.podsla("why", "pod/trader", "-n", there, "-o", "json"))

    assert (found["state"], found["node"], found["class"]) == ("Placed", node, "every-figure")
    assert {PPS, "podsla.io/base-mhz", "podsla.io/nic-queues"} <= {one["what"] for one in found["kept"]}


def test_top_sums_what_the_api_server_has(user: User, namespace: Namespace) -> None:
    create(user, there := namespace(), "trader")
    node = placed(user, there, "trader")

    def promised_on_node() -> int:
        pods = user.api.list(PODS, fieldSelector=f"spec.nodeName={node}")
        requests = (one["spec"]["containers"][0]["resources"].get("requests") or {} for one in pods)
        return sum(parse_integer(amounts.get(PPS, "0")) for amounts in requests)

    def agree() -> bool:  # pods of other tests come and go
        by_node = {one["node"]: one for one in printed(user.podsla("top", "-o", "json"))}
        return bool(by_node[node]["promised"].get(PPS) == promised_on_node() >= 1_000_000)

    assert eventually(agree, "top agrees with the API server")
    (mine,) = printed(user.podsla("top", "-n", there, "--by", "class", "-o", "json"))
    assert (mine["class"], mine["pods"], mine["promised"][PPS]) == ("every-figure", 1, 1_000_000)
    assert "SUM" in user.podsla("top").stdout


CLASS: Final = "  - {name: lab, description: x, floor: {vcpu: 100m, network: {pps: %s}}, sizes: {families: [ecs.g7]}}\n"
HEAD: Final = "apiVersion: podsla.io/v1beta1\nkind: SpecCatalog\nmetadata: {name: lab}\nspec:\n  classes:\n"


@pytest.fixture
def lab(tmp_path: Path, scratch_catalog: Callable[[str], None]) -> Callable[[str], Path]:
    """Write a catalogue of one class that floors so many packets a second."""

    def write(pps: str) -> Path:
        scratch_catalog("lab")
        file = tmp_path / f"lab-{pps}.yaml"
        file.write_text(HEAD + CLASS % pps)
        return file

    return write


def floor(user: User) -> str:
    thing = user.api.get(SPEC_CATALOGS, "lab")
    assert thing is not None
    return str(thing["spec"]["classes"][0]["floor"]["network"]["pps"])


def test_an_edit_is_judged_before_it_is_made_and_rolled_back_after(
    user: User, namespace: Namespace, lab: Callable[[str], Path]
) -> None:
    assert user.podsla("catalog", "apply", str(lab("100k"))).returncode == 0
    there = namespace()
    made = pod("lab", metadata={"name": "runs", "namespace": there}, containers=[SMALL])
    eventually(lambda: user.apply(made).returncode == 0, "the webhook serves the class")
    size = read(user, there, "runs")["metadata"]["labels"]["podsla.io/size"]

    before = printed(user.podsla("catalog", "diff", "--cluster", str(lab("2M")), "-o", "json"))
    (mine,) = [one for one in before["pods"] if one["name"] == f"{there}/runs"]
    assert (mine["outcome"], mine["size"], mine["newSize"] == size) == ("Changes", size, False)
    assert [(one["catalog"], one["accepted"]) for one in before["verdicts"]] == [("lab", True)]
    assert floor(user) == "100k", "a diff writes nothing"
    assert user.podsla("catalog", "diff", "--cluster", str(lab("90M"))).returncode == 1

    assert user.podsla("catalog", "apply", str(lab("2M"))).returncode == 0
    assert printed(user.podsla("explain", "pod", "runs", "-n", there, "-o", "json"))["today"] == "Differs"
    kept = printed(user.podsla("catalog", "history", "lab", "-o", "json"))
    assert [(one["number"], one["serving"], one["written"]) for one in kept] == [(2, True, True), (1, False, False)]

    beforehand = printed(user.podsla("catalog", "diff", "--revision", "1", "lab", "-o", "json"))
    assert [(one["catalog"], one["accepted"]) for one in beforehand["verdicts"]] == [("lab", True)]
    (mine,) = [one for one in beforehand["pods"] if one["name"] == f"{there}/runs"]
    assert (mine["outcome"], mine["newSize"]) == ("Changes", size), "a new pod gets what the running one has, again"
    assert "kept are 2, 1" in user.podsla("catalog", "diff", "--revision", "9", "lab").stderr
    assert user.podsla("catalog", "rollback", "lab", "--dry-run").returncode == 0
    assert floor(user) == "2M", "neither writes anything"
    back = user.podsla("catalog", "rollback", "lab")
    assert (back.returncode, floor(user)) == (0, "100k"), back.stderr
    assert "~ class lab: floor.network.pps 2M → 100k\n" in back.stdout
    status = printed(user.podsla("catalog", "status", "lab", "-o", "json"))
    assert (status["accepted"], status["serving"]) == ("True", kept[1]["revision"])
    assert printed(user.podsla("explain", "pod", "runs", "-n", there, "-o", "json"))["today"] == "Same"
    assert len(kept) == sum(
        "lab" in one["metadata"].get("labels", {}).values()
        for one in user.api.list(CONTROLLER_REVISIONS, "podsla-system")
    ), "a rollback makes no new revision"


def test_a_refused_edit_goes_back_to_what_serves(user: User, lab: Callable[[str], Path]) -> None:
    assert user.podsla("catalog", "apply", str(lab("100k"))).returncode == 0
    assert user.podsla("catalog", "apply", str(lab("90M"))).returncode == 1
    assert user.podsla("catalog", "status").returncode == 1
    found = printed(user.podsla("doctor", "-o", "json"))
    assert [one["reason"] for one in found if one["subject"] == "SpecCatalog/lab"] == ["CatalogRefused"]

    assert user.podsla("catalog", "rollback", "lab").returncode == 0

    assert floor(user) == "100k"


def kubeconfig_of(user: User, there: str, rules: list[dict[str, Any]], file: Path, *, cluster_wide: bool) -> str:
    """Write a kubeconfig of somebody who may do what *rules* say and nothing else."""
    name, kind = f"reader-{there}", "ClusterRole" if cluster_wide else "Role"
    head = {"name": name, **({} if cluster_wide else {"namespace": there})}
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": there}
    bound = {"apiVersion": f"{group}/v1", "kind": f"{kind}Binding", "metadata": head, "subjects": [subject],
             "roleRef": {"apiGroup": group, "kind": kind, "name": name}}  # fmt: skip
    assert user.kubectl("-n", there, "create", "serviceaccount", "reader").returncode == 0
    assert user.apply({"apiVersion": f"{group}/v1", "kind": kind, "metadata": head, "rules": rules}).returncode == 0
    assert user.apply(bound).returncode == 0
    config = json.loads(user.kubectl("config", "view", "--raw", "-o", "json").stdout)
    token = user.kubectl("-n", there, "create", "token", "reader").stdout.strip()
    for one in config["users"]:
        one["user"] = {"token": token}
    file.touch(0o600)
    file.write_text(json.dumps(config))
    return str(file)


def test_commands_that_read_need_no_right_but_get_and_list(user: User, namespace: Namespace, tmp_path: Path) -> None:
    create(user, there := namespace(), "trader")
    placed(user, there, "trader")
    config = kubeconfig_of(user, there, READ, tmp_path / "reader", cluster_wide=True)
    reads: list[tuple[str, ...]] = [
        ("why", "trader", "-n", there),
        ("top",),
        ("explain", "pod", "trader", "-n", there),
        ("catalog", "history", "starter"),
        ("catalog", "diff", "--cluster", "classes"),
        ("catalog", "status", "starter"),
    ]

    for command in reads:
        done = user.podsla(*command, "--kubeconfig", config)
        assert done.returncode == 0, (command, done.stderr)
    assert "NotVisible" not in user.podsla("doctor", "--kubeconfig", config).stdout
    refused = user.podsla("catalog", "rollback", "starter", "--kubeconfig", config)
    assert (refused.returncode, "cannot" in refused.stderr or "no other" in refused.stderr) == (3, True)
    for kind in ("clusterrole", "clusterrolebinding"):
        user.kubectl("delete", kind, f"reader-{there}")


def test_a_developer_of_one_namespace_is_told_what_may_be_seen(
    user: User, namespace: Namespace, tmp_path: Path
) -> None:
    create(user, there := namespace(), "waits", nodeSelector={"no": "such"})
    eventually(lambda: is_unschedulable(read(user, there, "waits")), "the scheduler has judged it")
    config = kubeconfig_of(user, there, IN_NAMESPACE, tmp_path / "developer", cluster_wide=False)

    found = printed(user.podsla("why", "waits", "-n", there, "--kubeconfig", config, "-o", "json"), code=1)
    assert found["state"] == "NodesNotVisible"
    assert "0/12 nodes are available" in found["scheduler"]
    seen = printed(user.podsla("doctor", "--kubeconfig", config, "-o", "json"))
    assert {one["reason"] for one in seen} == {"NotVisible"}
    assert {"nodes", "secrets", "pods", "catalogues"} <= {one["subject"] for one in seen}
    denied = user.podsla("top", "--kubeconfig", config)
    assert (denied.returncode, "nodes is forbidden" in denied.stderr) == (3, True)


def test_kubectl_finds_the_plugin(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{PODSLA.parent}:{os.environ['PATH']}")

    done = user.kubectl("podsla", "catalog", "status")
    assert done.stdout.startswith("CATALOG"), done.stderr
    assert "Usage: kubectl podsla [OPTIONS] COMMAND" in user.kubectl("podsla", "--help").stdout
    completed = user.kubectl("__complete", "podsla", "catalog", "history", "m")  # what its completion scripts call
    assert completed.stdout.splitlines() == ["mission", ":4"], completed.stderr


def test_the_namespace_of_the_context_is_meant_where_none_is_named(
    user: User, namespace: Namespace, tmp_path: Path
) -> None:
    create(user, there := namespace(), "trader")
    placed(user, there, "trader")
    config = json.loads(user.kubectl("config", "view", "--raw", "-o", "json").stdout)
    for one in config["contexts"]:
        one["context"]["namespace"] = there
    (file := tmp_path / "config").write_text(json.dumps(config))

    done = user.podsla("why", "trader", "--kubeconfig", str(file))

    assert done.stdout.startswith(f"Pod/trader in {there}: on node "), done.stderr
    assert user.podsla("why", "trader").stderr.startswith("there is no pod or workload 'trader' in namespace default")
    assert user.api.get(NAMESPACES, there) is not None


def test_an_api_server_that_does_not_answer_is_a_sentence(user: User, tmp_path: Path) -> None:
    config = json.loads(user.kubectl("config", "view", "--raw", "-o", "json").stdout)
    for one in config["clusters"]:
        one["cluster"]["server"] = "https://127.0.0.1:9"
    (file := tmp_path / "config").write_text(json.dumps(config))

    for command in (("top",), ("doctor",), ("why", "x"), ("catalog", "status"), ("explain", "pod", "x")):
        done = user.podsla(*command, "--kubeconfig", str(file))
        assert (done.returncode, done.stdout) == (3, ""), command
        assert "the API server did not answer" in done.stderr
        assert "Traceback" not in done.stderr

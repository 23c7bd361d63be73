"""Edits of catalogues that are wrong: who says so, where, and that pods are admitted with what was right."""

import json
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from catalog.keys import CATALOG
from kube.api import ApiError, Object
from kube.kinds import CONTROLLER_REVISIONS, PODS, SPEC_CATALOGS
from tests.builders import container, pod, review
from tests.cluster.install import NAMESPACE, PODSLA, ROOT, service_account_kubeconfig
from tests.cluster.network import LOOPBACK, free_ports
from tests.cluster.processes import start, stop, wait_ready
from tests.cluster.state import Cluster
from tests.system.told import logged, notes
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

SMALL: Final = container(requests={"cpu": "100m", "memory": "64Mi"})
FLOOR: Final = "floor: {vcpu: 100m, memory: 128Mi, network: {pps: 100k}}"
BASE: Final = """{sizes: [{name: edits.g1.large, vcpu: 4, memory: 8Gi, network: {pps: 1M}}],
classes: [{name: edits-spare, sizes: {families: [edits.g1]}}]}"""
TEAM: Final = f"{{classes: [{{name: edits-team, {FLOOR}, sizes: {{families: [edits.g1]}}, fallback: [edits-spare]}}]}}"


def catalog(name: str, spec: str) -> dict[str, Any]:
    """A SpecCatalog of a spec in YAML."""
    head = {"apiVersion": "podsla.io/v1beta1", "kind": "SpecCatalog", "metadata": {"name": name}}
    return {**head, "spec": yaml.safe_load(spec)}


def write(user: User, name: str, spec: str) -> int:
    """`kubectl apply` a catalogue that the API server takes; its generation."""
    done = user.apply(catalog(name, spec))
    assert (done.returncode, done.stderr) == (0, "")
    return int(found(user, name)["metadata"]["generation"])


def found(user: User, name: str) -> Object:
    """A catalogue that is there."""
    return user.api.call("GET", SPEC_CATALOGS.path(name=name))


def judged(user: User, name: str, generation: int) -> Any:
    """Wait for the controller's word on this edit: the condition."""

    def condition() -> Any:
        status = found(user, name)["status"]
        said = {condition["type"]: condition for condition in status["conditions"]}["Accepted"]  # not at first
        assert status["observedGeneration"] == said["observedGeneration"] == generation
        return said

    return eventually(condition, f"edit {generation} of {name} is judged")


def accepted(user: User, name: str, spec: str) -> None:
    """Write an edit that is right, and wait until it serves."""
    said = judged(user, name, write(user, name, spec))
    assert (said["status"], said["reason"]) == ("True", "Accepted"), said["message"]


def reserved_pps(user: User) -> str:
    """What a new pod of the team's class gets now: packets/s; or why it is refused."""
    document = pod("edits-team", containers=[SMALL], metadata={"namespace": "default"})
    try:
        sized = user.api.call("POST", PODS.path("default"), {"dryRun": "All"}, document)
    except ApiError as refused:
        return str(refused)
    return str(sized["spec"]["containers"][0]["resources"]["requests"].get("podsla.io/pps"))


def row(user: User, name: str) -> list[str]:
    """What `kubectl get speccatalog` prints of a catalogue, without its pods, which are counted later, and its age."""
    head, line = user.kubectl("get", "speccatalog", name).stdout.splitlines()
    assert head.split() == ["NAME", "ACCEPTED", "REASON", "CLASSES", "SIZES", "PODS", "AGE"]
    return line[: head.index("PODS")].split()


@pytest.fixture(scope="module")
def names(user: User) -> Iterator[tuple[str, ...]]:
    """Two catalogues: sizes and a spare class, and a team's class that leans on both."""
    yield "edits-base", "edits-team"
    for name in ("edits-team", "edits-base"):  # nobody leans on what is gone
        user.api.delete(SPEC_CATALOGS, name)
        eventually(lambda name=name: user.api.get(SPEC_CATALOGS, name) is None)  # type: ignore[misc]


@pytest.fixture
def two(user: User, names: tuple[str, ...]) -> None:
    """Both as they were at first, and serving."""
    items = [catalog(name, spec) for name, spec in zip(names, (BASE, TEAM), strict=True)]
    assert user.apply({"apiVersion": "v1", "kind": "List", "items": items}).returncode == 0
    for name in names:  # one may be refused until the other is seen
        generation = found(user, name)["metadata"]["generation"]
        eventually(lambda name=name, n=generation: judged(user, name, n)["status"] == "True", name)  # type: ignore[misc]
    eventually(lambda: reserved_pps(user) == "100k", "the webhook serves both")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param("{clases: []}", 'unknown field "spec.clases"', id="a typo in a field"),
        pytest.param(
            "{classes: [{name: a, floor: {network: {ppps: 1}}}]}",
            'unknown field "spec.classes[0].floor.network.ppps"',
            id="a typo deep inside",
        ),
        pytest.param(
            "{sizes: [{name: a, vcpu: 4, memory: 8Gi}, {name: b, vcpu: 4x, memory: 8Gi}]}",
            'spec.sizes[1].vcpu: Invalid value: "4x": must be vCPUs, more than 0; write 4 or 500m',
            id="no quantity",
        ),
        pytest.param(
            "{sizes: [{name: a, vcpu: 4, memory: 8Gi, network: {pps: 600K}}]}",
            'spec.sizes[0].network.pps: Invalid value: "600K": must be a quantity of 1 or more',
            id="a thousand written K",
        ),
        pytest.param(
            "{classes: [{name: a, fallback: [a]}]}",
            "spec.classes[0].fallback: Invalid value: a class cannot be its own fallback; remove it from the list",
            id="its own fallback",
        ),
        pytest.param(
            "{classes: [{name: a}, {name: a}]}",
            "spec.classes: Invalid value: two classes have one name; rename or remove one",
            id="two classes of one name",
        ),
        pytest.param(
            "{classes: [{name: a, tunable: {memory: {}}}]}",
            "spec.classes[0].tunable: Invalid value: can be tuned: cpu.baseMHz, network.pps, network.queues",
            id="what no pod may tune",
        ),
        pytest.param(
            "{classes: [{name: a, reserve: all}]}",
            'spec.classes[0].reserve: Unsupported value: "all": supported values: "size", "ask"',
            id="a word that is none of those",
        ),
    ],
)
def test_a_slip_is_refused_at_kubectl_and_the_catalogue_stays(user: User, two: None, spec: str, field: str) -> None:
    before = found(user, "edits-team")

    done = user.apply(catalog("edits-team", spec))

    assert (done.returncode, done.stdout) == (1, "")
    assert field in done.stderr
    assert found(user, "edits-team") == before


FASTER: Final = TEAM.replace("100k", "200k")  # what an edit would change, were it right
REFUSED: Final = "catalogue refused, its last good revision serves on"


@pytest.mark.parametrize(
    ("name", "edit", "reason", "problem"),
    [
        pytest.param(
            "edits-team",
            FASTER.replace("families: [edits.g1]", "families: [edits.g1, edits.g2]"),
            "InvalidCatalog",
            "spec.classes[0].sizes.families: 'edits.g2' is no family; did you mean edits.g1?",
            id="a family that no catalogue has",
        ),
        pytest.param(
            "edits-team",
            FASTER.replace("families: [edits.g1]", "families: [edits.g1], names: [edits.g1.xlarge]"),
            "InvalidCatalog",
            "spec.classes[0].sizes.names: 'edits.g1.xlarge' is no size; did you mean edits.g1.large or ecs.i1.xlarge?",
            id="a size that no catalogue has",
        ),
        pytest.param(
            "edits-team",
            FASTER.replace("[edits-spare]", "[edits-spar]"),
            "InvalidCatalog",
            "spec.classes[0].fallback: 'edits-spar' is no class; did you mean edits-spare or edits-team?",
            id="a fallback that no catalogue has",
        ),
        pytest.param(
            "edits-team",
            FASTER.replace("200k", "2M"),
            "InvalidCatalog",
            "spec.classes[0].floor.network.pps: network.pps is 2M, and the best allowed size has 1M; lower it or allow "
            "other sizes",
            id="a floor that no size holds",
        ),
        pytest.param(
            "edits-team",
            FASTER.replace("}]}", "}, {name: edits-spare, description: Mine.}]}"),
            "NameTaken",
            "spec.classes[1].name: 'edits-spare' is defined at speccatalog/edits-base spec.classes[0] already with "
            "other figures; rename or remove one",
            id="a class that another catalogue defines differently",
        ),
        pytest.param(
            "edits-base",
            BASE.replace("name: edits-spare", "name: edits-other"),
            "BreaksCatalog",
            "breaks speccatalog/edits-team: spec.classes[0].fallback: 'edits-spare' is no class; did you mean "
            "edits-team or edits-other?",
            id="a class is removed that another catalogue leans on",
        ),
        pytest.param(
            "edits-base",
            BASE.replace("1M", "50k"),
            "BreaksCatalog",
            "breaks speccatalog/edits-team: spec.classes[0].floor.network.pps: network.pps is 100k, and the best "
            "allowed size has 50k; lower it or allow other sizes",
            id="a size is lowered below the floor of another catalogue's class",
        ),
    ],
)
def test_what_only_the_controller_sees_is_told_and_pods_get_the_last_good_one(
    user: User, beside: Cluster, two: None, name: str, edit: str, reason: str, problem: str
) -> None:
    """Seen to fail where the last good one serves no longer than it is the newest: nothing of it is served."""
    serving = found(user, name)["status"]["serving"]

    said = judged(user, name, write(user, name, edit))

    assert (said["status"], said["reason"]) == ("False", reason)
    assert said["message"] == f"{problem}; {serving[:19]} is served on"
    thing = found(user, name)
    assert thing["status"]["serving"] == serving
    assert row(user, name) == [name, "False", reason, "1", "1" if name == "edits-base" else "0"]
    eventually(lambda: problem in notes(user, thing, reason), "an event tells it")
    assert len(logged(beside, REFUSED, level="error", catalog=name, reason=reason, first=[problem])) == 1
    gauge = f'podsla_catalog_accepted{{catalog="{name}"}}'
    eventually(lambda: user.metrics(beside, "controller")[gauge] == 0, "the controller counts it as refused")
    assert reserved_pps(user) == "100k"

    accepted(user, name, FASTER if name == "edits-team" else BASE)

    assert row(user, name)[1:3] == ["True", "Accepted"]
    eventually(lambda: user.metrics(beside, "controller")[gauge] == 1, "the controller counts it as accepted")
    eventually(lambda: reserved_pps(user) == ("200k" if name == "edits-team" else "100k"), "what was repaired serves")


def test_edits_that_are_right_only_together_are_accepted_together(user: User, two: None) -> None:
    """In whichever order they come: the one that waits is refused meanwhile, and accepted without a further edit."""
    first = write(user, "edits-base", BASE.replace("edits-spare", "edits-other"))
    assert judged(user, "edits-base", first)["reason"] == "BreaksCatalog"

    accepted(user, "edits-team", TEAM.replace("edits-spare", "edits-other").replace("100k", "300k"))

    eventually(lambda: row(user, "edits-base")[1] == "True", "the edit that waited is accepted")
    eventually(lambda: reserved_pps(user) == "300k", "both serve")


def test_the_webhook_compiles_anew_for_an_edit_and_for_no_status(user: User, beside: Cluster, two: None) -> None:
    def compiled() -> int:
        lines = map(json.loads, beside.log("podsla-webhook").read_text().splitlines())
        return sum(line["message"] == "serving" for line in lines)

    accepted(user, "edits-team", FASTER)
    eventually(lambda: reserved_pps(user) == "200k", "all that was written before serves")
    before = compiled()

    for sizes in (7, 8, 9):  # the controller writes the right count again: statuses, and nothing else
        user.api.patch(SPEC_CATALOGS, "edits-team", {"status": {"sizes": sizes}}, subresource="status")
        eventually(lambda: found(user, "edits-team")["status"]["sizes"] == 0, "the controller counts anew")
    accepted(user, "edits-team", FASTER.replace("200k", "300k"))
    eventually(lambda: reserved_pps(user) == "300k", "the edit serves")

    assert compiled() == before + 1


@pytest.fixture
def another_replica(user: User, beside: Cluster) -> Iterator[Callable[[], str]]:
    """Start a further webhook beside the cluster, once; the URL that it answers at."""
    begun = []

    def run() -> str:
        port = free_ports(["webhook"], beside.ports.values())["webhook"]
        config = service_account_kubeconfig(beside, "podsla-webhook")
        argv = [str(PODSLA), "webhook", "--kubeconfig", str(config), "--address", LOOPBACK, "--port", str(port)]
        begun.append(start(beside, "podsla-webhook-2", argv, cwd=ROOT))
        url = f"https://{LOOPBACK}:{port}"
        wait_ready(beside, "a further webhook", lambda: curl(f"{url}/readyz") == "ok\n", begun[0])
        return url

    yield run
    for process in begun:
        stop(process)


def curl(url: str, body: Any = None) -> str:
    """GET, or POST a body as JSON."""
    sent = ["--json", json.dumps(body)] if body is not None else []
    argv = ["curl", "--silent", "--insecure", *sent, url]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def test_a_replica_that_starts_while_an_edit_is_bad_serves_the_last_good_one(
    user: User, two: None, another_replica: Callable[[], str]
) -> None:
    """Seen to fail where a replica reads what the catalogue says now, and where the last good one serves no longer."""
    wrong = write(user, "edits-team", FASTER.replace("[edits-spare]", "[nobody]"))
    assert judged(user, "edits-team", wrong)["status"] == "False"

    url = another_replica()

    def answered() -> str:
        named = pod("edits-team", containers=[SMALL], metadata={"namespace": "default"})
        answer = json.loads(curl(f"{url}/mutate", review(named, namespace="default")))["response"]
        return b64decode(answer["patch"]).decode() if answer["allowed"] else str(answer["status"]["message"])

    assert '"podsla.io/pps":"100k"' in answered()
    accepted(user, "edits-team", FASTER)
    eventually(lambda: '"podsla.io/pps":"200k"' in answered(), "the repaired edit serves there too")


def test_a_catalogue_that_is_deleted_and_made_anew_has_none_of_its_predecessors_revisions(
    user: User, two: None
) -> None:
    old = found(user, "edits-team")["metadata"]["uid"]
    assert user.kubectl("delete", "speccatalog", "edits-team").returncode == 0
    eventually(lambda: "class 'edits-team' is in no catalogue" in reserved_pps(user), "the class is gone")

    said = judged(user, "edits-team", write(user, "edits-team", FASTER.replace("[edits-spare]", "[nobody]")))

    assert (said["status"], said["reason"]) == ("False", "InvalidCatalog")
    assert said["message"].endswith("; nothing of it is served")
    assert "serving" not in found(user, "edits-team")["status"]
    assert "class 'edits-team' is in no catalogue" in reserved_pps(user)

    accepted(user, "edits-team", FASTER)
    eventually(lambda: reserved_pps(user) == "200k", "the new one serves")
    new = found(user, "edits-team")["metadata"]["uid"]
    assert new != old
    eventually(lambda: owners(user, "edits-team") == {new}, "what was kept of the old one is collected")


def owners(user: User, name: str) -> set[str]:
    """Who owns the kept revisions of a catalogue."""
    kept = user.api.list(CONTROLLER_REVISIONS, NAMESPACE, labelSelector=f"{CATALOG}={name}")
    return {owner["uid"] for thing in kept for owner in thing["metadata"]["ownerReferences"]}


# --- podsla catalog apply ---------------------------------------------------------------------------------------------


def file_of(folder: Path, name: str, spec: str) -> Path:
    """Write a catalogue to a file; its spec begins at line 4."""
    path = folder / f"{name}.yaml"
    path.write_text(f"apiVersion: podsla.io/v1beta1\nkind: SpecCatalog\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    return path


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        pytest.param(
            FASTER.replace("pps", "ppps"),
            ":4: spec.classes[0].floor.network.ppps: is not a field here; did you mean pps?",
            id="a typo, seen in the file",
        ),
        pytest.param(
            "{classes: [{name: edits-team}, {name: edits-team}]}",
            "spec.classes: Invalid value: two classes have one name; rename or remove one",
            id="two classes of one name, seen by the API server",
        ),
    ],
)
def test_of_a_set_of_files_with_a_wrong_one_nothing_is_sent(
    user: User, two: None, tmp_path: Path, wrong: str, problem: str
) -> None:
    before = [found(user, name) for name in ("edits-base", "edits-team")]
    good, bad = file_of(tmp_path, "edits-base", BASE.replace("1M", "3M")), file_of(tmp_path, "edits-team", wrong)

    done = user.podsla("catalog", "apply", str(good), str(bad))

    assert (done.returncode, done.stdout) == (3, "")
    told, end = done.stderr.splitlines()
    assert told.startswith(str(bad))
    assert told.endswith(problem)
    assert end == "1 problem; nothing was taken over"
    assert [found(user, name) for name in ("edits-base", "edits-team")] == before


def test_two_files_of_one_catalogue_are_not_sent_one_over_the_other(user: User, two: None, tmp_path: Path) -> None:
    before = found(user, "edits-base")
    (tmp_path / "more").mkdir()
    one, other = file_of(tmp_path, "edits-base", BASE), file_of(tmp_path / "more", "edits-base", "{classes: []}")

    done = user.podsla("catalog", "apply", str(one), str(other))

    said = (
        f"{other}:3: metadata.name: {one} has a catalogue 'edits-base' too, and one would replace the other; rename one"
    )
    assert (done.returncode, done.stderr) == (3, f"{said}\n1 problem; nothing was taken over\n")
    assert found(user, "edits-base") == before


def test_of_a_set_that_the_controller_takes_in_part_each_is_told(user: User, two: None, tmp_path: Path) -> None:
    good = file_of(tmp_path, "edits-base", BASE.replace("1M", "3M"))
    bad = file_of(tmp_path, "edits-team", FASTER.replace("[edits-spare]", "[nobody]"))
    serving = found(user, "edits-team")["status"]["serving"]

    done = user.podsla("catalog", "apply", str(good), str(bad))

    assert done.returncode == 1
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows == [
        ["CATALOG", "ACCEPTED", "REASON", "SIZES", "CLASSES", "SERVING"],
        ["edits-base", "True", "Accepted", "1", "1", found(user, "edits-base")["status"]["serving"]],
        ["edits-team", "False", "InvalidCatalog", "0", "1", serving],
    ]
    assert done.stderr.startswith("edits-team: spec.classes[0].fallback: 'nobody' is no class; ")
    assert done.stderr.endswith(f"; {serving[:19]} is served on\n")
    assert reserved_pps(user) == "100k"

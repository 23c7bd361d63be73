"""Edits of the target, of which a cluster has one: a wrong one is told, and the last good one serves on."""

from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from catalog.keys import TARGET
from catalog.load import shipped_targets
from kube.api import ApiError, Object
from kube.kinds import CONFIG_MAPS, CONTROLLER_REVISIONS, PODS
from tests.builders import container, pod
from tests.cluster.install import NAMESPACE
from tests.cluster.state import Cluster
from tests.system.told import logged, notes
from tests.system.user import User
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

KUBERNETES: Final = shipped_targets()["kubernetes"].read_text()
CNI: Final = "by: cni-bandwidth"
CNI_LINE: Final = 1 + next(at for at, line in enumerate(KUBERNETES.splitlines()) if CNI in line)


def target(name: str) -> str:
    """The shipped target under another name: refusals say it, and nothing else changes."""
    return KUBERNETES.replace("name: kubernetes", f"name: {name}")


def write(user: User, data: Mapping[str, str]) -> Object:
    """`kubectl apply` the target's ConfigMap."""
    metadata = {"name": "podsla-target", "namespace": NAMESPACE}
    assert user.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}).returncode == 0
    thing = user.api.get(CONFIG_MAPS, "podsla-target", NAMESPACE)
    assert thing is not None
    return thing


def served(user: User) -> str:
    """The name of the target that serves, as a refusal tells it."""
    document = pod("every-figure", containers=[container(requests={"cpu": "9k"})], metadata={"namespace": "default"})
    with pytest.raises(ApiError) as refused:
        user.api.call("POST", PODS.path("default"), {"dryRun": "All"}, document)
    return str(refused.value).partition("on target '")[2].partition("'")[0]


@pytest.fixture(scope="module")
def good(user: User) -> Iterator[None]:
    """A target that serves; afterwards the cluster has the shipped one again."""
    write(user, {"target.yaml": target("good")})
    eventually(lambda: served(user) == "good", "the target serves")
    yield
    user.api.delete(CONFIG_MAPS, "podsla-target", NAMESPACE)
    for kept in user.api.list(CONTROLLER_REVISIONS, NAMESPACE, labelSelector=TARGET):
        user.api.delete(CONTROLLER_REVISIONS, kept["metadata"]["name"], NAMESPACE)
    eventually(lambda: served(user) == "kubernetes", "the shipped target serves again")


@pytest.mark.parametrize(
    ("data", "problem", "repaired"),
    [
        pytest.param({}, "configmap/podsla-target has no key target.yaml; add it", "with-its-key", id="no key"),
        pytest.param(
            {"target.yaml": "spec: {"},
            "configmap/podsla-target:2: this is not YAML: did not find expected node content",
            "in-yaml",
            id="no YAML",
        ),
        pytest.param(
            {"target.yaml": target("wrong").replace(CNI, "by: cni-bandwith")},
            f"configmap/podsla-target:{CNI_LINE}: spec.consumers[2].by: cannot be 'cni-bandwith'; did you mean "
            "cni-bandwidth or eci-bandwidth?",
            "with-cni",
            id="a consumer that does not exist",
        ),
    ],
)
def test_a_bad_target_is_told_and_the_last_good_one_serves(
    user: User, beside: Cluster, good: None, data: Mapping[str, str], problem: str, repaired: str
) -> None:
    before = served(user)

    thing = write(user, data)

    eventually(lambda: problem in notes(user, thing, "InvalidTarget"), "an event tells it")
    (line,) = logged(beside, "target refused, the last good one serves on", first=problem)
    assert line["level"] == "error"
    eventually(lambda: user.metrics(beside, "controller")["podsla_target_accepted"] == 0, "it counts as refused")
    assert served(user) == before

    write(user, {"target.yaml": target(repaired)})

    eventually(lambda: served(user) == repaired, "the repaired target serves")
    eventually(lambda: user.metrics(beside, "controller")["podsla_target_accepted"] == 1, "it counts as accepted")

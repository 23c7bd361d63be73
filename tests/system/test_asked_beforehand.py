"""What `classes`, `explain -f` and `admit -f` say beforehand is what the cluster then does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from catalog.keys import DOMAIN, RECORD, SIZE
from kube.api import Object
from kube.kinds import PODS, SPEC_CATALOGS
from tests.builders import container, pod
from tests.system.user import User

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

SMALL: Final = container(requests={"cpu": "100m", "memory": "128Mi"})
Namespace = Callable[..., str]


def small(sla_class: str | None, namespace: str = "") -> dict[str, Any]:
    """A pod that is called web."""
    found = pod(sla_class, containers=[SMALL])
    return {**found, "metadata": {**found["metadata"], "name": "web", "namespace": namespace}}


def written(folder: Path, thing: Object) -> str:
    (file := folder / "pod.json").write_text(json.dumps(thing))
    return str(file)


def ours(thing: Object) -> dict[str, Any]:
    """Everything that podsla wrote into a pod."""
    metadata, spec = thing["metadata"], thing["spec"]
    written = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return {
        "keys": {key: value for key, value in written.items() if key.startswith(DOMAIN)},
        "resources": [spec.get("resources"), *(each.get("resources") for each in spec["containers"])],
        "affinity": spec.get("affinity"),
    }


def test_classes_are_those_that_the_cluster_serves(user: User) -> None:
    served = user.podsla("classes", "-o", "json")
    names = {one["name"] for one in json.loads(served.stdout)}
    published = [one for thing in user.api.list(SPEC_CATALOGS) for one in thing["spec"].get("classes") or ()]

    assert "every-figure" in names
    assert names <= {one["name"] for one in published}
    assert served.stderr.startswith(f"by what {user.api.address} serves: revision sha256:"), served.stderr

    shipped = user.podsla("classes", "-o", "json", "--target", "kubernetes")
    assert "every-figure" not in shipped.stdout
    assert ("general" in shipped.stdout, shipped.stderr) == (True, "")


def test_admit_says_what_the_api_server_stores(user: User, namespace: Namespace, tmp_path: Path) -> None:
    there = namespace(default_class="every-figure")
    file = written(tmp_path, small(None, there))

    said = user.podsla("admit", "-f", file, "-o", "json")
    assert user.kubectl("apply", "-f", file).returncode == 0
    stored = user.api.get(PODS, "web", there)

    assert stored is not None
    assert {SIZE, RECORD} <= ours(stored)["keys"].keys()
    assert ours(json.loads(said.stdout)) == ours(stored)
    quiet = user.podsla("admit", "-f", file, "-q")
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_explain_looks_for_the_pod_where_n_says(user: User, namespace: Namespace, tmp_path: Path) -> None:
    there = namespace(default_class="every-figure")
    file = written(tmp_path, small(None))

    found = json.loads(user.podsla("explain", "-f", file, "-n", there, "-o", "json").stdout)
    assert (found["outcome"], found["class"], found["catalog"]) == ("sized", "every-figure", "mission")
    other = json.loads(user.podsla("explain", "-f", file, "-o", "json").stdout)
    assert other["outcome"] == "left alone", "the namespace of the context has no default class"
    given = user.podsla("explain", "-f", file, "--namespace-labels", "podsla.io/default-class=general", "-o", "json")
    assert json.loads(given.stdout)["class"] == "general"


def test_a_namespace_that_is_not_there_is_named(user: User, tmp_path: Path) -> None:
    done = user.podsla("explain", "-f", written(tmp_path, small("general", "to-come")))

    assert done.returncode == 0
    assert "namespace to-come is not there, or not yours to see" in done.stderr


def test_a_cluster_that_cannot_answer_is_never_stood_in_for(user: User, tmp_path: Path) -> None:
    file = written(tmp_path, small("general"))
    config = json.loads(user.kubectl("config", "view", "--raw", "-o", "json").stdout)
    for one in config["clusters"]:
        one["cluster"]["server"] = "https://127.0.0.1:9"
    (dead := tmp_path / "config").write_text(json.dumps(config))
    advice = "; --target kubernetes asks the shipped catalogue and no cluster\n"

    for command in (("classes",), ("explain", "-f", file), ("admit", "-f", file)):
        done = user.podsla(*command, "--kubeconfig", str(dead))
        assert (done.returncode, done.stdout, done.stderr.endswith(advice)) == (3, "", True), done.stderr
        assert "the API server did not answer" in done.stderr
        elsewhere = user.podsla(*command, "--podsla-namespace", "default")
        assert (elsewhere.returncode, elsewhere.stdout, elsewhere.stderr.endswith(advice)) == (3, "", True)
        assert "a revision that is served is not in namespace default" in elsewhere.stderr
        assert user.podsla(*command, "--target", "kubernetes").returncode == 0

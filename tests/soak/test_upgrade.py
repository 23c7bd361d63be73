"""
From this revision of the product to an earlier one and back, while pods are created.

Old code runs with the dependencies of today. There is one version of each kind of object, `v1beta1`, so the API server
converts nothing; the CustomResourceDefinitions are applied as they were and as they are.
"""

import subprocess
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest

from catalog.keys import RECORD, SIZE
from kube.kinds import PODS
from tests.builders import container, pod
from tests.cluster.install import ROOT
from tests.soak.events import Event, roll
from tests.soak.report import lines
from tests.soak.soak import soak
from tests.soak.stand import HOME, Stand

pytestmark = pytest.mark.cluster

EARLIER: Final = "32d0caf"
"""The first that ends without losing calls; since then the CRD of catalogues, the controller's rights and the notes of
what served have changed. A later one takes its place when what is stored changes again."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of that revision."""
    found = subprocess.run(["git", "archive", EARLIER], cwd=ROOT, capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"revision {EARLIER} is not in this checkout: clone it with its history")
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def change(made: Stand, source: Path) -> None:
    """Apply other manifests, replace the controllers, then the replicas one by one."""
    made.source = source
    made.apply()
    for name in list(made.controllers):
        made.start_controller()
        made.end_controller(name)
    roll(made)


def create(made: Stand, annotations: Mapping[str, str]) -> dict[str, Any]:
    """Create a pod in a dry run, and give what it would be."""
    asked = pod(None, annotations=annotations, containers=[container(requests={"cpu": "500m", "memory": "1Gi"})])
    document = {**asked, "metadata": {**asked["metadata"], "name": "sized", "namespace": HOME}}
    return made.api.call("POST", PODS.path(HOME), {"dryRun": "All"}, document)


def copy(made: Stand, sized: Mapping[str, Any]) -> dict[str, Any]:
    """Create what was sized before once more, with its record, as a backup that is restored does."""
    kept = {key: sized["metadata"][key] for key in ("annotations", "labels")}
    spec = {key: value for key, value in sized["spec"].items() if key not in ("volumes", "serviceAccount")}
    spec["containers"] = [{**one, "volumeMounts": []} for one in spec["containers"]]
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {**kept, "name": "copied"}, "spec": spec}
    return made.api.call("POST", PODS.path(HOME), {"dryRun": "All"}, document)


def decided(found: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a pod is podsla's doing."""
    spec, metadata = found["spec"], found["metadata"]
    resources = [one.get("resources") for one in spec["containers"]]
    return metadata["labels"][SIZE], metadata["annotations"][RECORD], spec.get("resources"), resources, spec["affinity"]


def test_to_an_earlier_revision_and_back_no_pod_fails_and_records_are_read(made: Stand, earlier: Path) -> None:
    """Each revision is given pods with the records of the other, and decides as the other did."""
    asked = {"podsla.io/class": "net-intensive", "podsla.io/min-pps": "1500000"}
    copies: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def back_and_forth(made: Stand) -> None:
        for source in (earlier, ROOT):
            before = create(made, asked)
            change(made, source)
            copies.append((before, copy(made, before)))

    told = soak(made, 0.0, 0, [Event("rolled back and upgraded", back_and_forth)], lambda _: None)
    text = "\n".join(lines(told))
    print(text)

    assert told.failed(planned=True) == [], text
    assert told.unmutated == 0, text
    assert told.unpublished == set(), text
    for before, copied in copies:
        assert decided(copied) == decided(before)

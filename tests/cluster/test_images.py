"""Images without a registry: what goes into them, and what of them is sent to a machine that has most of it."""

import json
import os
import shutil
import tarfile
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.cluster.archives import AGNHOST, PAUSE, PODSLA, REPOSITORY, build, build_context, summary, write_archive
from tests.cluster.binaries import cache_folder
from tests.cluster.images import load
from tests.cluster.imagestore import identity, thin
from tests.cluster.profile import Profile
from tests.cluster.state import Cluster, ClusterError

LAYER_DIGEST = "sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"  # of b"foo\n"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An image of one layer, `foo`."""
    write_archive(tmp_path / "image.tar", "docker.io/local/x:1", b"foo\n", {"User": "1:1"})
    return tmp_path / "image.tar"


@pytest.mark.parametrize(
    ("present", "sent"),
    [
        pytest.param(frozenset(), {LAYER_DIGEST}, id="an empty store is sent every layer"),
        pytest.param(frozenset({LAYER_DIGEST}), set(), id="a layer that is there is not sent again"),
    ],
)
def test_thin_sends_only_what_is_missing(archive: Path, present: frozenset[str], sent: set[str]) -> None:
    """The manifest names every layer all the same."""
    thin(archive, present, archive.with_name("thin.tar"))
    with tarfile.open(archive.with_name("thin.tar")) as tar:
        blobs = {name.removeprefix("blobs/").replace("/", ":") for name in tar.getnames() if name.startswith("blobs/")}
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
        (image,) = index["manifests"]
        manifest = json.load(tar.extractfile(f"blobs/{image['digest'].replace(':', '/')}"))  # type: ignore[arg-type]

    assert (image["annotations"]["io.containerd.image.name"], image["digest"]) == identity(archive)
    assert identity(archive)[0] == "docker.io/local/x:1"
    assert [(layer["digest"], layer["size"]) for layer in manifest["layers"]] == [(LAYER_DIGEST, 4)]
    assert blobs == {image["digest"], manifest["config"]["digest"], *sent}


def test_every_package_of_the_distribution_is_in_the_build_context() -> None:
    """A package that .dockerignore forgets would be missing in the image only."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    wanted = {name for name in packages if any(fnmatch(name, pattern) for pattern in patterns)}

    assert wanted
    assert wanted <= {path.name for path in build_context()}


def test_an_image_that_is_neither_a_file_nor_ours_is_refused(tmp_path: Path) -> None:
    """The message says what would do."""
    cluster = Cluster("x", Profile(host=True), tmp_path, "10.89.0.1", {})

    with pytest.raises(ClusterError) as refused:
        load(cluster, "nginx:1")

    assert str(refused.value) == f"image 'nginx:1' is neither a file nor one of ours: {PODSLA}, {PAUSE}, {AGNHOST}"


@pytest.mark.nodes
def test_the_image_of_podsla_is_small_and_no_root_runs_it() -> None:
    """Built by the Containerfile; a second build finds the first."""
    if os.geteuid() != 0 or not shutil.which("buildah") or not shutil.which("mmdebstrap"):
        pytest.skip("root, buildah and mmdebstrap are needed: run tests/cluster/install-packages as root")
    archive = build(cache_folder())
    with tarfile.open(archive) as tar:
        listed = json.load(tar.extractfile("manifest.json"))[0]  # type: ignore[arg-type]
        config = json.load(tar.extractfile(listed["Config"]))["config"]  # type: ignore[arg-type]
        sizes = [tar.getmember(name).size for name in listed["Layers"]]

    assert build(cache_folder()) == archive
    assert listed["RepoTags"] == [PODSLA]
    assert (config["User"], config["Entrypoint"]) == ("65532:65532", ["podsla"])
    assert not config.get("ExposedPorts")
    assert not [line for line in config["Env"] if "PIP" in line]  # nothing of this machine's settings
    assert len(sizes) == 4  # base, its library compiled, dependencies, project
    assert sum(sizes) < 240e6, summary(archive)
    assert sizes[-1] < 5e6, summary(archive)

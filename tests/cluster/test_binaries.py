"""Where programs are looked for."""

from pathlib import Path

import pytest

from tests.cluster import binaries
from tests.cluster.pins import PINS, STAGES
from tests.cluster.state import ClusterError


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set an empty cache, and a folder of assets with an etcd in it."""
    monkeypatch.setenv("PODSLA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TEST_ASSET_ETCD", raising=False)
    folder = tmp_path / "assets"
    folder.mkdir()
    (folder / "etcd").touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(folder))
    return folder


def test_the_assets_folder_comes_before_the_cache(assets: Path) -> None:
    """As envtest has it."""
    binaries.folder("etcd").mkdir(parents=True)
    (binaries.folder("etcd") / "etcd").touch()

    assert binaries.find("etcd") == assets / "etcd"


def test_a_variable_of_its_own_comes_first(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One program may be another without the rest being moved."""
    own = assets.parent / "my-etcd"
    own.touch()
    monkeypatch.setenv("TEST_ASSET_ETCD", str(own))

    assert binaries.find("etcd") == own


@pytest.mark.usefixtures("assets")
def test_a_variable_that_leads_nowhere_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program in its place would be a surprise."""
    monkeypatch.setenv("TEST_ASSET_ETCD", f"{tmp_path}/gone")

    with pytest.raises(ClusterError) as caught:
        binaries.find("etcd")

    assert (
        str(caught.value) == f"TEST_ASSET_ETCD names {tmp_path}/gone, which does not exist; correct it, or leave it out"
    )


def test_the_cache_comes_last(assets: Path) -> None:
    """A program that no variable names is found where it was built."""
    binaries.folder("kubectl").mkdir(parents=True)
    (binaries.folder("kubectl") / "kubectl").touch()

    assert binaries.ensure(["etcd", "kubectl"]) == {
        "etcd": assets / "etcd",
        "kubectl": binaries.folder("kubectl") / "kubectl",
    }


@pytest.mark.usefixtures("assets")
def test_without_go_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be built, and nothing is half-built."""
    monkeypatch.setattr(binaries, "_go", lambda: None)
    monkeypatch.setattr(binaries, "_go_version", lambda: None)

    with pytest.raises(ClusterError) as caught:
        binaries.find("kubectl")

    assert str(caught.value) == (
        f"kubectl: not in {binaries.cache_folder()} or KUBEBUILDER_ASSETS, and Go, which builds them, is not there; "
        "install Go 1.26 (https://go.dev/dl) and put it on PATH, or set KUBEBUILDER_ASSETS"
    )


@pytest.mark.usefixtures("assets")
def test_without_go_what_was_built_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only building needs Go."""
    built = binaries.folder("kubectl")
    built.mkdir(parents=True)
    (built / "kubectl").touch()
    monkeypatch.setattr(binaries, "_go_version", lambda: None)

    assert binaries.find("kubectl") == built / "kubectl"


def test_another_pin_of_one_module_leaves_what_was_built_of_others() -> None:
    """A first build takes ten minutes; a new kwok is no reason for it."""
    assert binaries.folder("kubectl") == binaries.folder("kube-apiserver")
    assert binaries.folder("kwok") == binaries.folder(STAGES)
    assert len({binaries.folder(pin.binaries[0].name) for pin in PINS}) == len(PINS)

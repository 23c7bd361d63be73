"""Fixtures and settings that every layer may use."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Of speed the layer's own time is judged; pods that get no size are filtered out, and how many is chance.
_UNJUDGED = [HealthCheck.too_slow, HealthCheck.filter_too_much]
settings.register_profile("default", deadline=None, max_examples=25, suppress_health_check=_UNJUDGED)
settings.register_profile("ci", settings.get_profile("default"), max_examples=60, derandomize=True, print_blob=True)
settings.register_profile("deep", settings.get_profile("default"), max_examples=1000, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Find the public data beside the repository; skip by name where this machine has none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is missing: the public data sets lie beside the repository")
    return folder


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Name no cluster, whatever whoever runs the tests has set."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))

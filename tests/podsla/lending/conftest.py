"""A fake API server, a stand-in for the agent and one for CUDA."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.podsla.lending.agent import StandInAgent
from tests.podsla.lending.apiserver import FakeApiServer, serving

SOURCE = Path(__file__).parent / "libcuda.c"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, libcuda: str) -> Path:
    """Where the device will be, and what looks for it there."""
    folder = tmp_path / "dev"
    folder.mkdir()
    monkeypatch.setenv("PODSLA_GPU_DEVICES", str(folder / "nvidia[0-9]*"))
    monkeypatch.setenv("STAND_IN_GPU", str(folder / "nvidia0"))
    monkeypatch.setenv("STAND_IN_CUDA", libcuda)
    return folder / "nvidia0"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApiServer]:
    """The API server, for a pod named eval-x."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    with serving(folder) as server:
        monkeypatch.setenv("PODSLA_SERVICE_ACCOUNT", str(folder))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.server_address[1]))
        monkeypatch.setenv("POD_NAME", "eval-x")
        monkeypatch.delenv("POD_NAMESPACE", raising=False)
        yield server


@pytest.fixture
def agent(server: FakeApiServer, node: Path) -> Iterator[StandInAgent]:
    """The agent of the fake API server."""

    def read() -> list[Any]:
        with server.changed:
            return list(server.objects.values())

    def write(thing: Any, status: dict[str, Any]) -> None:
        with server.changed:
            now = server.objects[thing["metadata"]["name"]]
            server.put({**now, "status": {**now.get("status", {}), **status}})

    with StandInAgent(read, write, node) as agent:
        yield agent


@pytest.fixture(scope="session")
def libcuda(tmp_path_factory: pytest.TempPathFactory) -> str:
    """CUDA's driver library, as far as these tests need it."""
    library = tmp_path_factory.mktemp("cuda") / "libcuda.so.1"
    try:
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
    except FileNotFoundError:
        pytest.skip("gcc is missing: the stand-in for CUDA is compiled")
    return str(library)

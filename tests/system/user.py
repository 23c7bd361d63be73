"""EDGE: what a person does at the command line: kubectl and podsla, against one cluster."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_kind import KindCluster

from kube.api import Api
from kube.kinds import SPEC_CATALOGS
from tests.cluster.state import Cluster


@dataclass(frozen=True)
class User:
    """
    Somebody with a kubeconfig.

    Attributes:
        podsla_path: The program `podsla`.
    """

    cluster: KindCluster
    podsla_path: Path
    api: Api = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "api", Api.connect(self.kubeconfig))

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return Path(self.cluster.kubeconfig_path)

    def kubectl(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl; *text* goes to its standard input."""
        return self._run(str(self.cluster.kubectl_path), *arguments, text=text)

    def podsla(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run podsla with this kubeconfig in its environment."""
        return self._run(str(self.podsla_path), *arguments)

    def apply(self, document: Mapping[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
        """`kubectl apply` one document."""
        return self.kubectl("apply", *arguments, "-f", "-", text=json.dumps(document))

    def metrics(self, beside: Cluster, name: str) -> dict[str, float]:
        """Read what a process beside the cluster counts: by the name of the series, with its labels."""
        scheme = "https" if name == "webhook" else "http"
        url = f"{scheme}://127.0.0.1:{beside.ports[f'podsla-{name}']}/metrics"
        text = subprocess.run(
            ["curl", "--silent", "--insecure", url], capture_output=True, text=True, check=True
        ).stdout
        series = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {key: float(value) for key, _, value in series}

    def _run(self, *argv: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return subprocess.run(argv, env=env, input=text, capture_output=True, text=True, check=False)


def save_catalogs(api: Api, folder: Path) -> Path:
    """Write the catalogues of the cluster into a folder that `podsla --catalog` reads, and name it."""
    catalogs = folder / "catalogs"
    catalogs.mkdir()
    for thing in api.list(SPEC_CATALOGS):
        name = thing["metadata"]["name"]
        (catalogs / f"{name}.json").write_text(json.dumps({**thing, "metadata": {"name": name}}))
    return catalogs

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

    def _run(self, *argv: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return subprocess.run(argv, env=env, input=text, capture_output=True, text=True, check=False)

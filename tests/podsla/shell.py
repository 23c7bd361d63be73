"""EDGE: somebody who runs `podsla` in a folder of files, with no cluster named anywhere."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from podsla.cli import main

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: p, annotations: {podsla.io/class: net-intensive}}
spec:
  futureField: 1.50
  containers: [{name: app, image: x, resources: {requests: {cpu: 0.5}}}]
"""
CATALOG = """\
apiVersion: podsla.io/v1beta1
kind: SpecCatalog
metadata: {name: mine}
spec:
  classes:
  - {name: steady, description: Mine., floor: {cpu: {baseMHz: 3000}}, sizes: {families: [ecs.hfc7]}}
"""


@dataclass(frozen=True)
class Ran:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


class Shell:
    """Runs `podsla` in a folder of files."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.capsys = folder, capsys
        monkeypatch.chdir(folder)

    def file(self, name: str, text: str) -> str:
        """Write a file."""
        (self.folder / name).write_text(text)
        return name

    def run(self, *arguments: str) -> Ran:
        """Run a command."""
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = self.capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        assert "Traceback" not in captured.err
        return Ran(code, captured.out, captured.err)

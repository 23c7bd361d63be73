"""Fixtures of the command line."""

from pathlib import Path

import pytest

from tests.podsla.shell import Shell


@pytest.fixture
def shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_cluster: None
) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)

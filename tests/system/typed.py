"""EDGE: somebody who types in what a document says, with a state folder of their own."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.leftovers import snapshot
from tests.cluster.lifecycle import down
from tests.cluster.state import load_cluster

OF_MAKE: Final = ("KUBECONFIG", "PROFILE", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")


@contextmanager
def typist(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> Iterator[dict[str, str]]:
    """The environment of somebody who names no cluster yet; whatever cluster they leave is taken down."""
    monkeypatch.setenv("PODSLA_STATE", str(folder / "state"))
    monkeypatch.setenv("NAME", name)
    for variable in OF_MAKE:  # of `make test`
        monkeypatch.delenv(variable, raising=False)
    try:
        yield dict(os.environ)
    finally:
        if load_cluster(name) is not None:
            down(name, print)


def run(script: str, env: Mapping[str, str], cwd: Path) -> str:
    """Type lines into one shell; every one must end well."""
    argv = ["bash", "-e", "-c", script]
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def processes() -> list[str]:
    """What runs out of the state folder."""
    return [line for line in snapshot() if line.startswith("process ")]

"""EDGE: kubectl, where it must succeed; and what it builds of manifests/."""

from pathlib import Path
from typing import Any

import yaml

from tests.system.user import User

MANIFESTS = Path(__file__).parents[2] / "manifests"


def run(admin: User, *arguments: str, text: str | None = None) -> str:
    """Run kubectl and read what it printed."""
    done = admin.kubectl(*arguments, text=text)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(admin: User, folder: str) -> list[dict[str, Any]]:
    """Read the documents that kustomize makes of a folder of manifests/."""
    return list(yaml.safe_load_all(run(admin, "kustomize", str(MANIFESTS / folder))))


def named(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """Find one document."""
    (found,) = (d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name)
    return found

"""EDGE: the webhook in Go (`bench/peers`): built once, and given a class that has one size."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from podsla.output import note
from tests.cluster.binaries import cache_folder
from tests.cluster.state import ClusterError

GO: Final = "Go webhook"
PEERS: Final = Path(__file__).parent / "peers"
FLOOR: Final = "600k"  # of class net-intensive


def fixed_class(patch: Sequence[Mapping[str, Any]], domain: str) -> dict[str, Any]:
    """Make what podsla wrote into the pod of the bench a class that has that size alone."""
    added = {each["path"]: each["value"] for each in patch if each["op"] == "add"}
    key = domain.replace("/", "~1")
    record = json.loads(added[f"/metadata/annotations/{key}record"])
    figures = {name: one["offer"] for name, one in record["dimensions"].items()}
    return {
        "Name": record["class"],
        "Size": record["size"],
        "Record": added[f"/metadata/annotations/{key}record"],
        "Domain": domain,
        "CPU": figures["vcpu"],
        "Memory": figures["memory"],
        "PPS": figures["network.pps"],
        "Floor": FLOOR,
        "Affinity": added["/spec/affinity"],
    }


def build() -> Path:
    """
    Build the webhook in Go once; it stays beside the cluster's programs.

    Raises:
        ClusterError: There is no Go, or it cannot build it.
    """
    files = [PEERS / name for name in ("go.mod", "go.sum", "main.go")]
    pinned = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
    made = cache_folder() / "binaries" / f"peers-{pinned}" / "webhook"
    if made.exists():
        return made
    note("building the webhook in Go …", style="dim")
    go = shutil.which("go") or "/usr/local/go/bin/go"
    made.parent.mkdir(parents=True, exist_ok=True)
    written = made.with_suffix(f".{os.getpid()}")
    argv = [go, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(written), "."]
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    try:
        done = subprocess.run(argv, cwd=PEERS, env=env, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ClusterError(f"cannot build {PEERS}: {error}; install Go and put it on PATH") from None
    if done.returncode:
        raise ClusterError(f"cannot build {PEERS}; go says:\n{done.stderr[-2000:]}")
    return written.replace(made)

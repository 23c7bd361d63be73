"""EDGE: what tests of real nodes need of this machine; without it they are skipped, and in CI they fail."""

import os
import re
import shutil
from pathlib import Path
from typing import Final

import pytest

PROGRAMS: Final = ("buildah", "mmdebstrap", "ip", "iptables-save", "mke2fs", "qemu-img", "qemu-system-x86_64")
CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}


def need_real_nodes() -> None:
    """Skip, or fail, where this machine can be no node."""
    if os.geteuid() != 0:
        pytest.skip("real nodes make network links and cgroups: root is needed")
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        absent(f"missing: {', '.join(missing)}; run tests/cluster/install-packages")
    if lacks := lacking():
        absent(f"root lacks here: {', '.join(lacks)}")


def absent(what: str) -> None:
    """Skip; in CI, where root can have all that is needed, fail."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(what)


def lacking() -> list[str]:
    """Name what a root in a container may be without."""
    granted = re.search(r"^CapEff:\s+(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    capabilities = int(granted[1], 16) if granted else 0
    found = {name: bool(capabilities >> number & 1) for name, number in CAPABILITIES.items()}
    return [name for name, there in {**found, "/dev/net/tun": Path("/dev/net/tun").exists()}.items() if not there]

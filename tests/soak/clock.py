"""EDGE: a wall clock of its own for a process, which is stepped while it runs (Linux, with a C compiler)."""

import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from tests.cluster.state import Cluster

SOURCE: Final = Path(__file__).with_suffix(".c")
COMPILER: Final = shutil.which("cc")


class Clock:
    """The wall clock of the process that is started with `env`, and of its children; those that wait are not moved."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.step_file, self._library = cluster.data / f"{name}.step", cluster.data / "clock.so"
        self.set(timedelta())
        if not self._library.exists():
            argv = [COMPILER or "cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(self._library), str(SOURCE)]
            subprocess.run(argv, check=True)

    @property
    def env(self) -> Mapping[str, str]:
        """What a process is started with."""
        return {"LD_PRELOAD": str(self._library), "CLOCK_STEP": str(self.step_file)}

    def set(self, ahead: timedelta) -> None:
        """Put it so far ahead of the machine's, or behind, at once."""
        step = os.open(self.step_file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(step, struct.pack("q", int(ahead.total_seconds())), 0)  # in place: the file is mapped
        finally:
            os.close(step)

"""A clock that is stepped under a process that runs: what tells the time sees it, what waits does not."""

import os
import select
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.network import LOOPBACK
from tests.cluster.profile import parse_profile
from tests.cluster.state import Cluster
from tests.soak.clock import COMPILER, Clock
from tests.soak.stand import WAIT_S

CLOSE_S: Final = 600.0  # nothing takes as long, and every step is longer
PROGRAM: Final = """
import sys, threading, time
for _ in sys.stdin:
    time.sleep(0.01)
    threading.Event().wait(0.01)
    print(time.time(), time.monotonic(), flush=True)
"""


@pytest.mark.skipif(COMPILER is None, reason="a C compiler is needed: run tests/cluster/install-packages soak as root")
def test_a_clock_is_stepped_under_a_process_that_runs(tmp_path: Path) -> None:
    cluster = Cluster("clock", parse_profile("control-plane"), tmp_path, LOOPBACK, {})
    cluster.data.mkdir()
    clock = Clock(cluster, "clock")
    pipe = subprocess.PIPE
    argv = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(argv, env={**os.environ, **clock.env}, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for hours in (0, 30, -30, 0):
                clock.set(timedelta(hours=hours))
                process.stdin.write(b"\n")
                process.stdin.flush()
                assert select.select([process.stdout], [], [], WAIT_S)[0], f"it waits on, {hours} hours ahead"
                wall_s, waiting_s = map(float, process.stdout.readline().split())
                assert abs(wall_s - time.time() - hours * 3600) < CLOSE_S
                assert abs(waiting_s - time.monotonic()) < CLOSE_S
        finally:
            process.kill()

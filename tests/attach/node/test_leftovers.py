"""A test run that is killed leaves containers behind; the next one finds and undoes them."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.attach.node.containers import Machine, leftovers, undo
from tests.waiting import eventually

STARTED = """
import sys
from attach.model import CgroupVersion
from tests.attach.node.containers import Runtime, build_root, build_workload, hierarchies, machine, new_target
with machine() as here:
    root = build_root(here.folder, build_workload(here.folder), busybox=False)
    version = next(iter(hierarchies()))
    print(Runtime("runc", version, here, root).start(new_target()).pid, here.name, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_run_left_is_found_by_name_and_undone(here: Machine) -> None:
    assert here.name not in leftovers()
    run = subprocess.Popen([sys.executable, "-c", STARTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with run:
        assert run.stdout is not None
        pid, name = run.stdout.readline().split()
        assert name not in leftovers()
        run.send_signal(signal.SIGKILL)
    eventually(lambda: name in leftovers(), "its folder and its cgroups are found")
    os.kill(int(pid), 0)
    undo(name)

    assert name not in leftovers()
    assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()  # a zombie
    assert not Path(tempfile.gettempdir(), name).exists()

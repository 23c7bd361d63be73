"""EDGE: `make demo-attach`: a running container gets a device and gives it back; all that is said is what was seen."""

import errno
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from attach.model import CgroupVersion, DeviceNode
from tests.attach.node.containers import Runtime, build_root, build_workload, hierarchies, in_version, machine
from tests.attach.node.files import PODSLA, attachment, write_desired, write_inventory
from tests.attach.node.world import RealWorld, stand_ins

GRACE_S: Final = 1


def main(version: CgroupVersion) -> None:
    """Denied, attached, used, told to go, still held, closed, denied."""
    with machine() as made:
        build_workload(made.folder)
        build_root(made.folder, made.folder / "workload", busybox=False)
        world = RealWorld(Runtime("runc", version, made, made.folder / "distroless"), hierarchies()[version])
        try:
            workload, device = world.start(), stand_ins()[0]
            files = write_inventory(made.folder, [device], first=1)
            title(f"a container, unprivileged, by runc on cgroup {version}; {device.path} stands for a GPU")
            tries(workload, device)
            title("attach: the rule, then the node, then one open as the container would")
            wanted = attachment("eval-42", workload.target, "GPU-1", gracePeriodSeconds=GRACE_S)
            agent(version, files, write_desired(made.folder, wanted))
            tries(workload, device)
            workload.holds(device.path)
            title("release, while the container has it open")
            released = write_desired(made.folder, {**wanted, "release": True})
            agent(version, files, released)
            time.sleep(GRACE_S + 0.1)
            agent(version, files, released)
            tries(workload, device)
            title("it closes the device")
            workload.lets_go()
            agent(version, files, released)
            tries(workload, device)
        finally:
            world.close()


def title(text: str) -> None:
    print(f"\n# {text}", flush=True)


def tries(workload: Any, device: DeviceNode) -> None:
    """Have the container's own process open the device."""
    error = workload.opens(device.path)
    print(f"in the container: open {device.path}: {errno.errorcode[error] if error else 'ok'}", flush=True)


def agent(version: CgroupVersion, files: list[str], desired: Path) -> None:
    """One pass of the agent, and what it left; version 2 may have to be looked for in a mount namespace of its own."""
    print("$ podsla agent --desired desired.yaml --once", flush=True)
    argv = [*PODSLA, "agent", "--desired", str(desired), *files, "--once"]
    done = subprocess.run(in_version(version, argv), capture_output=True, text=True, check=False)
    for line in done.stderr.splitlines():
        print(f"  {told(line)}", flush=True)
    print("$ podsla gpu inspect", flush=True)
    subprocess.run(in_version(version, [*PODSLA, "gpu", "inspect", *files]), check=False)


def told(line: str) -> str:
    """Shorten a line of the agent's log; what is none stands as it is."""
    try:
        fields = json.loads(line)
        return f"{fields['from'] or 'new'} → {fields['to']}: {fields['detail']}"
    except (ValueError, KeyError):
        return line


if __name__ == "__main__":
    main(CgroupVersion(sys.argv[1] if len(sys.argv) > 1 else "v2"))

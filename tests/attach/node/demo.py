"""EDGE: `make demo-attach`: a running container gets a device and gives it back; all that is said is what was seen."""

import errno
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from attach.model import CgroupVersion, DeviceNode, Target
from tests.attach.node.containers import Runtime, build_root, build_workload, hierarchies, in_version, machine
from tests.attach.node.world import RealWorld, stand_ins

PODSLA: Final = Path(sys.executable).parent / "podsla"
GRACE_S: Final = 1


def main(version: CgroupVersion) -> None:
    """Denied, attached, used, told to go, still held, closed, denied."""
    with machine() as made:
        build_workload(made.folder)
        build_root(made.folder, made.folder / "workload", busybox=False)
        world = RealWorld(Runtime("runc", version, made, made.folder / "distroless"), hierarchies()[version])
        try:
            workload, device = world.start(), stand_ins()[0]
            files = write_inventory(made.folder, device)
            title(f"a container, unprivileged, by runc on cgroup {version}; {device.path} stands for a GPU")
            tries(workload, device)
            title("attach: the rule, then the node, then one open as the container would")
            agent(version, files, write_desired(made.folder, workload.target))
            tries(workload, device)
            workload.holds(device.path)
            title("release, while the container has it open")
            released = write_desired(made.folder, workload.target, release=True)
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


def write_inventory(folder: Path, device: DeviceNode) -> list[str]:
    gpu = {"uuid": "GPU-1", "path": device.path, "major": device.major, "minor": device.minor}
    body = {"apiVersion": "podsla.io/v1beta1", "kind": "NodeInventory", "gpus": [gpu]}
    (folder / "inventory.yaml").write_text(json.dumps(body))
    return ["--inventory", str(folder / "inventory.yaml"), "--state", str(folder / "state")]


def write_desired(folder: Path, target: Target, **fields: Any) -> Path:
    attachment = {
        "uid": "eval-42",
        "namespace": target.namespace,
        "podName": target.pod,
        "podUID": target.uid,
        "containerID": f"containerd://{target.container_id}",
        "devices": ["GPU-1"],
        "renewTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "leaseSeconds": 900,
        "gracePeriodSeconds": GRACE_S,
        **fields,
    }
    body = {"apiVersion": "podsla.io/v1beta1", "kind": "NodeAttachments", "attachments": [attachment]}
    (folder / "desired.yaml").write_text(json.dumps(body))
    return folder / "desired.yaml"


def agent(version: CgroupVersion, files: list[str], desired: Path) -> None:
    """One pass of the agent; version 2 may have to be looked for in a mount namespace of its own."""
    argv = [str(PODSLA), "agent", "--desired", str(desired), *files, "--once"]
    subprocess.run(in_version(version, argv), stdout=subprocess.PIPE, text=True, check=False)
    show = [str(PODSLA), "gpu", "inspect", *files]
    print("$ podsla agent --desired desired.yaml --once && podsla gpu inspect", flush=True)
    subprocess.run(in_version(version, show), check=False)


if __name__ == "__main__":
    main(CgroupVersion(sys.argv[1] if len(sys.argv) > 1 else "v2"))

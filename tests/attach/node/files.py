"""The files that an agent without a cluster reads, and its command."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from attach.model import DeviceNode, Target

PODSLA: Final = (sys.executable, "-m", "podsla")
_API: Final = "podsla.io/v1beta1"


def write_inventory(
    folder: Path, devices: Sequence[DeviceNode], first: int = 0, companions: Sequence[DeviceNode] = ()
) -> list[str]:
    """Call devices GPU-0, GPU-1, …, which all need *companions*; the options that name this file and a journal."""
    gpus = [
        {"uuid": f"GPU-{number}", **asdict(at), "companions": [asdict(each) for each in companions]}
        for number, at in enumerate(devices, start=first)
    ]
    (folder / "inventory.yaml").write_text(json.dumps({"apiVersion": _API, "kind": "NodeInventory", "gpus": gpus}))
    return ["--inventory", str(folder / "inventory.yaml"), "--state", str(folder / "state")]


def attachment(uid: str, target: Target, device: str, **fields: Any) -> dict[str, Any]:
    """Want one device for one container, from now on."""
    return {
        "uid": uid,
        "namespace": target.namespace,
        "podName": target.pod,
        "podUID": target.uid,
        "containerID": f"containerd://{target.container_id}",
        "devices": [device],
        "renewTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "leaseSeconds": 900,
        **fields,
    }


def write_desired(folder: Path, *attachments: dict[str, Any]) -> Path:
    """Say which attachments a node shall have."""
    body = {"apiVersion": _API, "kind": "NodeAttachments", "attachments": attachments}
    new, file = folder / "desired.yaml.new", folder / "desired.yaml"
    new.write_text(json.dumps(body))
    new.replace(file)
    return file

"""EDGE: asks NVML for GPUs and MIG devices, prints JSON; run as a child, since NVML may hang and keeps GPUs open."""

import json
import sys
from typing import Any, Final

NOT_INSTALLED: Final = 3
_MAX_MIG: Final = 64


def _mig_devices(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    found = []
    for index in range(min(nvml.nvmlDeviceGetMaxMigDeviceCount(handle), _MAX_MIG)):
        try:
            device = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError_NotFound:
            continue
        found.append(
            {
                "uuid": nvml.nvmlDeviceGetUUID(device),
                "gi": nvml.nvmlDeviceGetGpuInstanceId(device),
                "ci": nvml.nvmlDeviceGetComputeInstanceId(device),
            }
        )
    return found


def _is_in_mig_mode(nvml: Any, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError_NotSupported:
        return False


def _gpu(nvml: Any, index: int) -> dict[str, Any]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        in_mig_mode = _is_in_mig_mode(nvml, handle)
        return {
            "uuid": nvml.nvmlDeviceGetUUID(handle),
            "minor": nvml.nvmlDeviceGetMinorNumber(handle),
            "mig": in_mig_mode,
            "devices": _mig_devices(nvml, handle) if in_mig_mode else [],
            "unhealthy": "",
        }
    except nvml.NVMLError as error:
        return {"index": index, "unhealthy": str(error)}


def main() -> None:
    """Print what NVML says, as JSON."""
    try:
        import pynvml as nvml
    except ImportError:
        sys.exit(NOT_INSTALLED)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError_LibraryNotFound:
        sys.exit(NOT_INSTALLED)
    count = nvml.nvmlDeviceGetCount()
    print(json.dumps({"gpus": [_gpu(nvml, index) for index in range(count)]}))


if __name__ == "__main__":
    main()

"""What children of these tests do."""

import ctypes
import os
import signal
import time
from typing import Any


def use_cuda(library: str) -> dict[str, Any]:
    """Start CUDA, and say how that went, where, and what is visible."""
    return {
        "cuInit": ctypes.CDLL(library).cuInit(0),
        "pid": os.getpid(),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "nvidia": os.environ.get("NVIDIA_VISIBLE_DEVICES"),
    }


class OddError(Exception):
    """Does not survive pickling."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__("odd")


def fail(kind: str) -> None:
    """End otherwise than by a result."""
    if kind == "raise":
        raise KeyError("no such prompt")
    if kind == "odd":
        raise OddError(1, 2)
    if kind == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(seconds: float, mark: str = "") -> str:
    """Take a while, and say first that it began."""
    if mark:
        with open(mark, "w") as file:
            file.write(str(os.getpid()))
    time.sleep(seconds)
    return "slept"


def unpicklable() -> Any:
    """Give back what cannot be sent."""
    return lambda: None


def big(size: int) -> bytes:
    """Give back more than a pipe holds."""
    return b"x" * size

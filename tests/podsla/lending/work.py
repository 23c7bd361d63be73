"""What children of these tests do: each first starts CUDA, or what stands in for it, and so has the device open."""

import ctypes
import os
import signal
import sys
import time
from typing import Any


def start_cuda() -> None:
    """Start CUDA; it finds the device, or this fails."""
    assert ctypes.CDLL(os.environ["STAND_IN_CUDA"]).cuInit(0) == 0


def program(code: str) -> list[str]:
    """Write a command that starts CUDA, and then runs *code*; it needs nothing but Python, from whichever folder."""
    start = "import ctypes, os, sys, time\nassert ctypes.CDLL(os.environ['STAND_IN_CUDA']).cuInit(0) == 0"
    return [sys.executable, "-S", "-E", "-c", f"{start}\n{code}"]


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
    start_cuda()
    if kind == "raise":
        raise KeyError("no such prompt")
    if kind == "odd":
        raise OddError(1, 2)
    if kind == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(seconds: float, mark: str = "") -> str:
    """Take a while, and say first that it began."""
    start_cuda()
    if mark:
        with open(mark, "w") as file:
            file.write(str(os.getpid()))
    time.sleep(seconds)
    return "slept"


def unpicklable() -> Any:
    """Give back what cannot be sent."""
    start_cuda()
    return lambda: None


def big(size: int) -> bytes:
    """Give back more than a pipe holds."""
    start_cuda()
    return b"x" * size

"""
What runs in the container of test_nvidia.py: asks NVML and CUDA, each in a child, for both remember their first answer.

It speaks as workload.c does: a request is "VERB [ARGUMENT]", an answer "ERRNO TEXT". Standard library, and pynvml
beside this file.
"""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable


def try_open(path: str) -> str:
    """Open a device and close it."""
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return f"{error.errno}"
    return "0"


def ask_nvml(_: str) -> str:
    """List the GPUs that NVML sees; one that can't be opened has no handle."""
    import pynvml as nvml

    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        seen = [nvml.nvmlDeviceGetUUID(handle) for handle in handles]
    except nvml.NVMLError as error:
        return f"1 {error}"
    return f"0 {' '.join(seen)}"


def use_cuda(_: str) -> str:
    """Make a context on the first GPU and use its memory, by the driver's own library: no CUDA runtime is needed."""
    cuda, count, context, memory = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    calls: tuple[Callable[[], int], ...] = (
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDeviceGetCount(ctypes.byref(count)),
        lambda: 0 if count.value else 100,  # CUDA_ERROR_NO_DEVICE
        lambda: cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0),
        lambda: cuda.cuCtxSetCurrent(context),
        lambda: cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(1 << 20)),
    )
    return next((f"{code} call {number}" for number, call in enumerate(calls) if (code := call())), "0")


VERBS: dict[str, Callable[[str], str]] = {"try": try_open, "nvml": ask_nvml, "cuda": use_cuda}


def serve(connection: socket.socket, request: str) -> None:
    """Answer in a child that ends then; one that was asked to stay keeps what it has until it is killed."""
    stays = request.startswith("stay ")
    verb, _, argument = request.removeprefix("stay ").partition(" ")
    if os.fork():
        return
    try:
        connection.send(VERBS[verb](argument).encode())
        connection.close()
        while stays:
            signal.pause()
    finally:
        os._exit(0)


def main() -> None:
    """Answer one request at a time."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(sys.argv[1])
        listener.listen(4)
        while True:
            connection, _ = listener.accept()
            with connection:
                if request := connection.recv(512):
                    serve(connection, request.decode())


if __name__ == "__main__":
    main()

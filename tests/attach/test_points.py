"""
Whatever outlives the agent has a crash point around it; found in the code, so that none can be forgotten.

Statuses and metrics, which every pass writes anew, are left out.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parents[2] / "attach"
EFFECTS: Final = {
    "os.mkdir", "os.mknod", "os.unlink", "os.write", "signal.pidfd_send_signal", "new.replace", "self.folder.mkdir",
    "call _LOAD", "call _ATTACH", "call _DETACH", "dbus.call SetUnitProperties", "os.open O_CREAT",
}  # fmt: skip
HARMLESS: Final = {
    "os.close", "os.dup", "os.fsdecode", "os.fsencode", "os.fstat", "os.fsync", "os.geteuid", "os.getpid",
    "os.listdir", "os.major", "os.makedev", "os.minor", "os.open", "os.path.exists", "os.path.isdir",
    "os.pidfd_open", "os.read", "os.readlink", "os.scandir", "os.stat", "os.strerror", "os.walk",
    "os._exit", "fcntl.flock", "signal.signal", "socket.socket", "os.setegid", "os.seteuid", "os.setgroups",
    "os.umask", "subprocess.Popen", "peer.sendall",
    "call _INFO", "call _QUERY", "call _FD_BY_ID", "dbus.call Get", "_libc.statx", "_libc.syscall",
}  # fmt: skip
ELSEWHERE: Final = {
    "store.__enter__": "the folder of the journal and its lock: empty, and found again",
    "opener._attempt": "a child's own place among the cgroups, which it leaves, or ends",
    "opener._go_home": "a child's own place among the cgroups, which it leaves, or ends",
}
OF_THE_SYSTEM: Final = ("os.", "signal.", "socket.", "subprocess.", "fcntl.", "shutil.", "ctypes.CDLL", "_libc.")
OF_FILES: Final = {
    "write_text", "write_bytes", "touch", "mkdir", "rmdir", "unlink", "rename", "chmod", "symlink_to", "hardlink_to",
    "sendall", "send",
}  # fmt: skip

SAID: Final = ("Get", "SetUnitProperties")  # of what is asked of systemd


def name_of(call: ast.Call) -> str:
    """Name what is called, and of a call that does many things which; "" where it asks nothing of the system."""
    name = ast.unparse(call.func)
    words = [ast.unparse(argument).strip("'") for argument in call.args]
    if name in ("call", "dbus.call"):
        return f"{name} {words[0] if name == 'call' else next(word for word in words[1:] if word in SAID)}"
    if name == "os.open":
        return "os.open O_CREAT" if "O_CREAT" in ast.unparse(call) else name
    if "(" in name:  # a method of what another call gave
        return ""
    method = name.rpartition(".")[2]
    is_a_path = method == "replace" and "." in name and len(words) == 1  # that of a text takes two
    return name if name.startswith(OF_THE_SYSTEM) or method in OF_FILES or is_a_path else ""


def calls(module: Path) -> Iterator[tuple[str, str, bool]]:
    """Give every call of a function: the function, what it calls, and whether it is a crash point."""
    for function in ast.walk(ast.parse(module.read_text())):
        if isinstance(function, ast.FunctionDef):
            declared = any(ast.unparse(each).startswith("point(") for each in function.decorator_list)
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and (name := name_of(call)):
                    yield f"{module.stem}.{function.name}", name, declared


CALLS: Final = [each for module in sorted(FOLDER.glob("*.py")) for each in calls(module)]


@pytest.mark.parametrize("place", sorted({place for place, _, _ in CALLS}))
def test_every_effect_has_a_crash_point(place: str) -> None:
    for where, name, declared in CALLS:
        if where == place:
            assert name in EFFECTS | HARMLESS, f"{place} calls {name}: say whether that outlives the process"
            assert name in HARMLESS or declared or place in ELSEWHERE, f"{place} calls {name}: declare it by `point`"


def test_what_is_listed_is_in_the_code() -> None:
    assert {name for _, name, _ in CALLS} >= EFFECTS | HARMLESS
    assert {place for place, name, declared in CALLS if name in EFFECTS and not declared} == set(ELSEWHERE)

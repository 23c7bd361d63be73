"""Borrowing in code, against a fake API server and with stand-ins for the agent and for CUDA."""

import ast
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from podsla import gpu
from tests.podsla.lending.agent import UUID, StandInAgent, condition
from tests.podsla.lending.apiserver import FakeApiServer, bound, unreadable
from tests.podsla.lending.work import big, fail, program, sleep, unpicklable, use_cuda
from tests.waiting import eventually

pytestmark = pytest.mark.wire

OURS: dict[str, Any] = {"timeout": 20.0}


def in_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, which starts CUDA as often as it likes."""
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


def settled(server: FakeApiServer) -> dict[str, Any]:
    """The attachment once it was released."""
    eventually(lambda: "Released" in json.dumps(server.only()["status"]), "it is released")
    return server.only()


def revoke_after(mark: Path, server: FakeApiServer) -> None:
    """Take it back as soon as the child has begun."""

    def later() -> None:
        eventually(mark.exists, "the child has begun")
        revoke(server)

    threading.Thread(target=later).start()


def test_a_call_runs_in_a_process_of_its_own_that_has_the_device(
    server: FakeApiServer, agent: StandInAgent, node: Path, libcuda: str
) -> None:
    found = gpu.call(use_cuda, libcuda, **OURS)

    assert found == {"cuInit": 0, "pid": found["pid"], "visible": UUID, "nvidia": UUID}
    assert found["pid"] != os.getpid()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert settled(server)["spec"]["release"] is True
    assert not node.exists()


def test_the_attachment_asks_for_what_was_said(server: FakeApiServer, agent: StandInAgent) -> None:
    with gpu(count=2, models=["A10"], container="worker", lease=60, grace=7, policy="Terminate", **OURS) as lent:  # type: ignore[operator]
        assert lent.uuids == (UUID,)
        spec = server.only()["spec"]
    assert spec == {
        "podName": "eval-x", "container": "worker", "resource": "nvidia.com/gpu", "count": 2, "models": ["A10"],
        "leaseSeconds": 60, "gracePeriodSeconds": 7, "detachPolicy": "Terminate",
    }  # fmt: skip


def test_children_have_it_and_end_before_it_goes(server: FakeApiServer, agent: StandInAgent, node: Path) -> None:
    with gpu.borrow(**OURS) as lent:
        said = lent.run(
            program("print(os.environ['CUDA_VISIBLE_DEVICES'], sys.stdin.read()); sys.exit(3)"),
            input="in", capture_output=True, text=True,
        )  # fmt: skip
        child = lent.Popen(program("time.sleep(60)"))

    assert (said.returncode, said.stdout) == (3, f"{UUID} in\n")
    assert child.returncode == -15
    settled(server)


def test_a_bound_token_says_which_pod_this_is(server: FakeApiServer, agent: StandInAgent) -> None:
    server.let_in(bound("bound", "u-1"))
    with gpu.borrow(**OURS):
        spec = server.only()["spec"]
    assert (spec["podName"], spec["podUID"]) == ("bound", "u-1")


OTHERS = [
    pytest.param({"podName": "eval-y"}, {}, "pod eval-y", id="another pod"),
    pytest.param({"podName": "eval-x", "podUID": "u-0"}, {}, "pod eval-x (UID u-0)", id="one that had the name before"),
    pytest.param({"podName": "eval-x"}, {"podUID": "u-0"}, "pod eval-x (UID u-0)", id="that, as the controller found"),
    pytest.param({"podName": "eval-x", "container": "b"}, {}, "container b of pod eval-x", id="another container"),
]


def another(server: FakeApiServer, spec: Any, status: Any) -> dict[str, Any]:
    """Somebody else's attachment, which has a device."""
    conditions = {"conditions": [condition("Reserved"), condition("Attached")], "devices": [{"uuid": UUID}]}
    return server.put({"metadata": {"name": "shared"}, "spec": spec, "status": {**conditions, **status}})


@pytest.mark.parametrize(("spec", "status", "whose"), OTHERS)
def test_what_is_somebody_elses_is_not_taken_up(
    server: FakeApiServer, agent: StandInAgent, spec: Any, status: Any, whose: str
) -> None:
    server.let_in(bound("eval-x", "u-1"))
    theirs = another(server, spec, status)
    said = f"shared is there, and is for {whose}, not for container worker of pod eval-x (UID u-1); take another name"
    with pytest.raises(gpu.Refused, match=re.escape(said)) as caught:
        gpu.borrow(name="shared", container="worker", **OURS).__enter__()
    assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
    assert server.only() == theirs


def test_what_may_be_somebody_elses_is_not_released(server: FakeApiServer, agent: StandInAgent) -> None:
    """Nobody has seen yet whose it is when the wait is over."""
    theirs = another(server, {"podName": "eval-y"}, {})
    server.fail["POST"] = [(503, "Unavailable")]
    with pytest.raises(gpu.Refused, match="Unavailable"):
        gpu.borrow(name="shared", timeout=0.0).__enter__()
    assert server.only() == theirs


def test_what_is_this_pods_own_is_taken_up(server: FakeApiServer, agent: StandInAgent) -> None:
    server.let_in(bound("eval-x", "u-1"))
    another(server, {"podName": "eval-x", "podUID": "u-1"}, {"podUID": "u-1", "container": "worker"})
    with gpu.borrow(name="shared", container="worker", **OURS) as lent:
        assert lent.uuids == (UUID,)
    settled(server)


def test_a_token_that_was_renewed_is_used_at_once(server: FakeApiServer, agent: StandInAgent) -> None:
    with gpu.borrow(**OURS):
        server.let_in("second")
    settled(server)


def test_its_lease_is_renewed_while_it_is_held(server: FakeApiServer, agent: StandInAgent) -> None:
    with gpu.borrow(lease=1, **OURS):
        first = eventually(lambda: server.only()["spec"].get("renewTime"), "a first renewal")
        eventually(lambda: server.only()["spec"]["renewTime"] > first, "another")
    settled(server)
    eventually(lambda: "podsla-gpu-renew" not in [thread.name for thread in threading.enumerate()], "no one renews")


def test_who_waits_is_told_where_it_stands(server: FakeApiServer, agent: StandInAgent) -> None:
    told: list[str] = []
    agent.paused.set()

    def on_wait(line: str) -> None:
        told.append(line)
        if "place 2" in line:
            agent.paused.clear()
        elif len(told) == 1:
            queued = condition("Reserved", "Queued", true=False, message="2 wait on node n1")
            server.put({**server.only(), "status": {"queuePosition": 2, "conditions": [queued]}})

    with gpu.borrow(on_wait=on_wait, **OURS):
        pass
    assert told[-1] == "Queued, place 2 in the queue: 2 wait on node n1"


def test_a_wait_has_an_end_and_leaves_nothing(server: FakeApiServer, agent: StandInAgent) -> None:
    agent.paused.set()
    queued = condition("Reserved", "NoGPU", true=False, message="all 2 GPUs of n1 are held")

    def on_wait(_: str) -> None:
        server.put({**server.only(), "status": {"conditions": [queued]}})

    with pytest.raises(gpu.WaitTimeout, match=r"no GPU for eval-x-.* in 0\.5 s; it waited at NoGPU: all 2 GPUs"):
        gpu.borrow(timeout=0.5, on_wait=on_wait).__enter__()
    assert settled(server)["spec"]["release"] is True


def test_one_that_fails_says_why(server: FakeApiServer, agent: StandInAgent) -> None:
    agent.paused.set()

    def on_wait(_: str) -> None:
        failed = condition("Failed", "PlaceholderMutated", message="it came back with other containers")
        server.put({**server.only(), "status": {"conditions": [failed]}})

    with pytest.raises(gpu.AttachFailed, match="other containers") as caught:
        gpu.borrow(on_wait=on_wait, **OURS).__enter__()
    assert caught.value.reason == "PlaceholderMutated"


def revoke(server: FakeApiServer) -> None:
    """Take it back, as the agent does when a lease ends."""
    thing = server.only()
    draining = condition("Draining", "LeaseExpired", message="its lease ended")
    server.put({**thing, "status": {**thing["status"], "conditions": [*thing["status"]["conditions"], draining]}})


def test_a_revocation_is_told_and_raised(server: FakeApiServer, agent: StandInAgent) -> None:
    told: list[gpu.Revoked] = []

    def lose() -> None:
        with gpu.borrow(on_revoke=told.append, **OURS) as lent:
            revoke(server)
            eventually(lambda: told, "the callback")
            with pytest.raises(gpu.Revoked):
                lent.run(["true"])

    with pytest.raises(gpu.Revoked, match=r"LeaseExpired: the GPU of eval-x-.* is taken back: its lease ended"):
        lose()
    assert [one.reason for one in told] == ["LeaseExpired"]


def test_a_child_has_the_grace_period_and_no_more(server: FakeApiServer, agent: StandInAgent, tmp_path: Path) -> None:
    mark = tmp_path / "began"
    revoke_after(mark, server)
    with pytest.raises(gpu.Revoked):
        gpu.call(sleep, 60, str(mark), grace=0, **OURS)
    pid = int(mark.read_text())
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the child has ended")


def test_a_child_that_ends_within_the_grace_period_has_its_result(
    server: FakeApiServer, agent: StandInAgent, tmp_path: Path
) -> None:
    mark = tmp_path / "began"
    revoke_after(mark, server)
    with pytest.raises(gpu.Revoked), gpu.borrow(grace=3600, **OURS) as lent:
        assert lent.call(sleep, 1, str(mark)) == "slept"


def test_an_attachment_that_somebody_deletes_is_revoked(server: FakeApiServer, agent: StandInAgent) -> None:
    told: list[gpu.Revoked] = []

    def lose() -> None:
        with gpu.borrow(on_revoke=told.append, **OURS):
            server.delete(server.only()["metadata"]["name"])
            eventually(lambda: told, "the callback")

    with pytest.raises(gpu.Revoked, match="Deleted"):
        lose()


def test_whoever_is_told_of_a_revocation_and_fails_stops_nothing(server: FakeApiServer, agent: StandInAgent) -> None:
    def on_revoke(_: gpu.Revoked) -> None:
        raise KeyError("a fault of the caller's own")

    def lose() -> None:
        with gpu.borrow(on_revoke=on_revoke, grace=0, **OURS) as lent:
            child = lent.Popen(program("print(flush=True); time.sleep(60)"), stdout=subprocess.PIPE)
            assert child.stdout is not None
            with child.stdout as said:
                assert said.readline() == b"\n"
            revoke(server)
            assert child.wait(20) == -signal.SIGTERM

    with pytest.raises(gpu.Revoked):
        lose()
    settled(server)


DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def test_a_child_that_is_waited_for_by_its_caller_has_the_grace_period_and_no_more(
    server: FakeApiServer, agent: StandInAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By TERM after four fifths of it, and where that is not heard by KILL, each of several at its time."""
    monkeypatch.setattr(gpu, "KILL_S", 1.0)
    took_s: list[float] = []
    children: list[subprocess.Popen[bytes]] = []

    def lose() -> None:
        with gpu.borrow(grace=2, **OURS) as lent:
            for script in ("", DEAF, DEAF):
                child = lent.Popen(program(f"{script}\nprint(flush=True); time.sleep(20)"), stdout=subprocess.PIPE)
                assert child.stdout is not None
                with child.stdout as said:
                    assert said.readline() == b"\n"
                children.append(child)
            began_s = time.monotonic()
            revoke(server)
            for child in children:
                child.wait()
                took_s.append(time.monotonic() - began_s)

    with pytest.raises(gpu.Revoked):
        lose()
    assert [child.returncode for child in children] == [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGKILL]
    assert 1.6 <= took_s[0] < 2.4
    assert 2.6 <= took_s[1] <= took_s[2] < 3.4


def test_a_child_hears_once_that_it_has_to_end(server: FakeApiServer, agent: StandInAgent, tmp_path: Path) -> None:
    """Many a program takes a second TERM for impatience, and leaves its work where it is."""
    mark, heard = tmp_path / "began", tmp_path / "heard"
    script = f"""import pathlib, signal, time
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path({str(heard)!r}).open("a").write("x"))
pathlib.Path({str(mark)!r}).touch()
end_s = time.monotonic() + 2
while time.monotonic() < end_s:
    time.sleep(0.01)"""
    revoke_after(mark, server)
    with pytest.raises(gpu.Revoked), gpu.borrow(grace=0, **OURS) as lent:
        lent.run(program(script))
    assert heard.read_text() == "x"


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("raise", KeyError, "no such prompt"),
        ("odd", RuntimeError, "cannot be sent back"),
        ("exit", gpu.ChildDied, "the process of fail ended with 3 before it had answered"),
        ("kill", gpu.ChildDied, "the process of fail was killed by SIGKILL before it had answered"),
    ],
)
def test_a_child_that_fails_says_how_and_gives_it_back(
    server: FakeApiServer, agent: StandInAgent, kind: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gpu.call(fail, kind, **OURS)
    settled(server)


def test_any_result_comes_back_or_says_why_not(server: FakeApiServer, agent: StandInAgent) -> None:
    with gpu.borrow(**OURS) as lent:
        assert len(lent.call(big, 3_000_000)) == 3_000_000
        with pytest.raises(RuntimeError, match="result of unpicklable cannot be sent back"):
            lent.call(unpicklable)


def test_cuda_that_started_without_a_device_is_refused_on_entry(
    server: FakeApiServer, agent: StandInAgent, libcuda: str
) -> None:
    code = f"import ctypes; from podsla import gpu; assert ctypes.CDLL({libcuda!r}).cuInit(0) == 100\nwith gpu(): pass"
    done = in_process(code)
    assert "CudaAlreadyStarted: this process loaded CUDA before it had a GPU" in done.stderr
    assert server.objects == {}


def test_a_call_is_for_those_whose_process_started_cuda_already(
    server: FakeApiServer, agent: StandInAgent, libcuda: str
) -> None:
    code = f"""import ctypes
from podsla import gpu
from tests.podsla.lending.work import use_cuda
assert ctypes.CDLL({libcuda!r}).cuInit(0) == 100
print(gpu.call(use_cuda, {libcuda!r})["cuInit"])"""
    assert in_process(code).stdout == "0\n"


@pytest.mark.parametrize("how", ["cuda", "mapping"])
def test_a_process_that_keeps_it_open_is_named(
    server: FakeApiServer, agent: StandInAgent, node: Path, libcuda: str, how: str
) -> None:
    use = {
        "cuda": f"assert ctypes.CDLL({libcuda!r}).cuInit(0) == 0",
        "mapping": f"fd = os.open({str(node)!r}, os.O_RDONLY)\n"
        # the mmap of Python keeps a descriptor of its own
        "    ctypes.CDLL(None).mmap(None, ctypes.c_size_t(4096), 1, 2, fd, ctypes.c_long(0))\n"
        "    os.close(fd)",
    }[how]
    code = f"""import ctypes, os
from podsla import gpu
try:
  with gpu() as lent:
    {use}
except gpu.GpuStillOpen as error:
    print(error.pid == os.getpid(), error)"""
    done = in_process(code)
    assert done.stdout.startswith("True GpuStillOpen: process "), done.stderr
    assert server.only()["spec"]["release"] is True


def test_what_is_refused_says_what_to_do(server: FakeApiServer) -> None:
    server.fail["POST"] = [(403, "Forbidden")]
    with pytest.raises(gpu.Refused, match="bind the role podsla-gpu-borrower to the pod's service account") as caught:
        gpu.call(big, 1, **OURS)
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")


def test_an_api_server_that_stumbles_is_asked_again(server: FakeApiServer, agent: StandInAgent) -> None:
    server.fail.update(POST=[(503, "Unavailable")], GET=[(500, "InternalError")], PATCH=[(429, "TooManyRequests")])
    server.lose = 1
    with gpu.borrow(**OURS):
        pass
    settled(server)


@pytest.mark.parametrize("name", ["token", "ca.crt"])
def test_a_file_that_cannot_be_read_is_named_and_may_pass(server: FakeApiServer, name: str) -> None:
    api = gpu.InPod()
    said = rf"^Unreachable: cannot read {server.folder}/{name}: .*; mount .* there, and let user {os.getuid()} read it$"
    with unreadable(server.folder / name), pytest.raises(gpu.Refused, match=said) as caught:
        api.call("GET", "/")
    assert gpu.may_pass(caught.value)


def test_a_token_that_is_swapped_at_this_moment_may_pass(server: FakeApiServer) -> None:
    """The kubelet's links: the outer one stays, and what it leads to is replaced."""
    token = server.folder / "token"
    token.unlink()
    token.symlink_to("..data/token")
    with pytest.raises(gpu.Refused, match=r"cannot read .*/token: No such file"):
        gpu.InPod().pod()


WITHOUT_DESCRIPTORS = """import os, resource
from podsla import gpu
api = gpu.InPod()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True:
        os.open("/dev/null", os.O_RDONLY)
except OSError:
    pass
"""


def test_a_process_without_descriptors_can_look_for_nobody_who_has_it_open(server: FakeApiServer) -> None:
    """It goes on to give back what it was lent."""
    done = in_process(f"{WITHOUT_DESCRIPTORS}print(gpu.holder(frozenset({{(1, 5)}})))")
    assert done.stdout == "0\n", done.stderr


def test_a_process_without_descriptors_is_told_to_close_some(server: FakeApiServer) -> None:
    code = """
try:
    api.call("GET", "/")
except gpu.Refused as error:
    print(error)"""
    done = in_process(f"{WITHOUT_DESCRIPTORS}{code}")
    assert done.stdout.startswith("Unreachable: cannot read "), done.stderr
    assert done.stdout.endswith("Too many open files; close some, or raise the limit (ulimit -n)\n")


@pytest.mark.parametrize("name", ["token", "ca.crt"])
def test_one_that_cannot_read_its_files_asks_as_soon_as_it_can(
    server: FakeApiServer, agent: StandInAgent, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with ThreadPoolExecutor() as pool:
        with unreadable(server.folder / name):
            answer = pool.submit(lambda: gpu.call(big, 1, **OURS))
            eventually(lambda: f"cannot read {server.folder}/{name}" in caplog.text or answer.done(), "it is said")
        assert answer.result() == b"x"
    settled(server)


def test_one_that_never_can_read_its_files_says_which(server: FakeApiServer) -> None:
    with unreadable(server.folder / "token"), pytest.raises(gpu.Refused, match=r"cannot read .*/token"):
        gpu.borrow(timeout=0.1).__enter__()
    assert server.objects == {}


@pytest.mark.parametrize("name", ["token", "ca.crt"])
def test_files_that_cannot_be_read_for_a_while_end_no_renewal(
    server: FakeApiServer, agent: StandInAgent, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with gpu.borrow(lease=1, **OURS):
        with unreadable(server.folder / name):
            eventually(lambda: "cannot renew the lease" in caplog.text, "a renewal fails")
        before = server.only()["spec"].get("renewTime")
        eventually(lambda: server.only()["spec"].get("renewTime") != before, "the next one does not")


@pytest.mark.parametrize("name", ["token", "ca.crt"])
def test_files_that_cannot_be_read_for_a_while_hide_no_revocation(
    server: FakeApiServer, agent: StandInAgent, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    told: list[gpu.Revoked] = []

    def cannot_look() -> bool:
        server.drop_watches()  # each time: a watch that was under way has read both files already
        return "cannot follow" in caplog.text

    def lose() -> None:
        with gpu.borrow(on_revoke=told.append, **OURS):
            with unreadable(server.folder / name):
                eventually(cannot_look, "it cannot look", 10.0)
                revoke(server)
            eventually(lambda: told, "the callback", 10.0)

    with pytest.raises(gpu.Revoked):
        lose()


def test_without_a_service_account_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODSLA_SERVICE_ACCOUNT", str(tmp_path))
    with pytest.raises(gpu.NotInPod, match=r"NoServiceAccount: .*/token or KUBERNETES_SERVICE_HOST is missing"):
        gpu.borrow()


async def _async_use(libcuda: str) -> tuple[int, str]:
    async with gpu.borrow(**OURS) as lent:
        both = await asyncio.gather(
            lent.acall(use_cuda, libcuda), lent.arun(program("print('on')"), capture_output=True, text=True)
        )
    return both[0]["cuInit"], both[1].stdout


def test_the_asynchronous_twin_does_the_same(server: FakeApiServer, agent: StandInAgent, libcuda: str) -> None:
    assert asyncio.run(_async_use(libcuda)) == (0, "on\n")
    settled(server)


@pytest.mark.parametrize("paused", [True, False])
def test_a_cancelled_task_ends_its_child_and_gives_it_back(
    server: FakeApiServer, agent: StandInAgent, tmp_path: Path, paused: bool
) -> None:
    mark = tmp_path / "began"
    if paused:
        agent.paused.set()

    async def cancelled() -> None:
        task = asyncio.ensure_future(gpu.acall(sleep, 60, str(mark), **OURS))
        await asyncio.to_thread(eventually, lambda: bool(server.objects) if paused else mark.exists(), "it began")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert settled(server)["spec"]["release"] is True
    if not paused:
        assert not Path(f"/proc/{mark.read_text()}").exists()


def test_a_cancelled_task_ends_no_other_child(server: FakeApiServer, agent: StandInAgent, tmp_path: Path) -> None:
    mark = tmp_path / "began"

    async def one_of_two() -> str:
        async with gpu.borrow(**OURS) as lent:
            one = asyncio.ensure_future(lent.acall(sleep, 60, str(mark)))
            await asyncio.to_thread(eventually, mark.exists, "it began")
            other = asyncio.ensure_future(lent.acall(sleep, 1))
            one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await one
            return await other

    assert asyncio.run(one_of_two()) == "slept"


def test_a_call_that_is_refused_while_it_is_held_takes_nothing_away(server: FakeApiServer, agent: StandInAgent) -> None:
    with gpu.borrow(**OURS) as lent:
        server.fail["GET"] = [(403, "Forbidden"), (401, "Unauthorized")]
        server.drop_watches()
        eventually(lambda: not server.fail["GET"], "both were refused")
        lent.check()


def test_the_file_needs_python_3_9_and_nothing_else(server: FakeApiServer, agent: StandInAgent, tmp_path: Path) -> None:
    source = Path(str(gpu.__file__)).read_text()
    ast.parse(source, feature_version=(3, 9))
    (tmp_path / "lend.py").write_text(source)
    code = f"import lend\nwith lend() as lent: print(lent.run({program('')!r}).returncode)"
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "0\n", done.stderr

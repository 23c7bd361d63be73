"""
Borrow a GPU in code: for a pod that runs already, only while it is needed.

    from podsla import gpu

    answer = gpu.call(infer, prompts, count=1)         # infer runs in a process of its own that has the GPU

    with gpu(count=1, timeout=600) as lent:            # children have it, this process never opens it
        lent.run(["python", "infer.py"], check=True)

A CUDA context starts after the attach and ends with its process, in no other way: so children use the GPU, and it is
given back when they have ended. This file needs Python 3.9 and its standard library alone and imports nothing of
podsla, so it may be copied into any image under any name. It speaks to the API server as the pod's service account.
`gpu(…)` is `gpu.borrow(…)`: the last lines make the module callable.

EDGE: HTTP to the API server, child processes, /proc of this process.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import contextvars
import email.utils
import errno
import functools
import glob
import http.client
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import pickle
import secrets
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Object = Mapping[str, Any]

GROUP = "podsla.io/v1beta1"
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
MOUNTS = "/proc/self/mountinfo"
DEVICES = "/dev/nvidia[0-9]*"  # the nodes of GPUs in a container; those of a test, by the environment
CALL_S = 10.0
WATCH_S = 60
BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
RELEASE_S = 10.0  # how long the end of the attachment is waited for; it comes without that too
KILL_S = 5.0  # from TERM to KILL
NOTICE = 0.8  # of the grace period is a child's, to end by itself when its GPU is taken back

_log = logging.getLogger("podsla.gpu")
_environment = threading.Lock()
_never = threading.Event()
_cancelled: contextvars.ContextVar[threading.Event] = contextvars.ContextVar("cancelled", default=_never)


class GpuError(Exception):
    """
    No GPU, or not any more.

        GpuError
        ├── NotInPod            there is no service account or no name of a pod to attach to
        ├── Refused             the API server refused the call, or was not reached; reason is its word.
        │                       AlreadyExists: the attachment of that name is somebody else's
        ├── AttachFailed        the attachment ended before there was a GPU; reason is that of its condition
        ├── WaitTimeout         none came in time
        ├── Revoked             it was taken back while it was in use; reason says why
        ├── CudaAlreadyStarted  this process loaded CUDA before it had a device
        ├── GpuStillOpen        a process holds it at the end; pid says which
        └── ChildDied           the child of a call ended without an answer

    Attributes:
        reason: One CamelCase word.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason, self.message = reason, message


class NotInPod(GpuError):
    pass


class Refused(GpuError):
    """
    A call failed.

    Attributes:
        status: The HTTP status; 0 where the API server was not reached.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.status = status


class AttachFailed(GpuError):
    pass


class WaitTimeout(GpuError):
    pass


class Revoked(GpuError):
    pass


class CudaAlreadyStarted(GpuError):
    pass


class GpuStillOpen(GpuError):
    """Attributes: pid, of the process that has the device open."""

    def __init__(self, pid: int, message: str) -> None:
        super().__init__("GpuStillOpen", message)
        self.pid = pid


class ChildDied(GpuError):
    pass


# ---- what an attachment says: pure


class State:
    """
    What one attachment says of itself.

    Attributes:
        word: Waiting, Attached, Revoked, Failed, Released; Revoked is any way in which access goes or went.
        uuids: The devices.
        container: The one that it is for; "" where nothing says it yet.
    """

    def __init__(
        self, word: str, reason: str, message: str, uuids: tuple[str, ...] = (), queue: int = 0, container: str = ""
    ) -> None:
        self.word, self.reason, self.message, self.uuids, self.queue = word, reason, message, uuids, queue
        self.container = container


def read_state(thing: Object) -> State:
    """Read an attachment's status: the heaviest condition speaks."""
    status = thing.get("status") or {}
    found = {each["type"]: each for each in status.get("conditions") or ()}
    true = {kind for kind, each in found.items() if each.get("status") == "True"}
    uuids = tuple(str(each["uuid"]) for each in status.get("devices") or ())
    for kind in ("Failed", "Released", "Quarantined", "Overdue", "Draining"):
        if kind in true:
            word = kind if kind in ("Failed", "Released") else "Revoked"
            why = found.get("Draining", found[kind]) if kind == "Released" else found[kind]  # what set it off
            return State(word, why.get("reason", kind), why.get("message", ""), uuids)
    if "deletionTimestamp" in (thing.get("metadata") or {}):
        return State("Revoked", "Deleted", "the attachment was deleted", uuids)
    if "Attached" in true:
        return State("Attached", "Attached", found["Attached"].get("message", ""), uuids, 0, target_of(thing)[2])
    waits = found.get("Attached" if "Reserved" in true else "Reserved", {})
    queue = int(status.get("queuePosition") or 0)
    return State("Waiting", waits.get("reason", "Pending"), waits.get("message", "nobody has looked at it yet"),
                 uuids, queue)  # fmt: skip


def say_state(state: State) -> str:
    """Say in a line why there is no GPU yet."""
    place = f", place {state.queue} in the queue" if state.queue else ""
    return f"{state.reason}{place}: {state.message}"


def visible(uuids: Sequence[str]) -> dict[str, str]:
    """Name the devices for CUDA and for the NVIDIA tools."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(uuids), "NVIDIA_VISIBLE_DEVICES": ",".join(uuids)}


def read_claims(token: str) -> dict[str, str]:
    """Read which pod a token was bound to; nothing where it says so nowhere. Nobody checks the signature here."""
    try:
        body = token.split(".")[1]
        bound = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["kubernetes.io"]
        return {"namespace": bound["namespace"], "name": bound["pod"]["name"], "uid": bound["pod"]["uid"]}
    except (LookupError, TypeError, ValueError):
        return {}


def container_in(mountinfo: str, uid: str) -> str:
    """
    Name the container of a pod, by its UID, that has these mounts; "" where none of them says it.

    The kubelet mounts the file of a container's last words, by default /dev/termination-log, from
    …/pods/UID/containers/NAME/ID.
    """
    for line in mountinfo.split("\n"):  # alone: of all that ends a line elsewhere only this is escaped there
        root = line.split(" ")[3:4]
        parts = root[0].split("/") if root else []
        if uid and parts[-5:-3] == ["pods", uid] and parts[-3] == "containers":
            return parts[-2]
    return ""


# ---- the API server


class Pod:
    """The pod to attach to; its UID is "" where nothing here says it."""

    def __init__(self, namespace: str, name: str, uid: str = "") -> None:
        self.namespace, self.name, self.uid = namespace, name, uid


class InPod:
    """The API server, as the pod's own service account sees it; its token is read anew for each call."""

    def __init__(self, folder: str = "") -> None:
        self.folder = folder or os.environ.get("PODSLA_SERVICE_ACCOUNT", SERVICE_ACCOUNT)
        self.host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        self.port = int(os.environ.get("KUBERNETES_SERVICE_PORT", "443"))
        # the link itself: what it leads to is missing for a moment whenever the kubelet puts a new token there
        if not self.host or not os.path.lexists(os.path.join(self.folder, "token")):
            message = (
                f"{self.folder}/token or KUBERNETES_SERVICE_HOST is missing; run it in a pod, with a service account"
            )
            raise NotInPod("NoServiceAccount", message)
        self._ahead_s = 0.0

    def _read(self, name: str) -> str:
        path = os.path.join(self.folder, name)
        try:
            with open(path, encoding="utf-8") as file:
                return file.read().strip()
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from None

    def _trust(self) -> ssl.SSLContext:
        path = os.path.join(self.folder, "ca.crt")
        try:
            return ssl.create_default_context(cafile=path)
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from None

    def pod(self) -> Pod:
        """
        Find out which pod this is: by its token, else by POD_NAME and POD_UID, else by its host name.

        Raises:
            Refused: The token cannot be read.
        """
        claims = read_claims(self._read("token"))
        namespace = claims.get("namespace") or os.environ.get("POD_NAMESPACE") or self._read("namespace")
        if claims:
            return Pod(namespace, claims["name"], claims["uid"])
        name = os.environ.get("POD_NAME") or os.environ.get("HOSTNAME") or socket.gethostname()
        return Pod(namespace, name, os.environ.get("POD_UID", ""))

    def now_s(self) -> float:
        """Tell the time by the API server's clock, as of its last answer."""
        return time.time() + self._ahead_s

    def _send(
        self, method: str, path: str, body: Any, content_type: str, timeout_s: float
    ) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout_s, context=self._trust())
        headers = {"Accept": "application/json", "Authorization": f"Bearer {self._read('token')}"}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Refused(0, "Unreachable", f"{method} {path}: the API server did not answer: {error}") from None
        if response.headers.get("Date"):
            with contextlib.suppress(TypeError, ValueError):
                ahead = email.utils.parsedate_to_datetime(response.headers["Date"]).timestamp() - time.time()
                self._ahead_s = ahead if abs(ahead) > 1.5 else 0.0  # the header has whole seconds
        return connection, response

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> dict[str, Any]:
        """Call, and read the answer."""
        connection, response = self._send(method, path, body, content_type, CALL_S)
        with contextlib.closing(connection), response:  # which has the socket alone where the server closes it
            try:
                data = response.read()
            except (OSError, http.client.HTTPException) as error:
                raise Refused(0, "Unreachable", f"{method} {path}: the answer broke off: {error}") from None
        try:
            answer = json.loads(data or b"{}")
        except ValueError:
            answer = {"message": data[:200].decode(errors="replace")}
        if 200 <= response.status <= 299:
            return dict(answer)
        raise refusal(response.status, f"{method} {path}", answer)

    def lines(self, path: str) -> Iterator[bytes]:
        """Read what a watch sends, line by line, until it ends; a broken one just ends."""
        connection, response = self._send("GET", path, None, "", WATCH_S + CALL_S)
        with contextlib.closing(connection), response:  # which has the socket alone where the server closes it
            if response.status != 200:
                raise refusal(response.status, f"GET {path}", {})
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                while line := response.readline():
                    yield line


def unreadable(path: str, error: Exception) -> Refused:
    """Make an error of a file that cannot be read: like a silent API server, it may be there a little later."""
    if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
        advice = "close some, or raise the limit (ulimit -n)"
    else:
        advice = f"mount the service account's token and ca.crt there, and let user {os.getuid()} read it"
    return Refused(0, "Unreachable", f"cannot read {path}: {getattr(error, 'strerror', None) or error}; {advice}")


def refusal(status: int, what: str, answer: Object) -> Refused:
    """Make an error of an answer, with what to do about it."""
    reason = answer.get("reason") or {401: "Unauthorized", 403: "Forbidden", 404: "NotFound"}.get(status, "Unknown")
    said = answer.get("message") or f"HTTP status {status}"
    advice = {
        401: "; the service account's token is not valid any more",
        403: "; bind the role podsla-gpu-borrower to the pod's service account",
        404: "; is podsla installed, with GPU attachments?" if "page not found" in said else "",
    }.get(status, "")
    return Refused(status, str(reason), f"{what}: {said}{advice}")


def may_pass(error: Refused) -> bool:
    """Tell whether the same call may go well a little later."""
    return error.status in (0, 410, 429) or error.status >= 500


# ---- what this process has open, and where it runs


def own_container(uid: str) -> str:
    """Name the container of a pod in which this process runs; "" where nothing says it for sure."""
    try:
        with open(MOUNTS, encoding="utf-8", errors="replace", newline="") as file:
            return container_in(file.read(), uid)
    except OSError:
        return ""


def nodes_there() -> frozenset[str]:
    """List the device nodes of GPUs in this container."""
    return frozenset(glob.glob(os.environ.get("PODSLA_GPU_DEVICES", DEVICES)))


def numbers_of(paths: frozenset[str]) -> frozenset[tuple[int, int]]:
    """Find the device numbers, and, for mappings, which only name the file, the inodes (as a negative filesystem)."""
    found: set[tuple[int, int]] = set()
    for path in paths:
        with contextlib.suppress(OSError):
            seen = os.stat(path)
            if stat.S_ISCHR(seen.st_mode):
                found.add((os.major(seen.st_rdev), os.minor(seen.st_rdev)))
                found.add((-seen.st_dev, seen.st_ino))
    return frozenset(found)


def has_open(numbers: frozenset[tuple[int, int]], pid: str = "self") -> bool:
    """Tell whether a process has one of the devices open, by a descriptor or by a mapping that outlived one."""
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                seen = os.stat(f"/proc/{pid}/fd/{descriptor}")
                if seen.st_rdev and (os.major(seen.st_rdev), os.minor(seen.st_rdev)) in numbers:
                    return True
    for fields in _mappings(pid):
        major, minor = (int(part, 16) for part in fields[3].split(":"))
        if (-os.makedev(major, minor), int(fields[4])) in numbers:
            return True
    return False


def _mappings(pid: str = "self") -> list[list[str]]:
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            return [line.split(maxsplit=5) for line in file]
    except OSError:
        return []


def cuda_started() -> bool:
    """
    Tell whether this process loaded CUDA's driver library without a device.

    CUDA counts devices once for each process, when it starts, and the library is loaded for that; a process that has a
    device open already is none that looked in vain.
    """
    loaded = any(os.path.basename(fields[-1].strip()).startswith("libcuda.so") for fields in _mappings())
    return loaded and not has_open(numbers_of(nodes_there()))


def holder(numbers: frozenset[tuple[int, int]]) -> int:
    """Find a process of this container that has a device open, this one first; 0: none that may be looked into."""
    if not numbers:
        return 0
    pids = [str(os.getpid())]
    with contextlib.suppress(OSError):  # what cannot be looked for must not keep what is lent from being given back
        pids += filter(str.isdigit, os.listdir("/proc"))
    for pid in pids:
        if has_open(numbers, pid):
            return int(pid)
    return 0


# ---- borrowing


def target_of(thing: Object) -> tuple[str, str, str]:
    """Find out which pod an attachment is for, its UID and the container; "" for what nothing says yet."""
    spec, status = thing.get("spec") or {}, thing.get("status") or {}
    uid, container = (spec.get(key) or status.get(key) or "" for key in ("podUID", "container"))
    return str(spec.get("podName") or ""), str(uid), str(container)


def say_target(target: tuple[str, str, str]) -> str:
    """Say which pod it is, and which container of it."""
    name, uid, container = target
    return (f"container {container} of " if container else "") + f"pod {name}" + (f" (UID {uid})" if uid else "")


def name_of(pod: str, letters: str) -> str:
    """Name an attachment: by its pod, and some letters that no other one of it has."""
    return f"{pod[:50].rstrip('-.')}-{letters}"


class Borrow:
    """
    A GPU for a while: a context manager, synchronous or not. See `borrow` for what may be set.

    Attributes:
        name: Of the GPUAttachment; "" until it is entered, where the caller named neither it nor the pod.
        uuids: The devices, once there are any.
        children: Those of `Popen` and `run`.
    """

    def __init__(
        self, api: Any, pod: Pod, name: str, spec: Object, timeout: float, on_wait: Any, on_revoke: Any
    ) -> None:
        self._named, self._letters = bool(name), secrets.token_hex(4)
        self.name = name or (name_of(pod.name, self._letters) if pod.name else "")
        self.uuids: tuple[str, ...] = ()
        self._api, self._pod, self._spec, self._timeout = api, pod, dict(spec), timeout
        self._on_wait, self._on_revoke = on_wait, on_revoke
        self._lease_s, self._grace_s = float(self._spec["leaseSeconds"]), float(self._spec["gracePeriodSeconds"])
        self._changed = threading.Condition()
        self._state = State("Waiting", "Pending", "nobody has looked at it yet")
        self._ending = threading.Event()
        self._revoked: Revoked | None = None
        self._revoked_s = 0.0
        self._ours = self._followed = self._releasing = False
        self.children: list[subprocess.Popen[Any]] = []
        self._told_s: dict[subprocess.Popen[Any], float] = {}
        self._numbers: frozenset[tuple[int, int]] = frozenset()

    # -- entering

    def __enter__(self) -> Borrow:
        if cuda_started():
            message = (
                "this process loaded CUDA before it had a GPU, and will never see one; "
                "borrow before anything uses CUDA, or use gpu.call, which starts a process of its own"
            )
            raise CudaAlreadyStarted("CudaAlreadyStarted", message)
        return self._attach()

    def _attach(self) -> Borrow:
        before = nodes_there()
        try:
            self._create()
            self._follow_in_background()
            self._wait()
        except BaseException:
            self._release()
            raise
        after = nodes_there()
        self._numbers = numbers_of(after - before or after)
        if not self._spec.get("container") and not after - before:
            message = (
                "%s has its GPU in container %s, the pod's usual one; if this is another, say which: container=, -c"
            )
            _log.warning(message + " or the variable CONTAINER_NAME", self.name, self._state.container or "?")
        threading.Thread(target=self._renew, name="podsla-gpu-renew", daemon=True).start()
        return self

    def _path(self, name: str = "") -> str:
        return f"/apis/{GROUP}/namespaces/{self._pod.namespace}/gpuattachments" + (f"/{name}" if name else "")

    def _create(self) -> None:
        """Ask for it; what may pass is tried again, and on the way it is found out which pod this is."""
        end_s = time.monotonic() + self._timeout
        for pause_s in _pauses():
            try:
                if not self._pod.name:
                    self._pod = self._api.pod()
                    self.name = self.name or name_of(self._pod.name, self._letters)
                if not self._spec.get("container") and (own := own_container(self._pod.uid)):
                    self._spec["container"] = own
                self._ask(again=pause_s != BACK_OFF_S[0])
            except Refused as error:
                if not may_pass(error) or time.monotonic() + pause_s > end_s or _cancelled.get().wait(pause_s):
                    raise
                _log.warning("cannot ask for a GPU yet: %s", error)
            else:
                return

    def _ask(self, *, again: bool) -> None:
        spec = {**self._spec, "podName": self._pod.name, **({"podUID": self._pod.uid} if self._pod.uid else {})}
        body = {"apiVersion": GROUP, "kind": "GPUAttachment", "metadata": {"name": self.name}, "spec": spec}
        try:
            self._api.call("POST", self._path(), body)
        except Refused as error:
            if error.reason != "AlreadyExists" or not (self._named or again):
                raise
            self._take_up()  # it was asked for before, or an earlier try arrived and its answer was lost
        self._ours = True

    def _take_up(self) -> None:
        """See whether the attachment of this name is for this container; another's is neither used nor released."""
        theirs = target_of(self._api.call("GET", self._path(self.name)))
        ours = self._pod.name, self._pod.uid, str(self._spec.get("container", ""))
        if any(one and other and one != other for one, other in zip(theirs, ours)):  # noqa: B905 - Python 3.9 has no strict
            message = f"{self.name} is there, and is for {say_target(theirs)}, not for {say_target(ours)}"
            raise Refused(409, "AlreadyExists", f"{message}; take another name")
        self._ours = True

    def _wait(self) -> None:
        """Wait until it is attached, and tell of every change on the way."""
        end_s, told = time.monotonic() + self._timeout, ""
        with self._changed:
            while self._state.word == "Waiting":
                if _cancelled.get().is_set():
                    raise WaitTimeout("Cancelled", f"{self.name} was given up before there was a GPU")
                if (line := say_state(self._state)) != told:
                    told = line
                    self._on_wait(line)
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    raise WaitTimeout(
                        "WaitTimeout", f"no GPU for {self.name} in {self._timeout:g} s; it waited at {told}"
                    )
                self._changed.wait(min(left_s, 1.0))
            state = self._state
        if state.word != "Attached":
            raise AttachFailed(state.reason, f"{self.name} got no GPU: {state.message}")
        self.uuids = state.uuids

    # -- while it is there

    def _follow_in_background(self) -> None:
        self._followed = True
        threading.Thread(target=self._follow, name="podsla-gpu-watch", daemon=True).start()

    def _follow(self) -> None:
        """Read the attachment, then watch it from there; whatever fails, again, until nobody needs to know."""
        pauses = _pauses()
        while not self._ending.is_set():
            try:
                thing = self._api.call("GET", self._path(self.name))
                self._note(read_state(thing))
                query = f"?watch=1&fieldSelector=metadata.name%3D{self.name}&timeoutSeconds={WATCH_S}"
                for line in self._api.lines(
                    f"{self._path()}{query}&resourceVersion={thing['metadata']['resourceVersion']}"
                ):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break
                    gone = event["type"] == "DELETED"
                    self._note(
                        State("Revoked", "Deleted", "the attachment is gone") if gone else read_state(event["object"])
                    )
                    pauses = _pauses()
            except Refused as error:
                if error.status == 404:
                    self._note(State("Revoked", "Deleted", "the attachment is gone"))
                elif not may_pass(error) and not self.uuids:  # what has a GPU is not ended for want of news
                    self._note(State("Failed", error.reason, error.message))
                level = logging.DEBUG if error.status else logging.WARNING  # meanwhile it may be taken back unseen
                _log.log(level, "cannot follow the attachment: %s", error)
            except (LookupError, TypeError, ValueError) as error:
                _log.debug("cannot read the attachment: %s", error)
            self._ending.wait(next(pauses))

    def _note(self, state: State) -> None:
        with self._changed:
            was, self._state = self._state, state
            lost = was.word == "Attached" and state.word != "Attached" and not self._releasing
            if lost:
                self._revoked = Revoked(state.reason, f"the GPU of {self.name} is taken back: {state.message}")
                self._revoked_s = time.monotonic()
            self._changed.notify_all()
        if not lost:
            return
        threading.Thread(target=self._end_children, name="podsla-gpu-end", daemon=True).start()
        if self._on_revoke is not None and self._revoked is not None:
            try:
                self._on_revoke(self._revoked)
            except Exception:  # a fault of the caller's, which must not end the thread that follows
                _log.exception("on_revoke of %s failed", self.name)

    def _renew(self) -> None:
        """Renew the lease thrice in its length; a call that fails is made again soon."""
        pause_s = self._lease_s / 3
        while not self._ending.wait(pause_s):
            now_s = self._api.now_s()
            written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s)) + f".{int(now_s % 1 * 1e6):06}Z"
            try:
                self._patch({"renewTime": written})
                pause_s = self._lease_s / 3
            except Refused as error:
                _log.warning("cannot renew the lease of %s: %s", self.name, error)
                pause_s = min(self._lease_s / 10, 5.0)

    def _patch(self, spec: Object) -> None:
        self._api.call("PATCH", self._path(self.name), {"spec": spec}, "application/merge-patch+json")

    def check(self) -> None:
        """Raise Revoked where the GPU was taken back."""
        if self._revoked is not None:
            raise self._revoked

    # -- children

    def _end_children(self) -> None:
        """End what runs on when its share of the grace period is over: its caller may just wait for it."""
        self._ending.wait(self._revoked_s + NOTICE * self._grace_s - time.monotonic())
        while not self._ending.is_set():
            self._end(*self.children)
            self._ending.wait(0.2)  # and whatever was being started when it was taken back

    def _end(self, *children: subprocess.Popen[Any]) -> None:
        """End children that did not end by themselves: TERM, once whoever else ends them too, and KILL later."""
        running = [child for child in children if child.poll() is None]
        with self._changed:
            for child in running:
                if child not in self._told_s:
                    self._told_s[child] = time.monotonic()
                    child.terminate()
        for child in running:
            try:
                child.wait(max(0.0, self._told_s[child] + KILL_S - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def environment(self) -> dict[str, str]:
        """Write the environment of a child."""
        return {**os.environ, **visible(self.uuids)}

    def Popen(self, command: Any, **options: Any) -> subprocess.Popen[Any]:  # noqa: N802 - as subprocess names it
        """
        Start a child that has the GPU. Options are those of subprocess.

        It is ended when the GPU is given back; where that is taken back, when four fifths of the grace period are over.
        """
        self.check()
        given = options.pop("env", None)
        environment = self.environment() if given is None else {**given, **visible(self.uuids)}
        child = subprocess.Popen(command, env=environment, **options)  # noqa: S603 - the caller's own command
        self.children.append(child)
        return child

    def run(self, command: Any, *, check: bool = False, input: Any = None, capture_output: bool = False,
            **options: Any) -> subprocess.CompletedProcess[Any]:  # fmt: skip
        """
        Run a child that has the GPU to its end.

        Raises:
            Revoked: The GPU was taken back; the child had the grace period to end by itself, and was ended.
            subprocess.CalledProcessError: With *check*, the child failed.
        """
        if capture_output:
            options.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if input is not None:
            options["stdin"] = subprocess.PIPE
        child = self.Popen(command, **options)
        try:
            out, err = self._communicate(child, input)
        except BaseException:
            self._end(child)
            raise
        if check and child.returncode:
            raise subprocess.CalledProcessError(child.returncode, command, out, err)
        return subprocess.CompletedProcess(command, child.returncode, out, err)

    def _communicate(self, child: subprocess.Popen[Any], text: Any) -> tuple[Any, Any]:
        while True:
            try:
                return child.communicate(text, timeout=0.2)
            except subprocess.TimeoutExpired:
                self._stop_if_over()
                text = None  # it is on its way

    def _stop_if_over(self) -> None:
        """Raise where a child must not go on."""
        if _cancelled.get().is_set():
            raise Revoked("Cancelled", f"the use of {self.name} was given up")
        if self._revoked is not None and time.monotonic() > self._revoked_s + NOTICE * self._grace_s:
            raise self._revoked

    def call(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """
        Run *fn* in a process of its own that has the GPU, and give back what it returned or raise what it raised.

        *fn*, its arguments and its result are pickled, as multiprocessing does with "spawn": *fn* stands at the top of
        a module, and a script keeps what it does under `if __name__ == "__main__":`.

        Raises:
            Revoked: The GPU was taken back before *fn* had ended.
            ChildDied: Its process ended without an answer.
        """
        self.check()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(theirs, fn, args, kwargs), name=f"podsla-gpu-{self.name}")
        with _environment, _environ(visible(self.uuids)):  # before the child imports anything
            child.start()
        theirs.close()
        try:
            while not multiprocessing.connection.wait([ours, child.sentinel], timeout=0.2):
                self._stop_if_over()
            answer: tuple[bool, Any] = ours.recv() if ours.poll() else (False, None)
        except EOFError:
            answer = (False, None)
        finally:
            _end_process(child, value_s=0.0 if sys.exc_info()[0] else KILL_S)
            ours.close()
        good, value = answer
        if good:
            return value  # type: ignore[no-any-return]
        if value is None:
            self.check()
            raise ChildDied("ChildDied", f"the process of {_name(fn)} {_how(child.exitcode)} before it had answered")
        raise value

    # -- leaving

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._end(*self.children)
        pid = holder(self._numbers)
        self._release(wait=not pid)
        still = f"process {pid} still has the GPU of {self.name} open; it counts as held until that process ends"
        if kind is not None:  # the error of what stands inside goes first
            if pid:
                _log.error("GpuStillOpen: %s", still)
            return
        if pid:
            raise GpuStillOpen(pid, still)
        self.check()

    def _release(self, *, wait: bool = True) -> None:
        """Ask for the release, and see it done or give up looking; the lease ends it where nothing is reached."""
        self._releasing = True
        if self.name:  # else nobody knew which pod this is, and nothing was asked for
            self._ask_for_release()
        end_s = time.monotonic() + RELEASE_S
        with self._changed:
            while wait and self._followed and not self._over() and time.monotonic() < end_s:
                self._changed.wait(0.2)
        self._ending.set()

    def _ask_for_release(self) -> None:
        for pause_s in BACK_OFF_S:
            try:
                if not self._ours:  # nobody has seen yet whose it is
                    self._take_up()
                self._patch({"release": True})
            except Refused as error:
                if not may_pass(error):
                    if error.status != 404 and self._ours:
                        _log.warning("cannot release %s: %s", self.name, error)
                    return
                _log.warning("cannot release %s yet: %s", self.name, error)
                time.sleep(pause_s)
            else:
                return
        _log.warning("%s was not released; its lease of %g s ends it", self.name, self._lease_s)

    def _over(self) -> bool:
        return self._state.word in ("Failed", "Released") or self._state.reason == "Deleted"

    # -- the asynchronous twin

    async def __aenter__(self) -> Borrow:
        return await self._in_thread(self.__enter__, undo=lambda: self._release())

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(self.__exit__, kind, error, trace)))

    async def arun(self, command: Any, **options: Any) -> subprocess.CompletedProcess[Any]:
        """`run`, while other tasks go on; a cancelled one ends the child."""
        return await self._in_thread(functools.partial(self.run, command, **options))

    async def acall(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """`call`, while other tasks go on; a cancelled one ends the child."""
        return await self._in_thread(functools.partial(self.call, fn, *args, **kwargs))

    async def _in_thread(self, call: Callable[[], T], undo: Callable[[], None] | None = None) -> T:
        """Run a call in a thread; where the task is cancelled, the call gives up, and only then does the task end."""
        cancelled = threading.Event()
        before = _cancelled.set(cancelled)  # the thread has a copy
        future = asyncio.ensure_future(asyncio.to_thread(call))
        _cancelled.reset(before)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.wait([future])
            if undo and not future.exception():
                await asyncio.to_thread(undo)
            raise


def borrow(
    count: int = 1,
    *,
    timeout: float = 600.0,
    resource: str = "nvidia.com/gpu",
    models: Sequence[str] = (),
    container: str = "",
    lease: int = 300,
    grace: int = 30,
    policy: str = "Wait",
    name: str = "",
    on_wait: Callable[[str], object] | None = None,
    on_revoke: Callable[[Revoked], object] | None = None,
    api: Any = None,
    pod: Pod | None = None,
) -> Borrow:
    """
    Lend GPUs to this container: `with borrow(count=2) as lent:` or `async with`.

    Args:
        timeout: Seconds to wait for them.
        models: Any of these; none: whatever there is.
        container: Which container of the pod this is; default: CONTAINER_NAME, else the one in which this
            process runs, where the kubelet's mounts say it, else the pod's usual one.
        lease: Seconds after which they go where this process is gone; it is renewed while this process lives.
        grace: Seconds that a child has to end when they are taken back.
        policy: What becomes of processes that keep them open after that: "Wait" or "Terminate".
        name: Of the attachment; one that is there already for this container is taken up, another's is refused.
            Default: the pod's, and some letters.
        on_wait: Told in a line whenever what is waited for changes; default: the log.
        on_revoke: Told, in another thread, that they are taken back.
        api: The API server; default: that of the pod.
        pod: The pod; default: this one, which is found out on entry.

    Raises:
        NotInPod: There is no service account.
    """
    api = api if api is not None else InPod()
    container = container or os.environ.get("CONTAINER_NAME", "")
    spec = {
        "resource": resource, "count": count, "models": list(models), "leaseSeconds": lease,
        "gracePeriodSeconds": grace, "detachPolicy": policy, **({"container": container} if container else {}),
    }  # fmt: skip
    on_wait = on_wait or functools.partial(_log.info, "%s")
    return Borrow(api, pod or Pod("", ""), name, spec, timeout, on_wait, on_revoke)


def call(fn: Callable[..., T], *args: Any, count: int = 1, kwargs: Object | None = None, **options: Any) -> T:
    """
    Run *fn* with GPUs in a process of its own, and give them back: `call(infer, prompts, count=1, timeout=600)`.

    *options* are those of `borrow`; keyword arguments of *fn* go into *kwargs*. This process may have started CUDA: the
    child has not.
    """
    lent = borrow(count, **options)._attach()
    try:
        value = lent.call(fn, *args, **(kwargs or {}))
    except BaseException as error:
        lent.__exit__(type(error), error, None)
        raise
    lent.__exit__(None, None, None)
    return value


async def acall(fn: Callable[..., T], *args: Any, count: int = 1, kwargs: Object | None = None, **options: Any) -> T:
    """`call`, while other tasks go on."""
    lent = borrow(count, **options)
    await lent._in_thread(lent._attach, undo=lent._release)
    try:
        value = await lent.acall(fn, *args, **(kwargs or {}))
    except BaseException as error:
        await lent.__aexit__(type(error), error, None)
        raise
    await lent.__aexit__(None, None, None)
    return value


# ---- children


def _work(answer: Any, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """Run in the child: do the work, and send what came of it."""
    try:
        message = (True, fn(*args, **kwargs))
    except BaseException as error:
        error.__cause__ = _Remote(traceback.format_exc())
        message = (False, error)
    try:
        data = pickle.dumps(message)
        pickle.loads(data)  # noqa: S301 - our own words; some exceptions pickle, and do not come back
    except Exception as error:
        what = "result" if message[0] else f"exception {message[1]!r}"
        data = pickle.dumps((False, RuntimeError(f"the {what} of {_name(fn)} cannot be sent back: {error}")))
    answer.send_bytes(data)


class _Remote(Exception):
    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


@contextlib.contextmanager
def _environ(more: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _end_process(child: Any, *, value_s: float) -> None:
    """End a process of `call`, which has *value_s* to end by itself; its CUDA context goes with it."""
    child.join(value_s)
    for stop in (child.terminate, child.kill):
        if child.is_alive():
            stop()
            child.join(KILL_S)


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with {code}"


def _name(fn: Any) -> str:
    return str(getattr(fn, "__qualname__", fn))


def _pauses() -> Iterator[float]:
    yield from BACK_OFF_S
    while True:
        yield BACK_OFF_S[-1]


class _Callable(types.ModuleType):
    def __call__(self, count: int = 1, **options: Any) -> Borrow:
        return borrow(count, **options)


sys.modules[__name__].__class__ = _Callable

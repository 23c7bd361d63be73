"""
EDGE: the node's GPUs: from a file, from the NVIDIA driver, or none.

A file may name any character device as a GPU, so that everything can be shown on a node without one. The driver is
asked through /proc, and through NVML in a child that is ended when it hangs, as it does when a GPU is lost. What NVML
said holds for a while, as long as /proc stays the same: a child for every pass would cost more than all the rest.
"""

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from attach import nvml
from attach.errors import Unknown
from attach.model import DeviceNode, Gpu
from attach.nvidia import DriverTexts, parse_gpus
from attach.ports import Inventory
from catalog.problems import InvalidError, Problem
from catalog.schema import API_VERSION, Rules, integer, many, one, text, validate
from catalog.yamltext import parse_documents

MAX_GPUS: Final = 1024
NVML_DEADLINE_S: Final = 10.0
HEALTH_EVERY_S: Final = 30.0  # how long NVML's word on a GPU's health may be old

_NODE: Final = {
    "path": text(required=True, regex=r"/dev(/[A-Za-z0-9_][-A-Za-z0-9_.]*)+"),  # below /dev; no part begins with a dot
    "major": integer(max=4095),
    "minor": integer(min=0, max=1048575),
    "host": text(regex=r"/[^\s]+"),
}
INVENTORY: Final = Rules(
    {
        "apiVersion": text(required=True, allowed=[API_VERSION]),
        "kind": text(required=True, allowed=["NodeInventory"]),
        "metadata": {"type": "dict"},
        "gpus": many(
            one(
                {
                    "uuid": text(required=True, regex=r"[A-Za-z0-9][-A-Za-z0-9_.:/]{0,127}"),
                    "unhealthy": text(default=""),
                    "companions": many(one(_NODE), 32, default=[]),
                    **_NODE,
                }
            ),
            MAX_GPUS,
            required=True,
        ),
    }
)


class NullInventory:
    """A node without a GPU."""

    def gpus(self) -> Sequence[Gpu]:
        """See the port."""
        return ()


class StaticInventory:
    """
    Devices that a file names, each by its numbers, or by a node of the host whose numbers are read every time.

    Raises:
        InvalidError: The file can't be used; every problem is in it.
    """

    def __init__(self, file: Path) -> None:
        self._gpus = _read(file)

    def gpus(self) -> Sequence[Gpu]:
        """See the port."""
        return sorted(_gpu(fields) for fields in self._gpus)


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError([Problem(str(file), 0, "", f"can't be read: {error}")]) from error
    documents = [document for document in parse_documents(content, str(file)) if document.data is not None]
    if len(documents) != 1:
        raise InvalidError([Problem(str(file), 0, "", f"holds {len(documents)} documents; write one")])
    fields, problems = validate(documents[0], INVENTORY)
    if fields is None:
        raise InvalidError(problems)
    gpus: list[dict[str, Any]] = fields["gpus"]
    if problems := [documents[0].problem(path, message) for path, message in _conflicts(gpus)]:
        raise InvalidError(problems)
    return gpus


def _conflicts(gpus: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[str | int, ...], str]]:
    """Find what would make two GPUs one, or give one by way of another."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    uuids, numbers, paths = dict[object, int](), dict[object, int](), dict[object, int]()
    for at, gpu in enumerate(gpus):
        for place, node in [((), gpu), *((("companions", n), each) for n, each in enumerate(gpu["companions"]))]:
            if ("host" in node) == ("major" in node) or ("major" in node) != ("minor" in node):
                found.append((("gpus", at, *place), "needs either `major` and `minor`, or `host`"))
        for known, key, what in (
            (uuids, gpu["uuid"], "uuid"),
            (numbers, _numbers(gpu), "device"),
            (paths, gpu["path"], "path"),
        ):
            if (other := known.setdefault(key, at)) != at:
                found.append((("gpus", at), f"has the same {what} as gpus[{other}]; a device is one GPU"))
    for at, gpu in enumerate(gpus):
        for number, node in enumerate(gpu["companions"]):
            if _numbers(node) in numbers:
                other = numbers[_numbers(node)]
                found.append((("gpus", at, "companions", number), f"is gpus[{other}] itself; a companion gives no GPU"))
    return found


def _numbers(node: Mapping[str, Any]) -> object:
    return node.get("host") or (node.get("major"), node.get("minor"))


def _gpu(fields: Mapping[str, Any]) -> Gpu:
    problems = [problem for node in (fields, *fields["companions"]) if (problem := _host_problem(node))]
    companions = tuple(_node(node) for node in fields["companions"])
    return Gpu(fields["uuid"], _node(fields), companions, "; ".join(filter(None, [fields["unhealthy"], *problems])))


def _host_problem(node: Mapping[str, Any]) -> str:
    return "" if "host" not in node or _host_rdev(node["host"]) else f"{node['host']} is no character device here"


def _host_rdev(path: str) -> int:
    try:
        found = os.stat(path)
    except OSError:
        return 0
    return found.st_rdev if stat.S_ISCHR(found.st_mode) else 0


def _node(node: Mapping[str, Any]) -> DeviceNode:
    if "host" not in node:
        return DeviceNode(node["path"], node["major"], node["minor"])
    rdev = _host_rdev(node["host"])
    return DeviceNode(node["path"], os.major(rdev), os.minor(rdev))


@dataclass(frozen=True, slots=True)
class _Said:
    """
    What NVML said.

    Attributes:
        of: The driver's texts then, and the files that a driver or a partition that is made anew makes anew.
        until_s: When it is too old.
    """

    of: object
    until_s: float
    answer: Mapping[str, Any] | None


class NvidiaInventory:
    """The GPUs and MIG devices of the NVIDIA driver; their numbers are read every time, since a reload changes them."""

    def __init__(
        self,
        proc: Path = Path("/proc"),
        nvml_command: Sequence[str] = (sys.executable, "-I", nvml.__file__),
        deadline_s: float = NVML_DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._proc = proc
        self._nvml = nvml_command
        self._deadline_s = deadline_s
        self._clock = clock
        self._stuck: subprocess.Popen[bytes] | None = None
        self._said: _Said | None = None

    def gpus(self) -> Sequence[Gpu]:
        """See the port."""
        try:
            texts, made = self._read()
        except OSError as error:
            raise Unknown("DriverSilent", f"the NVIDIA driver's files can't be read: {error}") from error
        return parse_gpus(texts, self._nvml_said((texts, made)))

    def _read(self) -> tuple[DriverTexts, object]:
        """Read what the driver says in /proc, and when what stands there was made."""
        driver = self._proc / "driver"
        minors, capabilities = driver / "nvidia-caps/mig-minors", driver / "nvidia/capabilities"
        instances = list(chain.from_iterable(capabilities.glob(each) for each in ("gpu*/mig/gi*", "gpu*/mig/gi*/ci*")))
        texts = DriverTexts(
            {
                path.name: (path / "information").read_text(encoding="utf-8", errors="replace")
                for path in sorted((driver / "nvidia/gpus").iterdir())
            },
            (self._proc / "devices").read_text(encoding="utf-8"),
            minors.read_text(encoding="utf-8") if minors.exists() else "",
            frozenset(str(path.relative_to(capabilities)) for path in instances),
        )
        return texts, {path: (path.stat().st_ino, path.stat().st_ctime_ns) for path in [driver / "nvidia", *instances]}

    def _nvml_said(self, of: object) -> Mapping[str, Any] | None:
        """Recall what NVML said, or ask it: of another driver or partition, or after a while."""
        said, now_s = self._said, self._clock()
        if said is None or said.of != of or now_s >= said.until_s:
            said = self._said = _Said(of, now_s + HEALTH_EVERY_S, self._ask_nvml())
        return said.answer

    def _ask_nvml(self) -> Mapping[str, Any] | None:
        """Ask NVML; None: its Python binding or its library is not installed, and /proc has to do."""
        if self._stuck is not None and self._stuck.poll() is None:
            raise Unknown("DriverHangs", f"NVML hangs in process {self._stuck.pid}, which can't be ended")
        self._stuck = None
        child = subprocess.Popen(self._nvml, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603 - our own
        try:
            out, errors = child.communicate(timeout=self._deadline_s)
        except subprocess.TimeoutExpired as error:
            child.kill()  # and is not waited for: it may sleep in the driver for ever
            self._stuck = child
            for pipe in (child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
            raise Unknown("DriverHangs", f"NVML gave no answer within {self._deadline_s:g} s") from error
        if child.returncode == nvml.NOT_INSTALLED:
            return None
        try:
            answer: Mapping[str, Any] = json.loads(out)
        except ValueError as error:
            words = errors.decode(errors="replace").strip()[-256:]
            raise Unknown("DriverSilent", f"NVML failed: {words or child.returncode}") from error
        return answer


def open_inventory(file: Path | None, proc: Path = Path("/proc")) -> Inventory:
    """
    Choose the inventory that this node has: the file where one is named, else the NVIDIA driver's, else none.

    Raises:
        InvalidError: The file can't be used.
    """
    if file is not None:
        return StaticInventory(file)
    return NvidiaInventory(proc) if (proc / "driver/nvidia/version").exists() else NullInventory()

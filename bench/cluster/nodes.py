"""EDGE: the scenario of many nodes: how soon they carry capacity, and what the controller needs for it."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bench.cluster.stand import Stand, apply_catalogs, audit_entries
from bench.proc import cpu_s, resident_mib
from kube.kinds import NODES, SPEC_CATALOGS
from podsla.output import note

CONTROLLER: Final = "podsla-controller"
EDITED_SIZE: Final = "ecs.c7.2xlarge"  # one of the twelve sizes that the nodes have in turn
PPS: Final = "podsla.io/pps"
DEADLINE_S: Final = 600.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Calls:
    """What the controller did in a while: calls by verb and resource, and its processor time."""

    name: str
    for_s: float
    by_kind: Mapping[str, int]
    cpu_s: float

    @property
    def per_minute(self) -> float:
        """All calls."""
        return sum(self.by_kind.values()) * 60 / self.for_s


@dataclass(frozen=True, slots=True)
class Nodes:
    """Times in seconds, memory in MiB."""

    count: int
    first_s: float
    edited: int
    edit_s: float
    resident_mib: float
    peak_mib: float
    calls: tuple[Calls, ...]


def many_nodes(stand: Stand, minute_s: float) -> Nodes:
    """
    Publish the catalogues, wait until every node carries capacity, rest, and edit a size.

    Args:
        minute_s: How long calls are counted at rest, and from the edit on.
    """
    counter = CallCounter(stand)
    pid = stand.process(CONTROLLER).pid
    total = stand.cluster.profile.kwok_nodes
    note(f"catalogues for {total} nodes", style="dim")
    started_s = time.monotonic()
    apply_catalogs(stand)
    _until(lambda: not _some(stand, "type=kwok,!podsla.io/family"), started_s)
    first_s = time.monotonic() - started_s
    published = counter.since("until all nodes carry capacity")
    without = [node["metadata"]["name"] for node in stand.api.list(NODES) if PPS not in node["status"]["allocatable"]]
    assert not without, without  # noqa: S101 - a time until something else is none
    time.sleep(10)  # kwok and the scheduler come to rest too
    counter.begin()
    note(f"at rest for {minute_s:g} s", style="dim")
    time.sleep(minute_s)
    rest = counter.since("at rest")
    note(f"an edit of {EDITED_SIZE}", style="dim")
    edit_s, edited = edit(stand)
    time.sleep(max(0.0, minute_s - edit_s))
    after = counter.since("from an edit of a size on")
    return Nodes(
        total, first_s, edited, edit_s, resident_mib(pid), resident_mib(pid, "VmHWM"), (published, rest, after)
    )


def edit(stand: Stand) -> tuple[float, int]:
    """Raise the packets/s of a size by a tenth; return how long its nodes took to follow, and how many there are."""
    catalog = json.loads(json.dumps(stand.api.get(SPEC_CATALOGS, "ecs")))
    size = next(size for size in catalog["spec"]["sizes"] if size["name"] == EDITED_SIZE)
    selector = f"node.kubernetes.io/instance-type={EDITED_SIZE}"
    before = {_pps(node) for node in stand.api.list(NODES, labelSelector=selector)}
    size["network"]["pps"] = "1760k"
    started_s = time.monotonic()
    stand.api.replace(SPEC_CATALOGS, catalog)
    wanted = str(1760 * 95 // 100) + "k"
    assert wanted not in before, before  # noqa: S101
    _until(lambda: {_pps(node) for node in stand.api.list(NODES, labelSelector=selector)} == {wanted}, started_s)
    return time.monotonic() - started_s, sum(1 for _ in stand.api.list(NODES, labelSelector=selector))


def _pps(node: Mapping[str, Any]) -> str:
    return str(node["status"]["allocatable"].get(PPS))


def _some(stand: Stand, selector: str) -> bool:
    page = stand.api.call("GET", NODES.path(), {"labelSelector": selector, "limit": "1"})
    return bool(page["items"])


def _until(condition: Callable[[], bool], started_s: float) -> None:
    while not condition():
        assert time.monotonic() - started_s < DEADLINE_S, "the nodes did not follow"  # noqa: S101
        time.sleep(_POLL_S)


class CallCounter:
    """Counts what the controller does between two moments."""

    def __init__(self, stand: Stand) -> None:
        self.stand, self.pid = stand, stand.process(CONTROLLER).pid
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        _, self.position = audit_entries(self.stand)
        self.started_s, self.cpu_s = time.monotonic(), cpu_s(self.pid)

    def since(self, name: str) -> Calls:
        """Give what was counted, and count anew."""
        entries, self.position = audit_entries(self.stand, self.position)
        calls = Calls(name, time.monotonic() - self.started_s, by_kind(entries), cpu_s(self.pid) - self.cpu_s)
        self.started_s, self.cpu_s = time.monotonic(), cpu_s(self.pid)
        return calls


def by_kind(entries: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Count the controller's calls in audit entries, the most frequent first."""
    user = f"system:serviceaccount:podsla-system:{CONTROLLER}"
    ours = [entry for entry in entries if entry["user"]["username"] == user]
    kinds = Counter(f"{entry['verb']} {'/'.join(_resource(entry))}" for entry in ours)
    return dict(kinds.most_common())


def _resource(entry: Mapping[str, Any]) -> list[str]:
    reference = entry.get("objectRef", {})
    return [text for key in ("resource", "subresource") if (text := reference.get(key))]

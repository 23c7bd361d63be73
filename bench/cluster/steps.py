"""From asking for a GPU to access, step by step: what was seen of attachments, and when. Pure: no clock, no network."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from attach.api import Type
from bench.cluster.moments import Spread
from catalog.keys import PLACEHOLDER, WARM

ENDS: Final = (Type.RELEASED, Type.FAILED)
ACCESS: Final = "access verified"
STEPS: Final = (
    "created",  # the API server has answered
    "reserved",  # a placeholder is the attachment's
    "scheduled",  # it is bound to the node
    "device given",  # the kubelet has admitted it
    "agent begins",
    ACCESS,  # the agent has opened the device as the container would
    "told",  # the attachment's status says so
)


@dataclass(slots=True)
class Seen:
    """
    What was seen of attachments and of pods that reserve, in seconds since 1970.

    Attributes:
        at_s: By the attachment's UID, when each step was first seen; "asked" is when the client began.
        ended: UIDs of attachments that have ended, and how.
        warm: Names of placeholders of none that run.
        lanes: By node, when attachments were created, in the order in which a GPU was reserved for them.
        holders: By device, the UID of the attachment that has it.
        twice: Devices that an attachment had while another one did; events of one collection come in their order.
    """

    at_s: dict[str, dict[str, float]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    warm: set[str] = field(default_factory=set)
    lanes: dict[str, list[str]] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    _reserving: set[str] = field(default_factory=set)

    def note(self, uid: str, step: str, at_s: float) -> None:
        """Note a step; the first time counts."""
        self.at_s.setdefault(uid, {}).setdefault(step, at_s)

    def see_placeholder(self, kind: str, pod: Mapping[str, Any], at_s: float) -> None:
        """Note an event of a placeholder."""
        meta, uid = pod["metadata"], (pod["metadata"].get("labels") or {}).get(PLACEHOLDER, "")
        is_over = kind == "DELETED" or pod["status"].get("phase") in ("Succeeded", "Failed")
        self.warm.discard(meta["name"])
        if uid == WARM:
            if pod["status"].get("phase") == "Running" and not is_over and "deletionTimestamp" not in meta:
                self.warm.add(meta["name"])
            return
        self.note(uid, "reserved", at_s)
        if pod["spec"].get("nodeName"):
            self.note(uid, "scheduled", at_s)
        if is_over:
            self.note(uid, "gone", at_s)

    def see_attachment(self, kind: str, thing: Mapping[str, Any], at_s: float) -> None:
        """Note an event of an attachment."""
        meta, status = thing["metadata"], thing.get("status") or {}
        uid, true = meta["uid"], true_conditions(thing)
        if status.get("placeholder") and uid not in self._reserving:
            self._reserving.add(uid)
            self.lanes.setdefault(status["node"], []).append(meta["creationTimestamp"])
        if Type.ATTACHED in true:
            self.note(uid, "told", at_s)
            self._hold(uid, [one["uuid"] for one in status.get("devices") or ()])
        for end in (end for end in ENDS if end in true):
            self.note(uid, "ended", at_s)
            self.ended[uid] = end
        if uid in self.ended or kind == "DELETED":
            self.holders = {device: holder for device, holder in self.holders.items() if holder != uid}

    def _hold(self, uid: str, devices: Iterable[str]) -> None:
        for device in devices:
            if self.holders.setdefault(device, uid) != uid:
                self.twice.append(device)

    @property
    def overtaken(self) -> int:
        """How many had to wait for one of their lane that was created in a later second."""
        return sum(created < max(lane[:at]) for lane in self.lanes.values() for at, created in enumerate(lane) if at)

    def see_log(self, lines: Iterable[str]) -> None:
        """Note what the agent's log says of attachments."""
        steps = {"Attaching": "agent begins", "Attached": ACCESS}
        for line in lines:
            said = json.loads(line) if line.startswith("{") else {}
            if said.get("message") == "attachment changed" and said["to"] in steps:
                self.note(said["uid"], steps[said["to"]], datetime.fromisoformat(said["time"]).timestamp())


def true_conditions(thing: Mapping[str, Any]) -> frozenset[str]:
    """Name the conditions of an attachment that are True."""
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return frozenset(one["type"] for one in conditions if one["status"] == "True")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one step of many attachments, in seconds; a step begins when all before it were seen."""

    step: str
    median_s: float
    p99_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Attaches:
    """
    Many attachments, one after the other.

    Attributes:
        access: From asking to verified access.
        steps: What each step costs.
    """

    count: int
    access: Cost
    steps: tuple[Cost, ...]


def sum_up(moments: Sequence[Mapping[str, float]]) -> Attaches:
    """
    Sum up attachments, each by the moments of its steps.

    Raises:
        KeyError: One of them was not seen asked for, or its access not verified.
    """
    costs: dict[str, list[float]] = {}
    for at_s in moments:
        last_s = at_s["asked"]
        for step in STEPS:
            if step in at_s:
                costs.setdefault(step, []).append(max(0.0, at_s[step] - last_s))
                last_s = max(last_s, at_s[step])
    access = [at_s[ACCESS] - at_s["asked"] for at_s in moments]
    steps = tuple(_cost(step, costs[step]) for step in STEPS if step in costs)
    return Attaches(len(moments), _cost("asked to access", access), steps)


def _cost(step: str, taken_s: Iterable[float]) -> Cost:
    spread = Spread.of(sorted(taken_s))
    return Cost(step, spread.median_s, spread.p99_s, spread.longest_s)

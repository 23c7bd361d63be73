"""
The journal's bytes ↔ its entries. Pure.

It says what may be open on the node, so a journal that can't be read is never taken for an empty one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import orjson

from attach.entry import Entry, Policy, Wish
from attach.model import Cgroup, CgroupVersion, Container, DeviceNode, Gpu, Process, Target
from attach.reasons import ASKED, JournalReason
from attach.transitions import State

VERSION: Final = 2
Fields = dict[str, Any]


class JournalError(Exception):
    """
    The journal can't be used.

    Attributes:
        reason: One CamelCase word of a closed set.
    """

    def __init__(self, reason: JournalReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _say_why(fields: Fields) -> Fields:
    """Of version 1, that a release was wanted; of version 2, why."""
    wishes = [each["wish"] for each in fields["entries"]]
    whys = [{**wish, "release": ASKED if wish["release"] else None} for wish in wishes]
    return {**fields, "entries": [{**one, "wish": wish} for one, wish in zip(fields["entries"], whys, strict=True)]}


UPGRADES: Final[Mapping[int, Callable[[Fields], Fields]]] = {1: _say_why}  # a version → the one after it


@dataclass(frozen=True, slots=True)
class Journal:
    """Every attachment that the node knows, by UID, and the boot in which its containers and processes lived."""

    boot_id: str
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def others(self, uid: str) -> tuple[Entry, ...]:
        """List every entry but one."""
        return tuple(entry for key, entry in self.entries.items() if key != uid)


def encode(journal: Journal) -> bytes:
    """Write a journal: a line with the checksum of all that follows, then JSON."""
    fields = {"version": VERSION, "bootID": journal.boot_id, "entries": list(map(_plain, journal.entries.values()))}
    body = orjson.dumps(fields)
    return b"%s\n%s" % (_checksum(body), body)


def decode(data: bytes, upgrades: Mapping[int, Callable[[Fields], Fields]] = UPGRADES) -> Journal:
    """
    Read a journal.

    Raises:
        JournalError: It is cut short, was changed, or is of a version that this program can't read.
    """
    checksum, _, body = data.partition(b"\n")
    if checksum != _checksum(body):
        message = f"its checksum is wrong: it was cut short or changed ({len(data)} bytes are left)"
        raise JournalError("JournalChecksum", message)
    try:
        fields = _upgrade(orjson.loads(body), upgrades)
        entries = [_entry(each) for each in fields["entries"]]
        return Journal(str(fields["bootID"]), {entry.uid: entry for entry in entries})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise JournalError("JournalUnreadable", f"a field is missing or wrong: {error}") from None


def _upgrade(fields: Fields, upgrades: Mapping[int, Callable[[Fields], Fields]]) -> Fields:
    version = int(fields["version"])
    if version > VERSION:
        message = f"it is of version {version}, and this program reads up to {VERSION}; run the newer one again"
        raise JournalError("JournalNewer", message)
    while version < VERSION:
        if version not in upgrades:
            raise JournalError("JournalTooOld", f"it is of version {version}, which this program no longer reads")
        fields = upgrades[version](fields)
        version += 1
    return fields


def _checksum(body: bytes) -> bytes:
    return sha256(body).hexdigest().encode()


def _plain(entry: Entry) -> Fields:
    """Lay an entry out as it is; sets in an order."""
    fields: Fields = {name: getattr(entry, name) for name in Entry.__slots__}
    return {**fields, "residents": sorted(entry.residents, key=lambda process: process.pid)}


def _entry(fields: Fields) -> Entry:
    container = fields["container"]
    return Entry(
        **{
            **fields,
            "wish": _wish(fields["wish"]),
            "gpus": tuple(map(_gpu, fields["gpus"])),
            "container": None if container is None else _container(container),
            "made": _nodes(fields["made"]),
            "granted": _nodes(fields["granted"]),
            "residents": frozenset(Process(**each) for each in fields["residents"]),
            "state": State(fields["state"]),
        }
    )


def _wish(fields: Fields) -> Wish:
    devices, target = tuple(fields["devices"]), Target(**fields["target"])
    release, policy = fields["release"] and tuple(fields["release"]), Policy(fields["policy"])
    return Wish(**{**fields, "devices": devices, "target": target, "policy": policy, "release": release})


def _gpu(fields: Fields) -> Gpu:
    return Gpu(**{**fields, "node": DeviceNode(**fields["node"]), "companions": _nodes(fields["companions"])})


def _container(fields: Fields) -> Container:
    cgroup = fields["cgroup"]
    version = CgroupVersion(cgroup["version"])
    init = Process(**fields["init"])
    return Container(Target(**fields["target"]), init, Cgroup(**{**cgroup, "version": version}))


def _nodes(items: list[Fields]) -> tuple[DeviceNode, ...]:
    return tuple(DeviceNode(**each) for each in items)

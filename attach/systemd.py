"""
EDGE: tells systemd which devices a scope of its may open, so that a rule it makes anew has them too.

`systemctl daemon-reload`, or a change of any property of the unit, loads systemd's own program again, and all programs
of a cgroup must allow. It is spoken to over its private socket: no bus daemon is needed.
"""

import os
import socket
import struct
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from attach import dbus
from attach.dbus import DBusError, Pairs, Reader
from attach.errors import Gone, Unknown
from attach.model import Cgroup, DeviceNode
from attach.points import Hook, nowhere, point
from attach.ports import Rules

SOCKETS: Final = ("/run/systemd/private", "/proc/1/root/run/systemd/private")  # the second one: seen from a container
DEADLINE_S: Final = 5.0
_MANAGER: Final = "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_SCOPE: Final = "org.freedesktop.systemd1.Scope"
_NO_SUCH_UNIT: Final = "org.freedesktop.systemd1.NoSuchUnit"
_ALLOWED: Final = "DeviceAllow"
_ACCESS: Final = "rw"
_MAX_LINE: Final = 512


def through_systemd(inner: Rules) -> Rules:
    """Tell systemd of what an engine does, where the node has one; it answers only processes that it sees (hostPID)."""
    found = next((path for path in SOCKETS if os.path.exists(path)), None)  # Path's own raises where it may not look
    return SystemdRules(inner, Path(found)) if found else inner


class SystemdRules:
    """An engine's rules, of which systemd is told where the cgroup is a unit of its."""

    def __init__(self, inner: Rules, path: Path, at: Hook = nowhere) -> None:
        self.at = at
        self._inner = inner
        self._path = path

    def allowed(self, cgroup: Cgroup) -> frozenset[int]:
        """See the port."""
        return self._inner.allowed(cgroup)

    def permitted(self, cgroup: Cgroup, rdevs: Collection[int]) -> frozenset[int]:
        """See the port."""
        return self._inner.permitted(cgroup, rdevs)

    def settled(self, cgroup: Cgroup) -> frozenset[int]:
        """See the port."""
        found = self._inner.settled(cgroup)
        if not cgroup.unit or not found:
            return found
        there = self._listed(cgroup.unit)
        return frozenset(rdev for rdev in found if _entry(rdev) in there)

    def allow(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        """See the port. The rule comes first: it may be refused, and systemd's list is to name nothing that is not."""
        self._inner.allow(cgroup, nodes)
        if not cgroup.unit:
            return
        there = self._listed(cgroup.unit)
        if missing := [entry for entry in _entries(nodes) if entry not in there]:
            self._change(cgroup.unit, [missing])
            self._inner.allow(cgroup, nodes)  # systemd has loaded its program anew

    def deny(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        """See the port. systemd's list comes first, or it gives back what was taken; its silence keeps nothing open."""
        try:
            if cgroup.unit:
                self._forget(cgroup.unit, _entries(nodes))
        finally:
            self._inner.deny(cgroup, nodes)

    def _forget(self, unit: str, entries: Pairs) -> None:
        with suppress(Gone):
            there = self._listed(unit)
            left = [entry for entry in there if entry not in entries]
            if left != there:
                self._change(unit, [[], left])

    def _listed(self, unit: str) -> list[tuple[str, str]]:
        path = f"{_MANAGER[0]}/unit/{_escape(unit)}"
        body = self._call(unit, dbus.call(path, _PROPERTIES, "Get", "ss", dbus.strings(_SCOPE, _ALLOWED)))
        if body.type() != "a(ss)":
            raise Unknown("SystemdUnknown", f"unit {unit}: systemd's {_ALLOWED} is no list of pairs")
        return body.pairs()

    @point("tell systemd")
    def _change(self, unit: str, values: list[Pairs]) -> None:
        body = dbus.property_change(unit, _ALLOWED, values)
        self._call(unit, dbus.call(*_MANAGER, "SetUnitProperties", "sba(sv)", body))

    def _call(self, unit: str, message: bytes) -> Reader:
        try:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(DEADLINE_S)
                peer.connect(str(self._path))
                _authenticate(peer)
                peer.sendall(message)
                while (body := dbus.answer(header := _receive(peer, dbus.HEADER_BYTES), _rest(peer, header))) is None:
                    continue
                return body
        except DBusError as error:
            if error.name == _NO_SUCH_UNIT:
                raise Gone("UnitGone", f"unit {unit} is not known to systemd: the container has ended") from error
            raise Unknown("SystemdRefused", f"unit {unit}: systemd refuses: {error}") from error
        except (OSError, struct.error) as error:
            raise Unknown("SystemdSilent", f"unit {unit}: systemd does not answer: {error}") from error


def _entries(nodes: Collection[DeviceNode]) -> list[tuple[str, str]]:
    return [_entry(node.rdev) for node in sorted(set(nodes))]


def _entry(rdev: int) -> tuple[str, str]:
    """Write a device as systemd does; such a path is read by its name, whether it exists or not."""
    return f"/dev/char/{os.major(rdev)}:{os.minor(rdev)}", _ACCESS


def _escape(unit: str) -> str:
    """Write a unit's name as part of an object's path."""
    return "".join(each if each.isascii() and each.isalnum() else f"_{ord(each):02x}" for each in unit)


def _authenticate(peer: socket.socket) -> None:
    peer.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
    line = b""
    while not line.endswith(b"\r\n") and len(line) < _MAX_LINE:
        line += _receive(peer, 1)
    if not line.startswith(b"OK "):
        raise DBusError("", "it does not accept who we are")
    peer.sendall(b"BEGIN\r\n")


def _rest(peer: socket.socket, header: bytes) -> bytes:
    return _receive(peer, dbus.rest_length(header))


def _receive(peer: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = peer.recv(length - len(data))
        if not part:
            raise ConnectionResetError("the connection was closed")
        data += part
    return data

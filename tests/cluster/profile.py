"""What a cluster is made of, as one word: `control-plane+kwok=12+host`. Decides only how that word is read."""

import re
from dataclasses import dataclass
from typing import Final

MAX_KWOK_NODES: Final = 5_000
_PARTS: Final = (
    "control-plane first, then any of kwok=N (simulated nodes), karpenter (buys such nodes), host, vm (real nodes), "
    "unlimited (load tests)"
)
_FLAGS: Final = ("karpenter", "host", "vm", "unlimited")
_KWOK: Final = re.compile(r"kwok=(\d+)")


class ProfileError(ValueError):
    """The profile cannot be read; the message names the part and what exists."""


@dataclass(frozen=True, slots=True)
class Profile:
    """
    The parts of a cluster beside its control plane.

    Attributes:
        kwok_nodes: How many nodes kwok plays.
        karpenter: Whether Karpenter has more of them played where pods need them.
        host: Whether this machine is a node.
        vm: Whether a virtual machine is a node.
        unlimited: Whether the API server takes any number of requests at once.
    """

    kwok_nodes: int = 0
    karpenter: bool = False
    host: bool = False
    vm: bool = False
    unlimited: bool = False

    @property
    def real(self) -> bool:
        """Whether some node runs containers, so that the API server must be reachable from it."""
        return self.host or self.vm

    def __str__(self) -> str:
        flags = [name for name in _FLAGS if getattr(self, name)]
        return "+".join(["control-plane", *([f"kwok={self.kwok_nodes}"] if self.kwok_nodes else []), *flags])


def parse_profile(text: str) -> Profile:
    """
    Read a profile such as `control-plane+kwok=12+host+vm`.

    Raises:
        ProfileError: Some part is unknown, comes twice or is out of range, or the first is not `control-plane`.
    """
    first, *parts = text.split("+")
    if first != "control-plane":
        raise ProfileError(f"profile {text!r}: it begins with {first!r}; write {_PARTS}, joined by +")
    known: dict[str, int | bool] = {}
    for part in parts:
        name, figure = _read_part(part, text)
        if name in known:
            raise ProfileError(f"profile {text!r}: {part!r} says again what an earlier part said; leave one out")
        known[name] = figure
    return Profile(int(known.get("kwok_nodes", 0)), **{name: name in known for name in _FLAGS})


def _read_part(part: str, text: str) -> tuple[str, int | bool]:
    if part in _FLAGS:
        return part, True
    found = _KWOK.fullmatch(part)
    if found is None:
        raise ProfileError(f"profile {text!r}: there is no part {part!r}; write {_PARTS}, joined by +")
    count = int(found[1])
    if not 1 <= count <= MAX_KWOK_NODES:
        raise ProfileError(f"profile {text!r}: {part!r} asks {count} nodes; 1 to {MAX_KWOK_NODES} can be had")
    return "kwok_nodes", count

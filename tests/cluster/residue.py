"""
EDGE: what kubelet, kube-proxy and CNI plugins leave in the kernel's network tables when they are ended.

Run as a program it takes that away. Uses the standard library only, so that a journal can name this file as a command.
"""

import re
import subprocess
from pathlib import Path

_CHAIN = re.compile(r"^:((?:KUBE|CNI)-\S+)", re.MULTILINE)
_JUMP = re.compile(r"^-A (.*-j (?:KUBE|CNI)-.*)$", re.MULTILINE)
_SHAPER = re.compile(r"bwp[0-9a-f]{10,12}")  # the bandwidth plugin's links, named by a hash
FAMILIES = ("iptables", "ip6tables")


def removal(saved: str) -> str:
    """
    Write what takes every chain of Kubernetes and CNI out of *saved*, and nothing else.

    Args:
        saved: What iptables-save prints.

    Returns:
        Input for `iptables-restore --noflush`; empty where there is nothing to take away.
    """
    parts: list[str] = []
    for table in re.split(r"^\*", saved, flags=re.MULTILINE)[1:]:
        chains = _CHAIN.findall(table)
        if not chains:
            continue
        jumps = [rule for rule in _JUMP.findall(table) if not rule.startswith(("KUBE-", "CNI-"))]
        lines = [f"*{table.split()[0]}"]
        lines += [f"-D {rule}" for rule in jumps]  # before the chains that they lead to
        lines += [f"-F {chain}" for chain in chains] + [f"-X {chain}" for chain in chains]
        parts.append("\n".join([*lines, "COMMIT", ""]))
    return "".join(parts)


def found() -> list[str]:
    """Name every chain and link of Kubernetes or CNI that there is now."""
    chains = [f"{family} chain {chain}" for family in FAMILIES for chain in sorted(set(_CHAIN.findall(_saved(family))))]
    return [*chains, *(f"link {name}" for name in _shapers())]


def remove() -> None:
    """Take all of it away."""
    for family in FAMILIES:
        if text := removal(_saved(family)):
            subprocess.run([f"{family}-restore", "--noflush"], input=text, text=True, check=True, capture_output=True)
    for name in _shapers():
        subprocess.run(["ip", "link", "delete", name], check=True, capture_output=True)


def _saved(family: str) -> str:
    done = subprocess.run([f"{family}-save"], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _shapers() -> list[str]:
    return sorted(link.name for link in Path("/sys/class/net").iterdir() if _SHAPER.fullmatch(link.name))


if __name__ == "__main__":
    remove()

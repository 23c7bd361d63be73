"""EDGE: what is read after a failure: logs and objects of a cluster."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.cluster.binaries import find
from tests.cluster.state import Cluster, ClusterError

_NOT_DUMPED: Final = {"secrets", "componentstatuses"}
_KUBECTL_S: Final = 60


def last_lines(cluster: Cluster, component: str | None, count: int) -> Iterator[str]:
    """
    The last lines of a component's log, or of each one's below its name.

    Raises:
        ClusterError: There is no such log; those that exist are named.
    """
    found = {path.stem: path for path in sorted((cluster.folder / "log").glob("*"))}
    if component is not None and component not in found:
        known = ", ".join(found) or "none"
        raise ClusterError(f"cluster {cluster.name!r} has no log of {component!r}; there are: {known}")
    for name in found if component is None else [component]:
        if component is None:
            yield f"==> {name} <=="
        yield from found[name].read_text(errors="replace").splitlines()[-count:]


def collect_into(cluster: Cluster, folder: Path) -> None:
    """Copy all logs, and dump every kind of object that can be listed but Secrets, as far as the cluster answers."""
    shutil.copytree(cluster.folder / "log", folder / "log", dirs_exist_ok=True)
    kubectl = [str(find("kubectl")), f"--kubeconfig={cluster.kubeconfig}", "--request-timeout=20s"]
    listed = _output([*kubectl, "api-resources", "--verbs=list", "-o", "name"])
    for kind in listed.split():
        if kind not in _NOT_DUMPED:
            (folder / f"{kind}.yaml").write_text(_output([*kubectl, "get", kind, "--all-namespaces", "-o", "yaml"]))


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_KUBECTL_S)
    return done.stdout + "".join(f"# {line}\n" for line in done.stderr.splitlines())

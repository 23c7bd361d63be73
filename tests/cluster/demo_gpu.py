"""EDGE: `make demo-gpu`: two jobs of three phases share the one GPU of this machine, a node of a real cluster."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import yaml

from tests.cluster import lifecycle
from tests.cluster.gpus import lend_here, nvidia_gpus
from tests.cluster.install import PODSLA, ROOT, install, kubectl
from tests.cluster.nodeconfig import HOST
from tests.cluster.profile import parse_profile
from tests.cluster.state import Cluster, ClusterError, cluster_folder
from tests.waiting import eventually

NAME: Final = "demo-gpu"
PHASES: Final = ROOT / "manifests" / "examples" / "phases.yaml"
JOBS: Final = ("first", "second")
ENDS_S: Final = 300.0


def main() -> None:
    """Bring all of it up, let both jobs run to their end, and show who had the GPU when."""
    try:
        demonstrate()
    except (AssertionError, ClusterError) as error:
        print(f"demo-gpu: {error}", file=sys.stderr)
        sys.exit(1)


def demonstrate() -> None:
    """Show it; a cluster that was kept is used again, for jobs that begin anew."""
    try:
        cluster = lifecycle.up(NAME, parse_profile("control-plane+host"), report)
        report("podsla")
        install(cluster)
        lend_here(cluster, 1, report, real=True)
        kubectl(cluster, "delete", "-f", str(PHASES), "--ignore-not-found")
        kubectl(cluster, "delete", "gpuattachments", "--all", "--timeout=60s")
        what = "of NVIDIA's" if nvidia_gpus() else "for which a device stands"
        title(f"two jobs, each with a phase that needs a GPU; node {HOST} has one, {what}")
        print(f"$ kubectl apply -f {PHASES.relative_to(ROOT)}", flush=True)
        print(kubectl(cluster, "apply", "-f", str(PHASES)), end="", flush=True)
        title("one has it, the other waits")
        eventually(lambda: len(attachments(cluster, is_attached)) == 1 < len(attachments(cluster)), "one waits", ENDS_S)
        show(cluster, "gpu", "list")
        wait_for_jobs(cluster)
        title("what their processes saw")
        for job in JOBS:
            print(f"$ kubectl logs job/{job}\n{kubectl(cluster, 'logs', f'job/{job}')}", end="", flush=True)
        title("who had the GPU when")
        show(cluster, "gpu", "timeline", "--width", "48")
    finally:
        if "KEEP" in os.environ:
            print(f"\nit stays up; use it with: export KUBECONFIG={cluster_folder(NAME) / 'kubeconfig'}")
            print(f"and take it down with: make cluster-down NAME={NAME}")
        else:
            lifecycle.down(NAME, report)


def report(what: str) -> None:
    """Say what is being waited for."""
    print(f"… {what}", file=sys.stderr, flush=True)


def title(text: str) -> None:
    """Say what comes."""
    print(f"\n# {text}", flush=True)


def show(cluster: Cluster, *arguments: str) -> None:
    """Run a command of podsla as a user would."""
    print(f"$ podsla {' '.join(arguments)}", flush=True)
    subprocess.run([PODSLA, *arguments], env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}, check=True)


def phases(node: str) -> str:
    """Write the example for one node of several."""
    things = list(yaml.safe_load_all(PHASES.read_text()))
    for thing in things:
        if thing["kind"] == "Job":
            thing["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    return yaml.safe_dump_all(things)


def wait_for_jobs(cluster: Cluster) -> None:
    """
    Wait until both jobs are done.

    Raises:
        ClusterError: They are not.
    """
    jobs = [f"job/{job}" for job in JOBS]
    kubectl(cluster, "wait", "--for=condition=complete", *jobs, f"--timeout={ENDS_S:.0f}s")


def attachments(cluster: Cluster, which: Callable[[Any], bool] = lambda _: True) -> list[Any]:
    """List the attachments of the namespace."""
    found = json.loads(kubectl(cluster, "get", "gpuattachments", "-o", "json"))["items"]
    return [each for each in found if which(each)]


def is_attached(thing: Any) -> bool:
    """Say whether it has its GPU."""
    conditions = thing.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Attached" and each["status"] == "True" for each in conditions)


if __name__ == "__main__":
    main()

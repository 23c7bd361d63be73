"""EDGE: installs podsla in a cluster as a user would; where no node can run its image, as two processes beside it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.cluster import binaries
from tests.cluster.nodeconfig import HOST, VM
from tests.cluster.processes import is_alive, start, wait_ready
from tests.cluster.state import Cluster, ClusterError, Process

ROOT: Final = Path(__file__).resolve().parents[2]
OVERLAYS: Final = ROOT / "manifests" / "overlays"
NAMESPACE: Final = "podsla-system"
PODSLA: Final = Path(sys.executable).parent / "podsla"
READY_S: Final = 180
TOKEN_LIFE: Final = "24h"  # noqa: S105 - a duration


def install(cluster: Cluster) -> None:
    """
    Bring podsla up; done already, it changes nothing.

    Raises:
        ClusterError: Something did not come up; the message holds the end of its log.
    """
    if cluster.profile.real:
        from tests.cluster import images

        images.load(cluster, images.PODSLA)
        kubectl(cluster, "apply", "--server-side", "-k", str(_overlay(cluster)))
        for name in ("controller", "webhook"):
            kubectl(cluster, "-n", NAMESPACE, "rollout", "status", f"deployment/podsla-{name}", f"--timeout={READY_S}s")
    else:
        port = cluster.ports["podsla-webhook"]
        manifests = kubectl(cluster, "kustomize", str(OVERLAYS / "outside"))
        manifests = manifests.replace("127.0.0.1:8443", f"127.0.0.1:{port}")
        kubectl(cluster, "apply", "--server-side", "-f", "-", text=manifests)
        running = {made.name for made in cluster.journal.read() if isinstance(made, Process) and is_alive(made)}
        for name, arguments in (
            ("controller", ["--port", str(cluster.ports["podsla-controller"])]),
            ("webhook", ["--port", str(port), "--address", "127.0.0.1"]),
        ):
            if f"podsla-{name}" not in running:
                start_process(cluster, name, arguments)
    kubectl(cluster, "wait", "--for=condition=Established", "crd/speccatalogs.podsla.io", "--timeout=30s")
    wait_ready(cluster, "the CA bundle of the webhooks", lambda: _has_bundle(cluster), deadline_s=READY_S)


def describe(cluster: Cluster, folder: Path) -> None:
    """Say what the cluster has, as a platform team does: by `target.yaml` and `catalog.yaml` of a folder."""
    meta = {"name": "podsla-target", "namespace": NAMESPACE}
    target = {"target.yaml": (folder / "target.yaml").read_text()}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": target}
    kubectl(cluster, "apply", "-f", "-", text=json.dumps(body))
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    argv = [str(PODSLA), "catalog", "apply", str(folder / "catalog.yaml")]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"podsla catalog apply: {done.stderr.strip()}")


def start_process(cluster: Cluster, name: str, arguments: list[str]) -> None:
    """Run `podsla NAME` on this machine with the rights of its service account, and wait until it is ready."""
    config = service_account_kubeconfig(cluster, f"podsla-{name}")
    argv = [str(PODSLA), name, "--kubeconfig", str(config), *arguments]
    process = start(cluster, f"podsla-{name}", argv, cwd=ROOT)
    port = cluster.ports[f"podsla-{name}"]
    scheme = "https" if name == "webhook" else "http"
    wait_ready(cluster, f"podsla {name}", lambda: _answers(f"{scheme}://127.0.0.1:{port}/readyz"), process=process)


def service_account_kubeconfig(cluster: Cluster, name: str) -> Path:
    """Write a kubeconfig with a token of one of podsla's service accounts."""
    token = kubectl(cluster, "-n", NAMESPACE, "create", "token", name, f"--duration={TOKEN_LIFE}").strip()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": cluster.server, "certificate-authority": str(cluster.pki / "ca.crt")}}
        ],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = cluster.folder / f"{name}.kubeconfig"
    path.touch(0o600)
    path.write_text(json.dumps(config))
    return path


def kubectl(cluster: Cluster, *arguments: str, text: str | None = None) -> str:
    """
    Run kubectl as the administrator.

    Raises:
        ClusterError: It failed; the message is its own.
    """
    argv = [str(binaries.find("kubectl")), *arguments]
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    done = subprocess.run(argv, env=env, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"kubectl {' '.join(arguments[:4])}: {done.stderr.strip()}")
    return done.stdout


def _overlay(cluster: Cluster) -> Path:
    """Write a kustomization over the default install: pods run on one real node, others may be simulated."""
    folder = cluster.folder / "install"
    folder.mkdir(exist_ok=True)
    node = HOST if cluster.profile.host else VM
    patch = {"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": node}}}}}
    body = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(OVERLAYS / "default", folder)],
        "patches": [
            {
                "target": {"kind": "Deployment", "name": name},
                "patch": json.dumps(
                    {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, **patch}
                ),
            }
            for name in ("podsla-controller", "podsla-webhook")
        ],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(body))
    return folder


def _answers(url: str) -> bool:
    argv = ["curl", "--silent", "--insecure", "--max-time", "2", "--output", "/dev/null", "--write-out", "%{http_code}"]
    return subprocess.run([*argv, url], capture_output=True, text=True, check=False).stdout == "200"


def _has_bundle(cluster: Cluster) -> bool:
    path = "{.webhooks[*].clientConfig.caBundle}"
    names = ("mutatingwebhookconfiguration/podsla", "validatingwebhookconfiguration/podsla-templates")
    return all(kubectl(cluster, "get", name, "-o", f"jsonpath={path}").strip() for name in names)

"""EDGE: which namespace commands mean where none is named, as kubectl decides it."""

from pathlib import Path
from typing import Final

from kubernetes import config

DEFAULT: Final = "default"
_IN_POD: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def current_namespace(kubeconfig: Path | None, context: str | None) -> str:
    """Find the namespace of the context; in a pod without a kubeconfig, the pod's own."""
    try:
        contexts, active = config.list_kube_config_contexts(str(kubeconfig) if kubeconfig else None)
    except config.ConfigException:
        return _IN_POD.read_text().strip() if _IN_POD.exists() else DEFAULT
    chosen = next((one for one in contexts if one["name"] == context), active) if context else active
    return str(((chosen or {}).get("context") or {}).get("namespace") or DEFAULT)

"""EDGE: Events: what people see in `kubectl describe`."""

import logging
from datetime import UTC, datetime
from typing import Final, Literal

from kube.api import Api, ApiError, Object
from kube.kinds import EVENTS

MAX_NOTE: Final = 1024  # the API server refuses a longer one
_log: Final = logging.getLogger(__name__)


def post(
    api: Api,
    about: Object,
    *,
    kind: Literal["Normal", "Warning"],
    reason: str,
    action: str,
    note: str,
) -> None:
    """
    Tell of *about* what happened. An event that cannot be written is logged: nothing depends on it.

    Args:
        about: A whole object.
        reason: One CamelCase word.
        action: What was tried, one CamelCase word.
    """
    metadata = about["metadata"]
    where = metadata.get("namespace") or "default"  # the API server takes events of objects without one there alone
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{metadata['name']}-", "namespace": where},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": kind,
        "reason": reason,
        "action": action,
        "note": note[:MAX_NOTE],
        "reportingController": "podsla.io/controller",
        "reportingInstance": "podsla-controller",
        "regarding": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
            "resourceVersion": metadata.get("resourceVersion", ""),
            **({"namespace": metadata["namespace"]} if metadata.get("namespace") else {}),
        },
    }
    try:
        api.create(EVENTS, body, where)
    except ApiError as error:
        _log.warning("cannot write an event", extra={"fields": {"error": str(error)[:256]}})

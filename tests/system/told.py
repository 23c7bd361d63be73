"""EDGE: what the controller tells of a wrong edit beside the status: Events and its log."""

import json
from collections.abc import Mapping
from typing import Any

from kube.api import Object
from kube.kinds import EVENTS
from tests.cluster.state import Cluster
from tests.system.user import User


def notes(user: User, about: Object, reason: str) -> set[str]:
    """What Events warn of one object."""
    selector = f"regarding.uid={about['metadata']['uid']},reason={reason}"
    events = user.api.list(EVENTS, about["metadata"].get("namespace") or "default", fieldSelector=selector)
    return {event["note"] for event in events if event["type"] == "Warning"}


def logged(beside: Cluster, message: str, **fields: Any) -> list[Mapping[str, Any]]:
    """Lines of the controller's log with this message and these fields."""
    lines = map(json.loads, beside.log("podsla-controller").read_text().splitlines())
    return [line for line in lines if line["message"] == message and fields.items() <= line.items()]

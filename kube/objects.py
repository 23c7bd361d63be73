"""What is read of any object: its conditions. Pure."""

from collections.abc import Mapping
from typing import Any


def has_condition(thing: Mapping[str, Any], kind: str) -> bool:
    """Say whether a condition of an object is True."""
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)

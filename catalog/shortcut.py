"""A short way through a schema, for sizes by the thousand: what is right at first sight is read without cerberus. Pure.

Whatever is not goes the long way, which finds what is wrong, and says it. So this one may doubt what is right, and
never take what is wrong; a test holds both ways to the same answers.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

Read: TypeAlias = Callable[[Any], Any]
_UNDERSTOOD: Final = {"type", "coerce", "min", "regex", "allowed", "required", "default", "schema"}
_TYPES: Final = {"string": str, "integer": int, "boolean": bool}


class DoubtError(ValueError):
    """Only the long way can tell."""


def shortcut(fields: Mapping[str, Mapping[str, Any]]) -> Read:
    """
    Compile the schema of a mapping; what comes of it normalises one, or raises `DoubtError` or another ValueError.

    Raises:
        NotImplementedError: A rule is none of those that are understood here.
    """
    reads = {name: _value(rules) for name, rules in fields.items()}
    required = {name for name, rules in fields.items() if rules.get("required")}
    defaults = {name: rules["default"] for name, rules in fields.items() if "default" in rules}

    def read(data: Any) -> dict[str, Any]:
        if type(data) is not dict or not reads.keys() >= data.keys() >= required:
            raise DoubtError
        return {**defaults, **{name: reads[name](value) for name, value in data.items()}}

    return read


def _value(rules: Mapping[str, Any]) -> Read:
    """Compile what one field may be."""
    if unknown := rules.keys() - _UNDERSTOOD:
        raise NotImplementedError(f"the rules {sorted(unknown)} of {rules}")
    if rules["type"] == "dict":
        return shortcut(rules["schema"])
    wanted, coerce, least = _TYPES[rules["type"]], rules.get("coerce"), rules.get("min")
    pattern, allowed = re.compile(rules.get("regex", "(?s:.*)")), rules.get("allowed")

    def read(value: Any) -> Any:
        found = coerce(value) if coerce else value
        in_form = type(found) is wanted and (wanted is not str or pattern.fullmatch(found))
        if not in_form or (least is not None and found < least) or (allowed is not None and found not in allowed):
            raise DoubtError
        return found

    return read

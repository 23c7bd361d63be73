"""JSON Patch (RFC 6902) operations between a pod and the pod as it shall be. Pure.

Only what differs is touched: a field is added where it was absent, list items that come at the end are added with "-",
and whatever is overwritten or removed is tested first, so that a patch never falls on something it did not see.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Operation: TypeAlias = dict[str, Any]


def escape(key: str) -> str:
    """Write a key as one step of a JSON Pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def diff(before: Any, after: Any, path: str = "") -> Iterator[Operation]:
    """
    List the operations that turn *before* into *after*.

    Parts that both share, by identity, cost nothing: build *after* from *before* by copying only what changes.
    """
    if before is after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _diff_mappings(before, after, path)
    elif isinstance(before, list) and isinstance(after, list) and len(after) >= len(before):
        for index, old in enumerate(before):
            yield from diff(old, after[index], f"{path}/{index}")
        for new in after[len(before) :]:
            yield {"op": "add", "path": f"{path}/-", "value": new}
    elif not same(before, after):
        yield {"op": "test", "path": path, "value": before}
        yield {"op": "replace", "path": path, "value": after}


def _diff_mappings(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[Operation]:
    for key, old in before.items():
        inner = f"{path}/{escape(key)}"
        if key in after:
            yield from diff(old, after[key], inner)
        else:
            yield {"op": "test", "path": inner, "value": old}
            yield {"op": "remove", "path": inner}
    for key, new in after.items():
        if key not in before:
            yield {"op": "add", "path": f"{path}/{escape(key)}", "value": new}


def same(left: Any, right: Any) -> bool:
    """Compare JSON values: 1 and true are not the same, as they are to Python."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)

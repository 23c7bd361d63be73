"""JSON Patch (RFC 6902) operations between a pod and the pod as it shall be. Pure.

Only what differs is touched: a field is added where it was absent, list items that come at the end are added with "-",
those that come first before the others, and whatever is overwritten or removed is tested first, so that a patch never
falls on something it did not see.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

Operation: TypeAlias = dict[str, Any]


def escape(key: str) -> str:
    """Write a key as one step of a JSON Pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


def diff(before: Any, after: Any) -> tuple[Operation, ...]:
    """
    List the operations that turn *before* into *after*.

    Parts that both share, by identity, cost nothing: build *after* from *before* by copying only what changes.
    """
    operations: list[Operation] = []
    _compare(before, after, "", operations)
    return tuple(operations)


def _compare(before: Any, after: Any, path: str, operations: list[Operation]) -> None:
    if isinstance(before, dict) and isinstance(after, dict):
        _compare_mappings(before, after, path, operations)
    elif isinstance(before, list) and isinstance(after, list) and len(after) >= len(before):
        ahead = _ahead(before, after)
        operations += [{"op": "add", "path": f"{path}/{i}", "value": new} for i, new in enumerate(after[:ahead])]
        for index, old in enumerate(before, ahead):
            if old is not after[index]:
                _compare(old, after[index], f"{path}/{index}", operations)
        operations += [{"op": "add", "path": f"{path}/-", "value": new} for new in after[ahead + len(before) :]]
    elif not same(before, after):
        operations.append({"op": "test", "path": path, "value": before})
        operations.append({"op": "replace", "path": path, "value": after})


def _ahead(before: list[Any], after: list[Any]) -> int:
    """Count the items that were put first: 0 unless all that were there come after them, alike by name or as words."""
    more = len(after) - len(before)
    if not more or not before:
        return 0
    keys = list(map(_key, before))
    return more if keys == list(map(_key, after[more:])) != list(map(_key, after[: len(before)])) else 0


def _key(item: Any) -> Any:
    return item.get("name") if isinstance(item, dict) else item


def _compare_mappings(
    before: Mapping[str, Any], after: Mapping[str, Any], path: str, operations: list[Operation]
) -> None:
    shared = len(before)
    for key, old in before.items():
        if key not in after:
            shared -= 1
            inner = f"{path}/{escape(key)}"
            operations.append({"op": "test", "path": inner, "value": old})
            operations.append({"op": "remove", "path": inner})
        elif old is not after[key]:
            _compare(old, after[key], f"{path}/{escape(key)}", operations)
    if len(after) > shared:
        added = ((key, new) for key, new in after.items() if key not in before)
        operations += [{"op": "add", "path": f"{path}/{escape(key)}", "value": new} for key, new in added]


def same(left: Any, right: Any) -> bool:
    """Compare JSON values: 1 and true are not the same, as they are to Python."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)

"""The patch between any two documents, applied by the jsonpatch library."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from hypothesis import given

from tests.strategies import json_values, written
from webhook.patch import Operation, diff, escape, same


def patched(before: Any, operations: tuple[Operation, ...]) -> Any:
    """Apply operations as the API server does: through JSON, in order, each on the result of the last."""
    return jsonpatch.apply_patch(deepcopy(before), json.loads(json.dumps(operations)))


def assert_well_formed(operations: tuple[Operation, ...]) -> None:
    """Check that operations are of three kinds only, and that nothing is overwritten or removed untested."""
    for position, operation in enumerate(operations):
        assert operation["op"] in ("add", "replace", "remove", "test")
        if operation["op"] in ("replace", "remove"):
            tested = operations[position - 1]
            assert position > 0
            assert (tested["op"], tested["path"]) == ("test", operation["path"])


def test_every_case_of_the_public_suites_is_reached(shared_data: Path) -> None:
    """Both suites give 60 and more pairs of a document and what it becomes."""
    pairs = 0
    for file in ("tests.json", "spec_tests.json"):
        for case in json.loads((shared_data / "json-patch" / file).read_text()):
            if "expected" not in case or "doc" not in case or case.get("disabled"):
                continue
            pairs += 1
            before, expected = case["doc"], case["expected"]
            operations = diff(before, expected)
            assert_well_formed(operations)
            assert patched(before, operations) == expected, case
            back = diff(expected, before)
            assert patched(expected, back) == before, case
    assert pairs >= 60


@given(before=json_values, after=json_values)
def test_a_patch_makes_one_document_the_other(before: Any, after: Any) -> None:
    operations = diff(before, after)
    assert_well_formed(operations)
    assert same(patched(before, operations), after)


@given(value=json_values)
def test_a_document_and_its_copy_need_no_patch(value: Any) -> None:
    assert diff(value, deepcopy(value)) == ()


@given(before=json_values, after=json_values)
def test_sameness_is_that_of_json(before: Any, after: Any) -> None:
    """True is not 1; 1 and 1.0 are one number."""

    def canonical(value: Any) -> Any:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, list):
            return [canonical(item) for item in value]
        return {key: canonical(item) for key, item in value.items()} if isinstance(value, dict) else value

    assert same(before, after) == (written(canonical(before)) == written(canonical(after)))


@given(value=json_values)
def test_a_patch_falls_on_nothing_that_it_did_not_see(value: Any) -> None:
    """Where the document is another by now, a test operation fails and the document stays."""
    before = {"a": value, "b": 1}
    operations = diff(before, {"b": 2})
    other = {"a": [value], "b": 1}
    with pytest.raises(jsonpatch.JsonPatchTestFailed):
        patched(other, operations)


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        pytest.param({}, {"a/b": 1}, ["/a~1b"], id="a slash in a key"),
        pytest.param({}, {"a~b": 1}, ["/a~0b"], id="a tilde in a key"),
        pytest.param({"~1": {}}, {"~1": {"/": 1}}, ["/~01/~1"], id="a key that looks escaped"),
        pytest.param({"": {}}, {"": {"": 1}}, ["//"], id="empty keys"),
        pytest.param({"a": [1]}, {"a": [1, 2, 3]}, ["/a/-", "/a/-"], id="items at the end"),
        pytest.param({"a": {"-": 1}}, {"a": {"-": 2}}, ["/a/-", "/a/-"], id="a key that looks like the end of a list"),
        pytest.param({"a": True}, {"a": 1}, ["/a", "/a"], id="true becomes 1"),
        pytest.param({"a": 1}, {"a": 1.0}, [], id="1 and 1.0 are one number"),
        pytest.param({"a": None}, {"a": {}}, ["/a", "/a"], id="null becomes a mapping"),
        pytest.param({"a": None}, {}, ["/a", "/a"], id="null is removed"),
        pytest.param([1, 2], [1], ["", ""], id="a shorter list is replaced whole"),
        pytest.param(1, 2, ["", ""], id="the root itself"),
    ],
)
def test_paths(before: Any, after: Any, paths: list[str]) -> None:
    operations = diff(before, after)
    assert [operation["path"] for operation in operations] == paths
    assert same(patched(before, operations), after)


def test_escapes_are_undone_in_the_right_order() -> None:
    assert escape("~1/~0") == "~01~1~00"


def test_what_is_put_first_is_added_before_the_rest_which_stays() -> None:
    """By name where items have one, so that what changed in them as well is found at its new place."""
    before = {"command": ["a", "b"], "containers": [{"name": "x"}, {"name": "y", "image": "1"}]}
    after = {
        "command": ["f", "a", "b"],
        "containers": [{"name": "w"}, {"name": "x"}, {"name": "y", "image": "1", "tty": True}],
    }

    operations = diff(before, after)

    assert [(each["op"], each["path"]) for each in operations] == [
        ("add", "/command/0"),
        ("add", "/containers/0"),
        ("add", "/containers/2/tty"),
    ]
    assert patched(before, operations) == after

"""The short way through a schema takes nothing that cerberus would refuse, and what it takes it reads the same."""

from typing import Any

import pytest

from catalog.load import SHIPPED_CATALOG, load_documents
from catalog.schema import SIZE, SIZE_ITEM, Rules, check
from catalog.shortcut import shortcut
from catalog.yamltext import Numeral

LONG_WAY = Rules(SIZE)
SHORT_WAY = shortcut(SIZE)

SOUND = {"name": "x.large", "vcpu": 4, "memory": "8Gi"}
VALUES: list[Any] = [
    *(None, True, False, [], {}, {"pps": 1}, -1, 0, 1, 4, 2500, 1.5, 10**30, Numeral("1.5")),
    *("", "0", "1", "-1", "2.5", "1500m", "8Gi", "1e3", "4x", "9" * 30, "a b", "a\n", "x" * 80, "amd64", "1/2", "½"),
]
FIELDS = [(name,) for name in (*SIZE, "nonsense")]
INNER = [(name, inner) for name, rules in SIZE.items() for inner in (*rules.get("schema", ()), "nonsense")]


def read_short(size: Any) -> Any:
    """What the short way makes of a size; None where it leaves it to the long one."""
    try:
        return SHORT_WAY(size)
    except ValueError:
        return None


@pytest.mark.parametrize("path", [*FIELDS, *INNER], ids=".".join)
def test_what_the_short_way_takes_the_long_one_reads_the_same(path: tuple[str, ...]) -> None:
    for value in VALUES:
        field: Any = value if len(path) == 1 else {path[1]: value}
        size = {**SOUND, path[0]: field}
        assert check(size, SIZE_ITEM) == check(size, LONG_WAY), size


@pytest.mark.parametrize("missing", SOUND)
def test_a_field_that_must_be_there_is_missed_on_the_short_way_too(missing: str) -> None:
    assert read_short({key: value for key, value in SOUND.items() if key != missing}) is None


def test_sizes_that_are_published_need_the_short_way_alone() -> None:
    sizes = [size for document in load_documents([SHIPPED_CATALOG]) for size in document.data["spec"].get("sizes", ())]
    assert len(sizes) > 700
    assert [size["name"] for size in sizes if read_short(size) is None] == []
    assert [read_short(size) for size in sizes] == [check(size, LONG_WAY)[0] for size in sizes]


@pytest.mark.parametrize(
    "size", [None, [], "x", {}, {"name": "x"}, {"name": "x", "vcpu": 4, "memory": "8Gi", "cpu": 3}]
)
def test_what_is_no_size_is_left_to_the_long_way(size: Any) -> None:
    assert read_short(size) is None


def test_a_rule_that_is_not_understood_stops_the_program_and_lets_nothing_pass() -> None:
    with pytest.raises(NotImplementedError, match="forbidden"):
        shortcut({"name": {"type": "string", "forbidden": ["none"]}})

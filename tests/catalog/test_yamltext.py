"""YAML text: what is read, what is refused and where."""

import pytest

from catalog.problems import InvalidError
from catalog.yamltext import Numeral, parse_documents, render_documents

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: 1\na: 2\n", "f:2: a: is written twice (first on line 1); keep one", id="a key twice"),
        pytest.param(
            "b:\n  c: 1\n  c: 3\n", "f:3: b.c: is written twice (first on line 2); keep one", id="an inner key twice"
        ),
        pytest.param("a: [1\nb: }", "f:2: this is not YAML: did not find expected ',' or ']'", id="broken"),
        pytest.param("[" * 200_000, "f:1: nests deeper than 100 levels; write it flatter", id="200,000 levels deep"),
        pytest.param(
            BOMB,
            "f:6: expands to more than 1000000 values; use fewer aliases, or split the file",
            id="aliases that explode",
        ),
        pytest.param("a: *b", "f:1: alias *b has no anchor before it; write &b at its source", id="no such anchor"),
        pytest.param(
            "a: &a [*a]", "f:1: alias *a has no anchor before it; write &a at its source", id="an alias of itself"
        ),
        pytest.param("? [a]\n: 1", "f:1: a key must be text; write `name: value`", id="a list as a key"),
        pytest.param(
            "a: !!python/object:os.system x",
            "f:1: a: has the tag tag:yaml.org,2002:python/object:os.system; leave it out",
            id="a tag that would make an object",
        ),
        pytest.param(
            "x: \x01",
            "f: this is not YAML: unacceptable character #x0001: control characters are not allowed",
            id="control",
        ),
    ],
)
def test_one_clear_message_and_nothing_is_read(text: str, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_documents(text, "f")

    assert str(caught.value) == message


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(InvalidError) as caught:
        parse_documents("a: 1\na: 2\nb: 1\nb: 2\n", "f")

    assert [problem.path for problem in caught.value.problems] == ["a", "b"]


def test_numbers_with_a_point_stay_as_they_were_written() -> None:
    data = parse_documents("a: 1.50\nb: '1.5'\nc: 2027-03-01\nd: ~\ne: yes\nf: 0x10\n", "f")[0].data

    assert data == {"a": "1.50", "b": "1.5", "c": "2027-03-01", "d": None, "e": True, "f": 16}
    assert isinstance(data["a"], Numeral)
    assert not isinstance(data["b"], Numeral)


def test_rendering_keeps_order_and_the_difference_between_text_and_number() -> None:
    text = "z: 1.50\na: '1.5'\nm: |\n  two\n  lines\nb: 'yes'\n"

    assert render_documents([parse_documents(text, "f")[0].data]) == text


@pytest.mark.parametrize("text", ["1e10", "12345e6", "1e+3", ".5", "1.", "y", "N", "no", "0o17", "0x1F", "1_000", "~"])
def test_text_that_another_reader_would_take_for_something_else_is_quoted(text: str) -> None:
    assert render_documents([{"a": text}]) == f"a: '{text}'\n"


def test_anchors_and_merge_keys_are_expanded() -> None:
    data = parse_documents("a: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}\nc: *x\n", "f")[0].data

    assert data == {"a": {"k": 1, "l": 2}, "b": {"k": 1, "l": 3}, "c": {"k": 1, "l": 2}}


def test_a_line_for_every_field_and_the_nearest_for_others() -> None:
    document = parse_documents("spec:\n  sizes:\n  - name: a\n    cpu: {x: 1}\n", "f")[0]

    assert document.line(("spec", "sizes", 0, "cpu")) == 4
    assert document.line(("spec", "sizes", 0, "memory")) == 3

"""Quantities against the Kubernetes client: the same numbers, exactly, rounded up; and nothing else is taken."""

from decimal import ROUND_CEILING, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.quantity import (
    MAX_INT64,
    QuantityError,
    parse_cpu_m,
    parse_integer,
    render_bytes,
    render_cpu_m,
    render_integer,
)
from tests.strategies import exact, quantities

whole = st.integers(0, MAX_INT64) | st.sampled_from([10**n for n in range(19)] + [1 << n for n in range(63)])


def up(value: Decimal) -> int:
    """Round up to a whole number."""
    return int(value.to_integral_value(ROUND_CEILING))


@given(drawn=quantities())
def test_a_quantity_is_what_was_drawn_rounded_up(drawn: tuple[str, Decimal]) -> None:
    text, value = drawn
    assert parse_integer(text) == up(value)
    assert parse_cpu_m(text) == up(value * 1000)


@given(drawn=quantities())
def test_a_quantity_is_what_the_kubernetes_client_reads(drawn: tuple[str, Decimal]) -> None:
    text, _ = drawn
    assert parse_integer(text) == up(exact(text))
    assert parse_cpu_m(text) == up(exact(text) * 1000)


@given(value=whole)
def test_what_is_rendered_reads_back_as_itself(value: int) -> None:
    assert parse_integer(render_integer(value)) == value
    assert parse_integer(render_bytes(value)) == value
    assert exact(render_integer(value)) == exact(render_bytes(value)) == value


@given(value=st.integers(0, MAX_INT64))
def test_rendered_millicores_read_back_as_themselves(value: int) -> None:
    assert parse_cpu_m(render_cpu_m(value)) == value
    assert exact(render_cpu_m(value)) * 1000 == value


@given(left=quantities(), right=quantities())
def test_a_larger_amount_never_reads_as_a_smaller_integer(
    left: tuple[str, Decimal], right: tuple[str, Decimal]
) -> None:
    (low, _), (high, _) = sorted((left, right), key=lambda drawn: drawn[1])
    assert parse_integer(low) <= parse_integer(high)
    assert parse_cpu_m(low) <= parse_cpu_m(high)


@given(number=st.floats(0, 1e15, allow_nan=False) | st.integers(0, 10**15))
def test_a_plain_number_is_its_shortest_text(number: float) -> None:
    assert parse_integer(number) == up(Decimal(repr(number)))


@given(text=st.text(max_size=12))
def test_any_text_is_read_exactly_or_refused_in_words(text: str) -> None:
    try:
        found = parse_integer(text)
    except QuantityError as error:
        refusal = str(error)
        assert "; " in refusal
        return
    assert found == up(exact(text))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("NaN", id="not a number, as text"),
        pytest.param(float("nan"), id="not a number"),
        pytest.param("inf", id="infinite, as text"),
        pytest.param(float("inf"), id="infinite"),
        pytest.param("1e400", id="beyond any float"),
        pytest.param("1e19", id="beyond 64 bits"),
        pytest.param("9223372036854775808", id="one beyond 64 bits"),
        pytest.param("8Ei", id="2**63 in binary"),
        pytest.param("-1", id="negative"),
        pytest.param(-1, id="negative number"),
        pytest.param("-1n", id="negative and tiny"),
        pytest.param("", id="empty"),
        pytest.param(" ", id="blank"),
        pytest.param(" 1", id="blank before"),
        pytest.param("1 ", id="blank after"),
        pytest.param("1\n", id="newline after"),
        pytest.param("1 Gi", id="blank inside"),
        pytest.param("١٢", id="Arabic digits"),
        pytest.param("\uff11Gi", id="full-width digit"),
        pytest.param("1²", id="superscript"),
        pytest.param("1_000", id="underscore"),
        pytest.param("1,000", id="comma"),
        pytest.param("0x10", id="hexadecimal"),
        pytest.param("1K", id="capital K is no decimal suffix"),
        pytest.param("1ki", id="small k is no binary suffix"),
        pytest.param("1Mib", id="unit spelt out"),
        pytest.param("Gi", id="suffix alone"),
        pytest.param(".", id="point alone"),
        pytest.param("1e", id="exponent without digits"),
        pytest.param("1e3k", id="exponent and suffix"),
        pytest.param("0" * 65, id="longer than any real quantity"),
        pytest.param("1" + "0" * 5000, id="thousands of digits as text"),
        pytest.param(10**5000, id="thousands of digits"),
        pytest.param(True, id="true"),
        pytest.param(None, id="null"),
        pytest.param([1], id="list"),
        pytest.param({"value": 1}, id="mapping"),
        pytest.param(b"1", id="bytes"),
    ],
)
def test_what_is_no_quantity_is_refused(value: object) -> None:
    with pytest.raises(QuantityError):
        parse_integer(value)
    with pytest.raises(QuantityError):
        parse_cpu_m(value)


@pytest.mark.parametrize(
    ("text", "integer", "millicores"),
    [
        pytest.param("0.1", 1, 100, id="a tenth"),
        pytest.param("1n", 1, 1, id="the smallest amount rounds up"),
        pytest.param("1000000001n", 2, 1001, id="one nano above one"),
        pytest.param(".5", 1, 500, id="no digit before the point"),
        pytest.param("5.", 5, 5000, id="no digit after the point"),
        pytest.param("1E", 10**18, 10**21, id="exa is not an exponent"),
        pytest.param("1E3", 1000, 10**6, id="an exponent is not exa"),
        pytest.param("0.1Ki", 103, 102_400, id="a part of a binary unit"),
        pytest.param("1e-3", 1, 1, id="negative exponent"),
        pytest.param("1e-400", 1, 1, id="an exponent far below zero rounds up"),
    ],
)
def test_edges_of_the_grammar(text: str, integer: int, millicores: int) -> None:
    assert parse_integer(text) == integer
    if millicores <= MAX_INT64:
        assert parse_cpu_m(text) == millicores

"""Kubernetes quantities as exact integers; no float is ever made."""

import re
from functools import lru_cache
from typing import Final

MAX_INT64: Final = 2**63 - 1
_QUANTITY: Final = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>\d*)(?:\.(?P<part>\d*))?(?:[eE](?P<exponent>[+-]?\d+)|(?P<suffix>[numkMGTPE]|[KMGTPE]i))?",
    re.ASCII,
)
_MAX_CHARACTERS: Final = 64
_MAX_EXPONENT: Final = 40  # far beyond int64, and small enough that 10**n costs nothing

_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


class QuantityError(ValueError):
    """The text is no quantity, is negative, or is beyond 64 bits."""


@lru_cache(maxsize=8192)
def _scaled(text: str, thousandths: int) -> int:
    match = _QUANTITY.fullmatch(text) if len(text) <= _MAX_CHARACTERS else None
    if match is None or not (match["whole"] or match["part"]):
        hint = "a thousand is k" if text[-1:] == "K" else "write a number with an optional suffix, as 4, 1500M or 8Gi"
        raise QuantityError(f"{text[:40]!r} is not a quantity; {hint}")
    if match["sign"] == "-" and (match["whole"] or "").strip("0") + (match["part"] or "").strip("0"):
        raise QuantityError(f"{text!r} is negative; write 0 or more")
    part = match["part"] or ""
    power = _power(match["exponent"], match["suffix"] or "", text) - len(part) + 3 * thousandths
    number = int((match["whole"] or "") + part) << _BINARY.get(match["suffix"] or "", 0)
    value: int = number * 10**power if power >= 0 else -(-number // 10**-power)
    if value > MAX_INT64:
        raise QuantityError(f"{text!r} is beyond 64 bits; the largest is {MAX_INT64 // 1000**thousandths}")
    return value


def _power(exponent: str | None, suffix: str, text: str) -> int:
    if exponent is None:
        return _DECIMAL.get(suffix, 0)
    power = int(exponent[:6])
    if power > _MAX_EXPONENT:
        raise QuantityError(f"{text!r} is beyond 64 bits; the exponent may be {_MAX_EXPONENT} at most")
    return max(power, -_MAX_CHARACTERS - _MAX_EXPONENT)  # smaller than any digits make up for: it rounds up to 1


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and value.bit_length() > _MAX_CHARACTERS:
        raise QuantityError(f"an integer of {value.bit_length()} bits is beyond 64 bits; the largest is {MAX_INT64}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)  # the shortest text that reads back as the same number
    raise QuantityError(f"a {type(value).__name__} is not a quantity; write a number or text such as 4, 1500M or 8Gi")


def parse_integer(value: object) -> int:
    """
    Read a quantity as a whole number of base units, rounding up.

    Args:
        value: Text such as "8Gi", "187500k", "1e3", or a plain number.

    Raises:
        QuantityError: *value* is no quantity, is negative, or does not fit 64 bits.

    Source:
        apimachinery, resource.Quantity.Value: it rounds up too.
    """
    return _scaled(value if type(value) is str else _text(value), 0)


def parse_whole(value: object) -> int:
    """
    Read a quantity that must be a whole number of base units, as a published figure is: "2m" or "2.5" is none.

    Raises:
        QuantityError: As `parse_integer`, or a part of a unit would be rounded away.
    """
    number = parse_integer(value)
    if parse_cpu_m(value) != 1000 * number:
        raise QuantityError(
            f"{str(value)!r} is no whole number of units; m is a thousandth, M a million: write 2500, 2M"
        )
    return number


def parse_vcpu(value: object) -> int:
    """
    Read the vCPU of a size or floor as millicores: a quantity without a binary suffix.

    Raises:
        QuantityError: As `parse_cpu_m`, or it looks like memory.
    """
    if isinstance(value, str) and value.endswith("i"):
        raise QuantityError(f"{value!r} looks like memory; write vCPUs as 4 or 500m")
    return parse_cpu_m(value)


def parse_cpu_m(value: object) -> int:
    """
    Read a CPU quantity as whole millicores, rounding up: "2" is 2000, "0.1" is 100, "1500m" is 1500.

    Raises:
        QuantityError: As `parse_integer`.
    """
    return _scaled(value if type(value) is str else _text(value), 1)


@lru_cache(maxsize=8192)
def render_integer(value: int) -> str:
    """Write decimal base units as the API server would: 600000 is "600k"."""
    for suffix in ("E", "P", "T", "G", "M", "k"):
        scale = 10 ** _DECIMAL[suffix]
        if value and value % scale == 0:
            return f"{value // scale}{suffix}"
    return str(value)


@lru_cache(maxsize=8192)
def render_bytes(value: int) -> str:
    """Write bytes of memory with the largest binary suffix that is exact: 8589934592 is "8Gi"."""
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        if value and value % (1 << _BINARY[suffix]) == 0:
            return f"{value >> _BINARY[suffix]}{suffix}"
    return str(value)


@lru_cache(maxsize=8192)
def render_cpu_m(value: int) -> str:
    """Write millicores: 2000 is "2", 1500 is "1500m"."""
    return f"{value}m" if value % 1000 else str(value // 1000)

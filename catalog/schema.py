"""The cerberus schemas of a `SpecCatalog`: the one source of truth for what a catalogue may say.

Validation also normalises: quantities become integers of base units, defaults are filled in.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date
from functools import cached_property
from threading import Lock
from typing import Any, Final, TypeAlias, cast

import cerberus
from cerberus import errors as codes
from cerberus.schema import DefinitionSchema

from catalog.dimension import DIMENSIONS, GPU_COUNT, MEMORY, TUNABLE, VCPU
from catalog.model import MAX_FALLBACKS, MAX_SIZES, GpuMode, Reserve
from catalog.problems import Path, Problem, nearest
from catalog.quantity import parse_vcpu, parse_whole
from catalog.shortcut import Read, shortcut
from catalog.yamltext import Document

API_VERSION: Final = "podsla.io/v1beta1"
MAX_CLASSES: Final = 512
MAX_BUDGETS: Final = 256

Schema = dict[str, Any]
LABEL_KEY: Final = r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
LABEL_VALUE: Final = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
_EMPTY: Final = "is empty; give it a value or leave it out"
Fault: TypeAlias = tuple[Path, str]  # where, and what is wrong


class _Sound(DefinitionSchema):  # type: ignore[misc]  # cerberus has no types
    """A schema that a test has checked already: to do it at every start takes a tenth of a second."""

    @classmethod
    def expand(cls, schema: Schema) -> Schema:
        """Take it as it is: it has no shorthand."""
        return schema

    def validate(self, schema: Schema | None = None) -> None:
        """Take it as it is."""


class _Validator(cerberus.Validator):  # type: ignore[misc]
    """A validator to which a form is that of the whole text: cerberus itself lets a newline follow."""

    def _validate_regex(self, pattern: str, field: str, value: object) -> None:
        """{'type': 'string'}"""
        if isinstance(value, str) and re.fullmatch(pattern, value) is None:
            self._error(field, codes.REGEX_MISMATCH)


class Rules:
    """
    A schema, compiled when it is first needed.

    Attributes:
        shortcut: What is right at first sight is read by it; None: nothing is.
        lock: A validator keeps what it validates in itself, so threads take turns.
    """

    def __init__(self, fields: Schema, shortcut: Read | None = None) -> None:
        self.fields, self.shortcut = fields, shortcut
        self.lock = Lock()

    @cached_property
    def validator(self) -> cerberus.Validator:
        """Make the validator."""
        return _Validator(_Sound(cerberus.Validator(), self.fields))


def text(**rules: Any) -> Schema:
    """A text field; numbers are refused, since YAML would have changed them."""
    return {"type": "string", **rules}


def integer(**rules: Any) -> Schema:
    """A quantity of whole base units, at least 1."""
    return {"type": "integer", "coerce": parse_whole, "min": 1, **rules}


def whole(**rules: Any) -> Schema:
    """A bare whole number; no quantity."""
    return {"type": "integer", **rules}


def memory(**rules: Any) -> Schema:
    """Bytes of memory, at least 1Mi: a bare 8 is a slip of the pen."""
    return {"type": "integer", "coerce": parse_whole, "min": 1 << 20, **rules}


def cpu(**rules: Any) -> Schema:
    """A CPU quantity, normalised to millicores, at least 1."""
    return {"type": "integer", "coerce": parse_vcpu, "min": 1, **rules}


def flag(**rules: Any) -> Schema:
    """A boolean."""
    return {"type": "boolean", **rules}


def one(fields: Schema, **rules: Any) -> Schema:
    """A mapping with these fields and no other."""
    return {"type": "dict", "schema": fields, **rules}


def many(item: Schema | None, most: int, **rules: Any) -> Schema:
    """A list of up to *most* items; None: whatever each of them is."""
    return {"type": "list", **({"schema": item} if item is not None else {}), "maxlength": most, **rules}


def mapping(values: Schema, **rules: Any) -> Schema:
    """A mapping with free keys."""
    return {"type": "dict", "keysrules": {"type": "string"}, "valuesrules": values, **rules}


def keyed(values: Schema, most: int, **rules: Any) -> Schema:
    """Labels or annotations, up to *most*: their keys are those of Kubernetes."""
    return {**mapping(values, **rules), "keysrules": text(regex=LABEL_KEY), "maxlength": most}


def name(**rules: Any) -> Schema:
    """A name that may also stand in a label."""
    return text(regex=r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", **rules)


def parse_day(value: object) -> date:
    """Read a day as 2027-03-01."""
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is not a day; write it as 2027-03-01") from None


_FIGURES: Final = {VCPU: cpu(), MEMORY: memory()}


def figures(**extra: Schema) -> Schema:
    """The figures of a size or a floor, nested as their paths say; *extra* fields go into the groups they name."""
    fields: Schema = {}
    for dimension in DIMENSIONS:
        if dimension is GPU_COUNT:
            continue
        *group, leaf = dimension.path.split(".")
        field = _FIGURES.get(dimension, integer())
        if group:
            fields.setdefault(group[0], one(dict(extra.get(group[0], {}))))["schema"][leaf] = field
        else:
            fields[leaf] = field
    return fields


def required(fields: Schema, *names: str) -> Schema:
    """Make the named fields required."""
    return {key: {**rules, "required": True} if key in names else rules for key, rules in fields.items()}


DIMENSION_PATH: Final = text(allowed=[d.path for d in TUNABLE])

SELECTOR: Final = one(
    {
        "matchLabels": mapping(text()),
        "matchExpressions": many(
            one(
                {
                    "key": text(required=True),
                    "operator": text(required=True, allowed=["In", "NotIn", "Exists", "DoesNotExist"]),
                    "values": many(text(), 64),
                }
            ),
            16,
        ),
    }
)

TOLERATIONS: Final = many(
    one(
        {
            "key": text(),
            "operator": text(allowed=["Exists", "Equal"]),
            "value": text(),
            "effect": text(allowed=["NoSchedule", "PreferNoSchedule", "NoExecute"]),
            "tolerationSeconds": integer(min=0),
        }
    ),
    16,
    default=[],
)

SIZE: Final = {
    "name": name(required=True),
    "family": name(),
    "generation": integer(),
    "arch": text(allowed=["amd64", "arm64"], default="amd64"),
    **required(
        figures(
            cpu={"model": text(), "turboMHz": integer()},
            network={"burstBitsPerSecond": integer()},
            disk={"burstIops": integer(), "burstBytesPerSecond": integer()},
        ),
        "vcpu",
        "memory",
    ),
    "gpu": one({"model": text(), "count": integer(), "share": text(regex=r"[1-9]\d*/[1-9]\d*"), "memory": integer()}),
    "localDisk": flag(default=False),
    "cost": cpu(),
}

CLASS: Final = {
    "name": name(required=True, forbidden=["none"]),
    "description": text(default=""),
    "floor": one(figures(), default={}),
    "sizes": one(
        {"families": many(text(), 256), "names": many(text(), 1024), "minGeneration": integer()},
        default={},
    ),
    "reserve": text(allowed=[r.value for r in Reserve]),
    "runtime": text(),
    "tolerations": TOLERATIONS,
    "tunable": mapping(one({"max": {"type": ["string", "integer"]}}, nullable=True), default={}),
    "bestEffort": many(DIMENSION_PATH, len(TUNABLE), default=[]),
    "fallback": many(text(), MAX_FALLBACKS, default=[]),
    "namespaces": SELECTOR,
    "gpu": one(
        {
            "models": many(text(), 16, default=[]),
            "count": integer(default=1),
            "mode": text(allowed=[m.value for m in GpuMode], default=GpuMode.WHOLE_LIFE.value),
            "evictable": flag(default=False),
        }
    ),
    "deprecated": one(
        {
            "message": text(default=""),
            "replacedBy": text(),
            "refuseFrom": {"type": "date", "coerce": parse_day},
        }
    ),
}

GPU_BUDGET: Final = {"namespaces": SELECTOR, "minutesPerDay": integer(required=True)}
_SOURCE: Final = {"family": text(required=True), "snapshot": text(), "source": text(required=True), "notes": text()}


def _spec_catalog(size: Schema | None, sla_class: Schema | None) -> Schema:
    """A catalogue, with what each of its sizes and classes has to be."""
    return {
        "apiVersion": text(required=True, allowed=[API_VERSION]),
        "kind": text(required=True, allowed=["SpecCatalog"]),
        "metadata": one({"name": name(required=True)}, required=True, allow_unknown=True),
        "spec": one(
            {
                "sizes": many(size, MAX_SIZES, default=[]),
                "classes": many(sla_class, MAX_CLASSES, default=[]),
                "gpuBudgets": many(one(GPU_BUDGET), MAX_BUDGETS, default=[]),
                "sources": many(one(_SOURCE), 1024, default=[]),
            },
            required=True,
        ),
        "status": {"type": "dict"},
    }


SPEC_CATALOG: Final = _spec_catalog(one(SIZE), one(CLASS))

# Sizes and classes are read one by one: a faulty one takes no other with it.
CATALOG_HEAD: Final = Rules(_spec_catalog(None, None))
SIZE_ITEM: Final = Rules(SIZE, shortcut(SIZE))
CLASS_ITEM: Final = Rules(CLASS)


def validate(document: Document, rules: Rules) -> tuple[dict[str, Any] | None, list[Problem]]:
    """
    Check *document* and normalise it.

    Returns:
        The normalised mapping, or None; and every problem found.
    """
    if not isinstance(document.data, dict):
        return None, [document.problem((), "must be a mapping; write `apiVersion: …` and `kind: …` at its top")]
    normalised, faults = check(document.data, rules)
    return normalised, place(document, faults)


def place(document: Document, faults: Iterable[Fault], at: Path = ()) -> list[Problem]:
    """Make problems of the faults of what stands *at* a path of a document."""
    return [document.problem((*at, *path), message) for path, message in faults]


def check(data: Any, rules: Rules) -> tuple[dict[str, Any] | None, tuple[Fault, ...]]:
    """Check what should be a mapping, and normalise it: the normalised one, or None; and every fault."""
    if not isinstance(data, dict):
        return None, (((), _EMPTY if data is None else f"must be a mapping, and is {data!r}"),)
    if rules.shortcut:
        with suppress(ValueError):
            return rules.shortcut(data), ()
    with rules.lock:
        validator = rules.validator
        valid = validator.validate(data)
        normalised = cast(dict[str, Any], validator.document)
        return (normalised, ()) if valid else (None, tuple(_faults(validator._errors, rules.fields)))


def _faults(errors: Any, schema: Schema) -> Iterator[Fault]:
    leaves = list(_leaves(errors))
    coerced = {tuple(e.document_path) for e in leaves if e.code == codes.COERCION_FAILED.code}
    for error in leaves:
        path = tuple(error.document_path)
        if error.code == codes.COERCION_FAILED.code or path not in coerced:
            yield path, _message(error, path, schema)


def _leaves(errors: Any) -> Iterator[Any]:
    for error in errors:
        if error.is_group_error and not error.is_logic_error:
            yield from _leaves(error.child_errors)
        else:
            yield error


def _message(error: Any, path: Path, schema: Schema) -> str:
    value, rule = error.value, error.constraint
    match error.code:
        case codes.REQUIRED_FIELD.code:
            return "is missing; write it"
        case codes.UNKNOWN_FIELD.code:
            return f"is not a field here; {nearest(str(path[-1]), _fields(schema, path[:-1]))}"
        case codes.NOT_NULLABLE.code:
            return _EMPTY
        case codes.BAD_TYPE.code:
            return f"must be {_kind(rule)}, and is {value!r}" + ("; put it in quotes" if rule == "string" else "")
        case codes.UNALLOWED_VALUE.code:
            return f"cannot be {value!r}; {nearest(str(value), rule)}"
        case codes.FORBIDDEN_VALUE.code:
            return f"cannot be {value!r}: the word is taken; choose another"
        case codes.MAX_LENGTH.code:
            return f"has {len(value)} items; {rule} at most"
        case codes.MIN_VALUE.code:
            return f"is {value}; write {rule} or more, or leave it out where the figure is not known"
        case codes.MAX_VALUE.code:
            return f"is {value}; write {rule} or less"
        case codes.REGEX_MISMATCH.code:
            return f"{value!r} does not have the form {rule}"
        case codes.COERCION_FAILED.code:
            return str(error.info[0])
    return f"{value!r} breaks the rule {error.rule}: {rule!r}"


def _kind(rule: Any) -> str:
    words = {
        "dict": "a mapping",
        "list": "a list",
        "string": "text",
        "integer": "a whole number",
        "boolean": "true or false",
    }
    kinds: list[str] = list(rule) if isinstance(rule, list | tuple) else [rule]
    return " or ".join(words.get(kind, kind) for kind in kinds)


def _fields(schema: Schema, path: Path) -> list[str]:
    rules: Any = {"schema": schema}
    for step in path:
        inner = rules.get("schema", {})
        rules = inner if isinstance(step, int) else inner.get(step, {})
    fields = rules.get("schema", {})
    return list(fields) if isinstance(fields, Mapping) else []


def by_path(fields: Mapping[str, Any], path: str) -> Any:
    """Read "network.pps" from nested fields; None where any part is absent."""
    value: Any = fields
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value

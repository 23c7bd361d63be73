"""The record: what was decided and why, as JSON on the pod. Pure.

It is a note, never a right. It holds all that the decision read of the pod, so that it can be replayed: a record is
believed only if deciding again on its input gives the same record, byte for byte. Anything else counts as absent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import orjson

from catalog.dimension import lacking, render
from catalog.pod import Container, Kind, Subject, Texts
from webhook.decision import Place
from webhook.undo import Kept

VERSION: Final = 1
MAX_RECORD_BYTES: Final = 200_000  # annotations of one object may have 256 KiB together


def render_record(place: Place, subject: Subject, revision: str, kept: Kept) -> str:
    """
    Write the record of a decision: sorted keys, one form only.

    Args:
        kept: What the decision wants that the pod had by itself; see `webhook.undo.already_there`.
    """
    choice = place.choice
    record: dict[str, Any] = {
        "version": VERSION,
        "catalog": place.sla_class.catalog,
        "revision": revision,
        "class": place.sla_class.name,
        "size": choice.size.name,
        "reserve": place.reserve.value,
        "dimensions": {
            h.dimension.path: {
                "ask": h.dimension.render(h.ask),
                "kept": h.dimension.render(h.kept),
                "offer": h.dimension.render(h.offer),
                "state": str(h.state),
            }
            for h in place.holdings
        },
        "input": dump_subject(subject),
    }
    if place.asked_class != place.sla_class.name:
        record["fallbackFrom"] = place.asked_class
    if choice.driver and choice.without_driver:
        record["driver"] = {"dimension": choice.driver.path, "without": choice.without_driver.name}
    if choice.smaller and choice.smaller_offer:
        short = {d.path: render(d, choice.smaller_offer[d.index]) for d in lacking(choice.smaller_offer, place.ask)}
        record["nextSmaller"] = {"size": choice.smaller.name, "offers": short}
    if kept:
        record["kept"] = kept
    if place.dropped:
        record["dropped"] = [d.path for d in place.dropped]
    if place.uncovered:
        record["uncovered"] = list(place.uncovered)
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS).decode()


@dataclass(frozen=True, slots=True)
class Noted:
    """What a record says of its decision: enough to take it again."""

    revision: str
    asked_class: str
    served_class: str
    before: Subject
    kept: Kept


def read_record(text: object) -> Noted | None:
    """Read a record; None where it is unreadable."""
    if not isinstance(text, str) or len(text) > MAX_RECORD_BYTES:
        return None
    try:
        record = orjson.loads(text)
        served = record["class"]
        asked, kept = record.get("fallbackFrom", served), tuple(record.get("kept", ()))
        noted = Noted(record["revision"], asked, served, load_subject(record["input"]), kept)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    words = (noted.revision, noted.asked_class, noted.served_class)
    return noted if all(isinstance(word, str) for word in words) else None


def dump_subject(subject: Subject) -> dict[str, Any]:
    """Write a subject as JSON, leaving out what is empty."""
    dumped: dict[str, Any] = {"containers": [_dump_container(container) for container in subject.containers]}
    for name in _TEXT_FIELDS:
        if getattr(subject, name):
            dumped[name] = dict(getattr(subject, name))
    for name in _PLAIN_FIELDS:
        if getattr(subject, name):
            dumped[name] = getattr(subject, name)
    return dumped


def load_subject(dumped: Mapping[str, Any]) -> Subject:
    """
    Read a subject that `dump_subject` wrote.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: It has another form.
    """
    found: dict[str, Any] = {name: _texts(dumped.get(name, {})) for name in _TEXT_FIELDS}
    found |= {name: dumped[name] for name in _PLAIN_FIELDS if name in dumped}
    for name in _TUPLE_FIELDS & found.keys():
        found[name] = tuple(map(str, found[name]))
    containers = tuple(_load_container(c) for c in dumped["containers"])
    if not any(container.kind is Kind.RUNNING for container in containers):
        raise ValueError("no pod is without a container")
    return Subject(containers=containers, **found)


_TEXT_FIELDS: Final = ("keys", "limits_written", "pod_requests", "pod_limits", "overhead")
_TUPLE_FIELDS: Final = {"claims", "commands", "stray_labels"}
_PLAIN_FIELDS: Final = tuple(f.name for f in fields(Subject) if f.name not in (*_TEXT_FIELDS, "containers"))


def _dump_container(container: Container) -> dict[str, Any]:
    dumped: dict[str, Any] = {"name": container.name, "kind": container.kind}
    if container.requests:
        dumped["requests"] = dict(container.requests)
    if container.limits:
        dumped["limits"] = dict(container.limits)
    if container.env:
        dumped["env"] = dict(container.env)
    return dumped


def _load_container(dumped: Mapping[str, Any]) -> Container:
    requests, limits = _texts(dumped.get("requests", {})), _texts(dumped.get("limits", {}))
    return Container(str(dumped["name"]), Kind(dumped["kind"]), requests, limits, _texts(dumped.get("env", {})))


def _texts(dumped: Mapping[str, Any]) -> Texts:
    return tuple(sorted((str(key), str(value)) for key, value in dumped.items()))

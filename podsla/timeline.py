"""
Who held which GPU when: attachments → lanes of spans → text, SVG, HTML or plain values. Pure.

An attachment's own status is enough: when it was created, attached, began to drain, ended. It is read as long as the
object stays, `ttlSecondsAfterFinished` after its end. One that ended before it had a GPU is counted, and not drawn.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from html import escape
from typing import Any, Final

from attach.api import Attachment, Type, parse_time

FREE: Final = "·"
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LABEL: Final = 190  # pixels of SVG
_CHART: Final = 760
_LANE: Final = 26
_COLOURS: Final = ("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#edc948", "#9c755f", "#ff9da7")


class Use(StrEnum):
    """What a span is: access, its end, or no access while the device is kept from others."""

    HELD = "held"
    DRAINING = "draining"
    OVERDUE = "overdue"
    QUARANTINED = "quarantined"
    WAITING = "waiting"


_ENDINGS: Final = (
    (Type.DRAINING, Use.DRAINING),
    (Type.OVERDUE, Use.OVERDUE),
    (Type.QUARANTINED, Use.QUARANTINED),
)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an attachment's life; *who* is its place among all."""

    begin_s: float
    end_s: float
    use: Use
    who: int


@dataclass(frozen=True, slots=True)
class Lane:
    """A device, or one that waits for it."""

    title: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Who:
    """An attachment in the legend."""

    name: str
    pod: str
    waited_s: float
    held_s: float
    use: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """
    What is drawn: lanes between two times, and whose they are.

    Attributes:
        without: How many ended before they had a GPU, by reason, sorted.
    """

    begin_s: float
    end_s: float
    lanes: tuple[Lane, ...]
    whose: tuple[Who, ...]
    without: Mapping[str, int]


def lay_out(attachments: Iterable[Attachment], begin_s: float, now_s: float) -> Timeline:
    """Lay out what happened from *begin_s* to *now_s*; what was over before is left out."""
    recent = [one for one in attachments if (one.finished_s or now_s) > begin_s]
    without = Counter(_end_of(one) for one in recent if _had_none(one))
    there = [one for one in recent if not _had_none(one)]
    there.sort(key=lambda one: (one.created_s, one.namespace, one.name))
    lanes: dict[str, list[Span]] = {}
    whose = []
    for who, one in enumerate(there):
        spans = _spans(one, who, now_s)
        whose.append(_who(one, spans, now_s))
        shown = [Span(max(span.begin_s, begin_s), span.end_s, span.use, who) for span in spans if span.end_s > begin_s]
        for uuid in one.status.devices if one.status.attached_s is not None else ():
            lanes.setdefault(f"{one.status.node or '?'} {uuid}", []).extend(
                span for span in shown if span.use is not Use.WAITING
            )
        if one.status.attached_s is None and not one.is_finished:
            lanes[f"~ {one.namespace}/{one.name}"] = shown
    first_s = min((span.begin_s for spans in lanes.values() for span in spans), default=now_s)
    ordered = tuple(
        Lane(title, tuple(sorted(spans, key=lambda span: span.begin_s))) for title, spans in sorted(lanes.items())
    )
    return Timeline(max(begin_s, min(first_s, now_s - 1)), now_s, ordered, tuple(whose), dict(sorted(without.items())))


def _had_none(one: Attachment) -> bool:
    return one.is_finished and one.status.attached_s is None


def _end_of(one: Attachment) -> str:
    kind = Type.FAILED if one.status.has(Type.FAILED) else Type.RELEASED
    return str(one.status.condition(kind).get("reason", kind.value))


def _spans(one: Attachment, who: int, now_s: float) -> list[Span]:
    """Cut a life into parts that follow one another."""
    end_s = min(one.finished_s or now_s, now_s)
    marks = [(one.created_s, Use.WAITING)]
    if one.status.attached_s is not None:
        marks += [(one.status.attached_s, Use.HELD), *sorted(_endings(one))]
    begins = [begin for begin, _ in marks[1:]]
    return [
        Span(begin, min(max(after, begin), end_s), use, who)
        for (begin, use), after in zip(marks, [*begins, end_s], strict=True)
        if begin <= end_s
    ]


def _endings(one: Attachment) -> Iterator[tuple[float, Use]]:
    """Say since when it ends, and how; of a condition that is over its end is known, and what came before that."""
    known = [(kind, use) for kind, use in _ENDINGS if one.status.condition(kind)]
    times = [_since(one, kind) for kind in (Type.ATTACHED, *(kind for kind, _ in known)) if one.status.condition(kind)]
    for kind, use in known:
        since_s = _since(one, kind)
        is_over = not one.status.has(kind)
        yield max((each for each in times if each < since_s), default=since_s) if is_over else since_s, use


def _since(one: Attachment, kind: Type) -> float:
    return parse_time(one.status.condition(kind)["lastTransitionTime"]).timestamp()


def _who(one: Attachment, spans: Sequence[Span], now_s: float) -> Who:
    attached_s = one.status.attached_s
    end_s = one.finished_s or now_s
    use = next((kind.value for kind in Type if one.status.has(kind)), "Waiting")
    waited_s = (attached_s if attached_s is not None else end_s) - one.created_s
    held_s = end_s - attached_s if attached_s is not None else 0.0
    return Who(str(one), one.spec.pod_name, waited_s, held_s, use)


def letter(who: int) -> str:
    """Name an attachment by a letter; after Z it begins anew."""
    return _LETTERS[who % len(_LETTERS)]


def render_text(line: Timeline, columns: int) -> list[str]:
    """
    Draw it with letters: a capital has the device, a small one is asked to give it back, "!" keeps it open past its
    end, "?" is quarantined, "~" waits.
    """
    if not line.lanes:
        return ["nobody held a GPU, and nobody waits for one", *_told(line)]
    margin = max(len(lane.title) for lane in line.lanes) + 2
    left, right = clock(line.begin_s), clock(line.end_s)
    head = " " * margin + left + right.rjust(columns - len(left))
    rows = [lane.title.ljust(margin) + _row(lane, line, columns) for lane in line.lanes]
    legend = [
        f"{letter(number)}  {who.name}  pod {who.pod}  waited {who.waited_s:.0f} s, held {who.held_s:.0f} s  {who.use}"
        for number, who in enumerate(line.whose)
    ]
    return [head, *rows, "", *legend, *_told(line)]


def _told(line: Timeline) -> list[str]:
    """Count those that ended before they had a GPU, in a line at most."""
    each = ", ".join(f"{reason} {count}" for reason, count in line.without.items())
    return [f"{sum(line.without.values())} ended before they had a GPU: {each}"] if each else []


def _row(lane: Lane, line: Timeline, columns: int) -> str:
    cells = [FREE] * columns
    scale = columns / (line.end_s - line.begin_s)
    for span in lane.spans:
        first = min(int((span.begin_s - line.begin_s) * scale), columns - 1)
        last = max(first + 1, round((span.end_s - line.begin_s) * scale))  # a short one is seen too
        for cell in range(first, min(last, columns)):
            cells[cell] = _mark(span)
    return "".join(cells)


def _mark(span: Span) -> str:
    name = letter(span.who)
    return {Use.HELD: name, Use.DRAINING: name.lower(), Use.OVERDUE: "!", Use.QUARANTINED: "?", Use.WAITING: "~"}[
        span.use
    ]


def clock(time_s: float) -> str:
    """Write a time of the day, in UTC."""
    return f"{datetime.fromtimestamp(time_s, UTC):%H:%M:%S}"


def render_svg(line: Timeline) -> str:
    """Draw it as a picture that needs nothing else; each bar says whose it is when pointed at."""
    height = (len(line.lanes) + 2) * _LANE
    scale = _CHART / (line.end_s - line.begin_s)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABEL + _CHART + 20}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        "<title>Who held which GPU when</title>",
    ]
    for step in range(5):
        x = _LABEL + step * _CHART / 4
        time_s = line.begin_s + step * (line.end_s - line.begin_s) / 4
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="18" y2="{height - _LANE}" stroke="#ccc"/>')
        parts.append(f'<text x="{x:.1f}" y="13" text-anchor="middle">{clock(time_s)}</text>')
    for number, lane in enumerate(line.lanes):
        y = (number + 1) * _LANE
        parts.append(f'<text x="4" y="{y + 13}">{escape(lane.title)}</text>')
        parts += [_bar(span, line, y, scale) for span in lane.spans]
    return "\n".join([*parts, "</svg>", ""])


def _bar(span: Span, line: Timeline, y: int, scale: float) -> str:
    x, width = _LABEL + (span.begin_s - line.begin_s) * scale, max((span.end_s - span.begin_s) * scale, 1.0)
    fill = {Use.OVERDUE: "#d62728", Use.QUARANTINED: "#7f7f7f"}.get(span.use, _COLOURS[span.who % len(_COLOURS)])
    opacity = {Use.HELD: "1", Use.WAITING: "0.25"}.get(span.use, "0.6")
    who = line.whose[span.who]
    words = escape(f"{who.name} (pod {who.pod}) {span.use}, {clock(span.begin_s)} to {clock(span.end_s)}")
    rectangle = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_LANE - 8}" fill="{fill}" fill-opacity="{opacity}"'
    return f"<rect {rectangle}><title>{words}</title></rect>"


def render_html(line: Timeline) -> str:
    """Put the picture and its legend on a page."""
    cells = "".join(
        f"<tr><td>{escape(who.name)}</td><td>{escape(who.pod)}</td><td>{who.waited_s:.0f} s</td>"
        f"<td>{who.held_s:.0f} s</td><td>{escape(who.use)}</td></tr>\n"
        for who in line.whose
    )
    told = "".join(f"<p>{escape(text)}</p>\n" for text in _told(line))
    head = "<tr><th>attachment</th><th>pod</th><th>waited</th><th>held</th><th>state</th></tr>\n"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Who held which GPU when</title></head>\n'
        f"<body>\n{render_svg(line)}<table>\n{head}{cells}</table>\n{told}</body></html>\n"
    )


def dump(line: Timeline) -> dict[str, Any]:
    """Write it as plain values: times as Kubernetes writes them, spans by their attachment's name."""
    return {
        "begin": _time(line.begin_s),
        "end": _time(line.end_s),
        "lanes": [
            {"title": lane.title, "spans": [_dump_span(span, line) for span in lane.spans]} for lane in line.lanes
        ],
        "attachments": [
            {
                "name": w.name,
                "pod": w.pod,
                "waitedSeconds": round(w.waited_s),
                "heldSeconds": round(w.held_s),
                "use": w.use,
            }
            for w in line.whose
        ],
        "endedWithoutGPU": dict(line.without),
    }


def _dump_span(span: Span, line: Timeline) -> dict[str, str]:
    times = {"begin": _time(span.begin_s), "end": _time(span.end_s)}
    return {"attachment": line.whose[span.who].name, "use": span.use.value, **times}


def _time(time_s: float) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%dT%H:%M:%SZ}"

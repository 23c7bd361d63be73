"""Who held which GPU when: the layout, and what is drawn of it, beside golden files (REGENERATE=1 writes them)."""

import os
from pathlib import Path
from typing import Any

import pytest

from attach.api import parse_attachment, parse_time
from podsla.timeline import Lane, Span, Timeline, Use, dump, lay_out, render_html, render_svg, render_text

GOLDEN = Path(__file__).parent / "golden"


OVER = "no longer "
REASONS = {"gone": "TargetNotFound", "none": "NoGPU", "nowhere": "NoGPU"}


def at(minute: int, second: int = 0) -> str:
    return f"2027-03-01T12:{minute:02}:{second:02}Z"


def when(minute: int, second: int = 0) -> float:
    return parse_time(at(minute, second)).timestamp()


def lent(name: str, created: str, attached: str = "", device: str = "GPU-1", **since: str) -> Any:
    """Write an attachment; *since* are its conditions, one that is over with "no longer" before the time."""
    conditions = [
        {
            "type": kind,
            "status": str(not time.startswith(OVER)),
            "reason": REASONS.get(name, kind),
            "message": "",
            "lastTransitionTime": time.removeprefix(OVER),
        }
        for kind, time in since.items()
    ]
    held = {"attachedAt": attached, "node": "gpu-a", "devices": [{"uuid": device}]} if attached else {}
    return parse_attachment(
        {
            "apiVersion": "podsla.io/v1beta1",
            "kind": "GPUAttachment",
            "metadata": {"name": name, "namespace": "team-a", "uid": name, "creationTimestamp": created},
            "spec": {"podName": f"{name}-x"},
            "status": {**held, "conditions": conditions},
        }
    )


STORY = [
    lent("first", at(0), at(1), Released=at(10)),
    lent("second", at(5), at(10), Draining=at(20), Overdue=at(25)),
    lent("third", at(2), at(3), "GPU-2", Released=at(3, 5)),
    lent("broken", at(6), at(8), "GPU-2", Quarantined=at(12)),
    lent("waits", at(22)),
    lent("gone", at(0), Failed=at(1)),
    lent("none", at(1), Failed=at(1)),
    lent("nowhere", at(1), Failed=at(2)),
    lent("given-up", at(1), Released=at(9)),
    lent("slow", at(12), at(13), "GPU-3", Released=at(29), Attached=OVER + at(18), Draining=OVER + at(29)),
    lent(
        "stubborn",
        at(1),
        at(2),
        "GPU-3",
        Released=at(11),
        Attached=OVER + at(4),
        Draining=OVER + at(5),
        Overdue=OVER + at(11),
    ),
    lent("before", "2027-03-01T10:00:00Z", "2027-03-01T10:00:10Z", Released="2027-03-01T10:30:00Z"),
]


def story() -> Timeline:
    return lay_out(STORY, when(0), when(30))


def test_a_life_is_cut_into_parts_that_follow_one_another() -> None:
    (lane,) = lay_out([STORY[1]], when(0), when(30)).lanes
    assert lane == Lane(
        "gpu-a GPU-1",
        (
            Span(when(10), when(20), Use.HELD, 0),
            Span(when(20), when(25), Use.DRAINING, 0),
            Span(when(25), when(30), Use.OVERDUE, 0),
        ),
    )


def test_what_came_of_a_release_is_drawn_after_it_too() -> None:
    """Seen to fail where conditions that are over are left out: all of it was held, as if nobody had asked it back."""
    (lane,) = lay_out([one for one in STORY if one.name in ("slow", "stubborn")], when(0), when(30)).lanes
    assert lane.spans == (
        Span(when(2), when(4), Use.HELD, 0),
        Span(when(4), when(5), Use.DRAINING, 0),
        Span(when(5), when(11), Use.OVERDUE, 0),
        Span(when(13), when(18), Use.HELD, 1),
        Span(when(18), when(29), Use.DRAINING, 1),
    )


@pytest.mark.parametrize(
    ("conditions", "parts"),
    [
        pytest.param(
            {"Attached": OVER + at(4), "Overdue": OVER + at(12), "Draining": at(12)},
            [(2, 4, Use.HELD), (4, 12, Use.OVERDUE), (12, 30, Use.DRAINING)],
            id="overdue, then its reservation is lost",
        ),
        pytest.param(
            {"Attached": OVER + at(4), "Overdue": OVER + at(12), "Draining": OVER + at(20), "Released": at(20)},
            [(2, 4, Use.HELD), (4, 12, Use.OVERDUE), (12, 20, Use.DRAINING)],
            id="the same, and it is over",
        ),
        pytest.param({"Attached": OVER + at(4)}, [(2, 30, Use.HELD)], id="drift that is being repaired"),
    ],
)
def test_parts_never_overlap(conditions: dict[str, str], parts: list[tuple[int, int, Use]]) -> None:
    (lane,) = lay_out([lent("one", at(1), at(2), **conditions)], when(0), when(30)).lanes
    assert [(span.begin_s, span.end_s, span.use) for span in lane.spans] == [
        (when(begin), when(end), use) for begin, end, use in parts
    ]


def test_what_ended_before_it_had_a_gpu_is_counted_by_reason_and_is_in_no_row() -> None:
    assert story().without == {"NoGPU": 2, "Released": 1, "TargetNotFound": 1}
    assert not {who.name for who in story().whose} & {"team-a/gone", "team-a/none", "team-a/given-up"}
    nobody = lay_out([one for one in STORY if one.name == "gone"], when(0), when(30))
    assert render_text(nobody, 40) == [
        "nobody held a GPU, and nobody waits for one", "1 ended before they had a GPU: TargetNotFound 1"
    ]  # fmt: skip


def test_what_was_over_before_is_left_out_and_what_began_before_is_cut() -> None:
    found = lay_out(STORY, when(4), when(30))
    assert [who.name for who in found.whose] == [
        "team-a/first", "team-a/stubborn", "team-a/second", "team-a/broken", "team-a/slow", "team-a/waits"
    ]  # fmt: skip
    assert found.lanes[0].spans[0] == Span(when(4), when(10), Use.HELD, 0)


def test_waiting_and_holding_are_told_apart() -> None:
    second = next(who for who in story().whose if who.name == "team-a/second")
    assert (second.waited_s, second.held_s, second.use) == (300, 1200, "Overdue")


def test_nobody_is_told_as_well() -> None:
    assert render_text(lay_out([], 0, 60), 40) == ["nobody held a GPU, and nobody waits for one"]


@pytest.mark.parametrize("form", ["txt", "svg", "html"])
def test_the_picture(form: str) -> None:
    drawn = {
        "txt": lambda: "\n".join(render_text(story(), 60)) + "\n",
        "svg": lambda: render_svg(story()),
        "html": lambda: render_html(story()),
    }[form]()
    path = GOLDEN / f"timeline.{form}"
    if os.environ.get("REGENERATE") == "1":
        path.write_text(drawn)
    assert drawn == path.read_text()


def test_plain_values_name_whose_each_span_is() -> None:
    found = dump(lay_out([STORY[1], STORY[4]], when(0), when(30)))

    assert (found["begin"], found["end"]) == (at(10), at(30))
    assert found["lanes"] == [
        {
            "title": "gpu-a GPU-1",
            "spans": [
                {"attachment": "team-a/second", "use": "held", "begin": at(10), "end": at(20)},
                {"attachment": "team-a/second", "use": "draining", "begin": at(20), "end": at(25)},
                {"attachment": "team-a/second", "use": "overdue", "begin": at(25), "end": at(30)},
            ],
        },
        {
            "title": "~ team-a/waits",
            "spans": [{"attachment": "team-a/waits", "use": "waiting", "begin": at(22), "end": at(30)}],
        },
    ]
    assert found["attachments"][0] == {
        "name": "team-a/second", "pod": "second-x", "waitedSeconds": 300, "heldSeconds": 1200, "use": "Overdue"
    }  # fmt: skip

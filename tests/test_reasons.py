"""docs/reasons.md tells of every word of every closed set, and of no other."""

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, get_args

import pytest

from attach.api import Type
from attach.reasons import AttachReason, JournalReason, ReserveReason
from catalog.lint import LintReason
from catalog.verdict import Reason as AcceptReason
from controller.overlays import Reason as OverlayReason
from controller.targets import Reason as TargetReason
from controller.unsized import Reason as UnsizedReason
from controller.usage import Reason as FollowReason
from controller.usage import SizedReason
from nodes.placement import Lack
from nodes.proposals import Change
from podsla.diagnosis import State
from podsla.health.findings import Reason as DoctorReason
from podsla.recorded import Today
from podsla.refusals import Refused
from podsla.reports import UNUSABLE
from webhook.decision import Reason as RefusalReason
from webhook.decision import Skip
from webhook.impact import Outcome
from webhook.metrics import ERRORS

DOC: Final = Path(__file__).parent.parent / "docs" / "reasons.md"
Words = type[StrEnum] | frozenset[str] | Any  # or a Literal, which has no type of its own
SETS: Final[dict[tuple[str, str], tuple[Words, ...]]] = {
    ("Pods that are refused", "reason"): (RefusalReason,),
    ("Calls that get no decision", "kind"): (ERRORS,),
    ("Pods that are left alone", "reason"): (Skip,),
    ("Catalogues: the condition `Accepted`", "reason"): (AcceptReason,),
    ("Catalogues: the condition `Followed`", "reason"): (FollowReason,),
    ("Catalogues: the condition `PodsSized`", "reason"): (SizedReason,),
    ("Events of pods", "reason"): (UnsizedReason,),
    ("Events of the target", "reason"): (TargetReason, OverlayReason),
    ("`podsla catalog lint`", "reason"): (LintReason, frozenset({UNUSABLE})),
    ("`podsla doctor`", "reason"): (DoctorReason,),
    ("`podsla why`", "state"): (State,),
    ("`podsla why`", "lack"): (Lack,),
    ("`podsla why`", "change"): (Change,),
    ("`podsla why`", "refusal"): (Refused,),
    ("`podsla explain pod`", "today"): (Today,),
    ("`podsla catalog diff`", "outcome"): (Outcome,),
    ("Conditions", "condition"): (Type,),
    ("Before a node has it", "reason"): (ReserveReason,),
    ("On the node", "reason"): (AttachReason,),
    ("The agent's journal", "reason"): (JournalReason,),
}
"""By the heading that a table stands under, and the name of its first column."""


def words_of(one: Words) -> tuple[str, ...]:
    """List the words of an enum, a set or a Literal."""
    if isinstance(one, frozenset):
        return tuple(one)
    if isinstance(one, type) and issubclass(one, StrEnum):
        return tuple(word.value for word in one)
    return get_args(one)


def rows() -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Read the rows of all tables, each with its place."""
    heading, column = "", ""
    for line in DOC.read_text().splitlines():
        if line.startswith("#"):
            heading, column = line.lstrip("# "), ""
        elif not line.startswith("|"):
            column = ""
        else:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if column and not line.startswith("|---"):
                yield (heading, column), cells
            column = column or cells[0]


def told() -> dict[tuple[str, str], list[str]]:
    """Say which words each table tells of."""
    found: dict[tuple[str, str], list[str]] = {}
    for place, cells in rows():
        words = re.findall(r"`([^`]*)`", cells[0])
        assert cells[0] == ", ".join(f"`{word}`" for word in words), f"{place}: {cells[0]}"
        found.setdefault(place, []).extend(words)
    return found


def test_every_table_is_of_a_closed_set() -> None:
    assert told().keys() == SETS.keys()


@pytest.mark.parametrize("place", SETS, ids=" / ".join)
def test_a_table_has_each_word_once_and_no_other(place: tuple[str, str]) -> None:
    assert sorted(told()[place]) == sorted(word for one in SETS[place] for word in words_of(one))


def test_every_word_is_told_what_it_means_and_what_to_do() -> None:
    assert [cells[0] for _, cells in rows() if not all(cells) or len(cells) != 3] == []

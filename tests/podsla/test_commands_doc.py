"""docs/commands.md tells of every reason that a command may give."""

from enum import StrEnum

import pytest

from nodes.placement import Lack
from nodes.proposals import Change
from podsla.diagnosis import State
from podsla.health.findings import Reason
from podsla.recorded import Today
from podsla.refusals import Refused
from podsla.reports import UNUSABLE
from tests.cluster.install import ROOT
from webhook.decision import Skip
from webhook.impact import Outcome

TEXT = (ROOT / "docs/commands.md").read_text()


@pytest.mark.parametrize("words", [Reason, State, Lack, Change, Refused, Today, Outcome, Skip])
def test_every_word_of_a_closed_set_is_told(words: type[StrEnum]) -> None:
    assert [word.value for word in words if f"`{word.value}`" not in TEXT] == []


def test_what_lint_says_of_a_file_that_cannot_be_used_is_told() -> None:
    assert f"`{UNUSABLE}`" in TEXT

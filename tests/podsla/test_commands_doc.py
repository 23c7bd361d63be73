"""docs/commands.md tells of every reason that a command may give."""

from enum import StrEnum

import pytest

from nodes.placement import Lack
from nodes.proposals import Change
from podsla.diagnosis import State
from podsla.health.findings import Reason
from podsla.recorded import Today
from podsla.refusals import Refused
from tests.cluster.install import ROOT


@pytest.mark.parametrize("words", [Reason, State, Lack, Change, Refused, Today])
def test_every_word_of_a_closed_set_is_told(words: type[StrEnum]) -> None:
    text = (ROOT / "docs/commands.md").read_text()

    assert [word.value for word in words if f"`{word.value}`" not in text] == []

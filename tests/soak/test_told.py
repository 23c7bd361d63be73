"""What a soak makes of what it saw: a process that grows is told, chance is not. Pure."""

import pytest

from bench.cluster.plan import Created
from tests.soak.report import lines
from tests.soak.soak import GROWTH, Told
from tests.soak.stand import Usage

FIRST: Usage = (100, 50, 10)
MIB, DESCRIPTORS, THREADS = GROWTH
CREATED = Created(0.0, 0.0, 0.1, 201, sized=True)


@pytest.mark.parametrize(
    ("last", "grew"),
    [
        pytest.param((100 + MIB, 50 + DESCRIPTORS, 10 + THREADS), False, id="by no more than a handover takes"),
        pytest.param((20, 5, 1), False, id="it takes less"),
        pytest.param((101 + MIB, 50, 10), True, id="memory"),
        pytest.param((100, 51 + DESCRIPTORS, 10), True, id="descriptors"),
        pytest.param((100, 50, 11 + THREADS), True, id="threads"),
    ],
)
def test_row_32_a_process_that_grows_is_told_with_its_figures(last: Usage, grew: bool) -> None:
    """Seen to fail with each of the three left out, and where all of them must grow."""
    told = Told(made=[CREATED], usage={"webhook-1, pid 7": (FIRST, last)})
    said = f"webhook-1, pid 7: {FIRST} → {last} (MiB, descriptors, threads)"

    assert told.grew == ([said] if grew else [])
    assert (f"grew: {said}" in lines(told)) == grew

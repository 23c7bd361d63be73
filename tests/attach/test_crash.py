"""The agent dies before and after everything that it does; the next one ends where no death would have led."""

from collections.abc import Callable
from pathlib import Path

import pytest

from attach.points import POINTS
from attach.store import FileStore
from attach.transitions import TRANSITIONS, State
from tests.attach.fakes import Crash
from tests.attach.stories import STORIES, Story, borrow_and_give_back, tell
from tests.attach.world import IN_LOOP, World

IN_STORE = {name for name, module in POINTS.items() if module == "attach.store"}


def told(story: Story, at: Callable[[str], None], store: FileStore | None = None) -> dict[str, object]:
    world = World()
    if store is not None:
        store.at = at
        world.store = store
    world.at = at
    return tell(story, world)


def dying_at(number: int) -> Callable[[str], None]:
    """Die at the n-th point that is passed."""
    left = number

    def die(_name: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Crash

    return die


def passed(story: Story, store: FileStore | None = None) -> tuple[list[str], dict[str, object]]:
    """List the points that a story passes, and how it ends."""
    points: list[str] = []
    return points, told(story, points.append, store)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: str(story.__doc__))
def test_wherever_the_agent_dies_the_story_ends_as_it_would(story: Story) -> None:
    """Seen to fail where nothing is written down before an effect."""
    points, end = passed(story)

    for number in range(1, len(points) + 1):
        assert told(story, dying_at(number)) == end, f"after dying {points[number - 1]} ({number} of {len(points)})"


def test_wherever_it_dies_while_it_saves_the_journal(tmp_path: Path) -> None:
    """The same with the journal in a file: the old one or the new one is there."""
    (tmp_path / "whole").mkdir()
    points, end = passed(borrow_and_give_back, FileStore(tmp_path / "whole"))
    assert set(points) >= IN_STORE

    for number in (number for number, name in enumerate(points, start=1) if name in IN_STORE):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert told(borrow_and_give_back, dying_at(number), FileStore(folder)) == end


def test_the_stories_pass_every_point() -> None:
    """A new effect can't be forgotten: declared, it has to be died at."""
    assert {name for story in STORIES for name in passed(story)[0]} == set(IN_LOOP)


def test_the_stories_take_every_arrow_of_the_diagram() -> None:
    """Seen to fail before two of them were told; docs/gpu-attach.md draws it."""
    taken: set[tuple[State | None, State]] = set()
    for story in STORIES:
        world = World()
        tell(story, world)
        taken |= {(before, after) for before, after, _ in world.ledger.moves}

    arrows = {(state, after) for state, events in TRANSITIONS.items() for after in events.values()}
    assert taken == arrows | {(None, State.ATTACHING)}


def test_dying_twice_in_a_row() -> None:
    points, end = passed(borrow_and_give_back)

    for number in range(1, len(points), 3):
        deaths = [dying_at(number), dying_at(number + 2)]

        def both(name: str, deaths: list[Callable[[str], None]] = deaths) -> None:
            for die in deaths:
                die(name)

        assert told(borrow_and_give_back, both) == end

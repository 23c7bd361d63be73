"""What `podsla gpu budget` says of each namespace."""

from typing import Any

from attach.budget import Ledger
from catalog.model import GpuBudget, Requirement
from catalog.reader import make_catalog
from podsla.commands.budget import _cells, rows

TODAY = "2026-01-02"
EDGE = GpuBudget((Requirement("team", "In", ("edge",)),), 2)


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


def test_a_namespace_is_told_that_has_a_budget_or_has_held_a_gpu() -> None:
    there = [namespace("web"), namespace("edge-b", team="edge"), namespace("edge-a", team="edge"), namespace("idle")]
    ledger = Ledger(TODAY, {"edge-b": {"u1": 60, "u2": 65}, "web": {"u3": 59}, "gone": {"u4": 600}})

    found = rows(there, make_catalog([], [], [EDGE]), ledger, TODAY)

    assert [_cells(row) for row in found] == [
        ("edge-a", "0 min", "2 min"),
        ("edge-b", "2 min!", "2 min"),
        ("gone", "10 min", "none"),
        ("web", "0 min", "none"),
    ]
    assert found[1] == {"namespace": "edge-b", "usedMinutes": 2, "minutesPerDay": 2}


def test_what_was_held_yesterday_counts_no_more() -> None:
    yesterday = Ledger("2026-01-01", {"web": {"u": 600}, "edge": {"u": 600}})

    found = rows([namespace("edge", team="edge"), namespace("web")], make_catalog([], [], [EDGE]), yesterday, TODAY)

    assert found == [{"namespace": "edge", "usedMinutes": 0, "minutesPerDay": 2}]

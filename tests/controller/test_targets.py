"""Which edits of the target are kept."""

from typing import Any

import pytest

from controller.targets import TargetPlan, plan_target

GOOD = "apiVersion: podsla.io/v1beta1\nkind: Target\nmetadata: {name: lab}\nspec: {}\n"
BAD = "apiVersion: podsla.io/v1beta1\nkind: Target\nmetadata: {name: lab}\nspec: {capacityPercent: 200}\n"


PRICED = GOOD.replace("{}", "{autoscaler: {price: true}}")
VIRTUAL = GOOD.replace("{}", "{virtualNodes: true, autoscaler: {karpenter: true}}")


def config_map(text: str | None) -> dict[str, Any]:
    return {"metadata": {"name": "podsla-target"}, "data": {} if text is None else {"target.yaml": text}}


def kept(number: int, text: str) -> dict[str, Any]:
    metadata = {"name": f"kept-{number}", "labels": {"podsla.io/target": "true"}}
    return {"metadata": metadata, "revision": number, "data": {"target.yaml": text}}


OF_A_CATALOGUE = {"metadata": {"name": "other", "labels": {"podsla.io/catalog": "x"}}, "revision": 99, "data": {}}


@pytest.mark.parametrize(
    ("thing", "revisions", "number", "problems"),
    [
        pytest.param(None, [], None, (), id="no target: the shipped one serves"),
        pytest.param(None, [kept(1, GOOD)], None, (), id="deleted: the last accepted one serves on"),
        pytest.param(config_map(GOOD), [OF_A_CATALOGUE], 1, (), id="the first one is number 1"),
        pytest.param(config_map(GOOD), [kept(4, GOOD)], None, (), id="unchanged: nothing to do"),
        pytest.param(config_map(GOOD), [kept(3, GOOD), kept(4, BAD)], 5, (), id="back to an earlier one: a new number"),
        pytest.param(
            config_map(None),
            [kept(1, GOOD)],
            None,
            ("configmap/podsla-target has no key target.yaml; add it",),
            id="a key of another name",
        ),
        pytest.param(
            config_map(BAD),
            [kept(1, GOOD)],
            None,
            ("configmap/podsla-target:4: spec.capacityPercent: is 200; write 100 or less",),
            id="a wrong one is not kept, and its line is named",
        ),
        pytest.param(
            config_map(VIRTUAL),
            [],
            None,
            (
                "configmap/podsla-target:4: spec.autoscaler.karpenter: is true with virtualNodes, whose nodes no "
                "autoscaler adds; take one of them away",
            ),
            id="an export for nodes that no autoscaler adds",
        ),
        pytest.param(
            config_map(PRICED),
            [],
            None,
            (
                "configmap/podsla-target:4: spec.autoscaler.price: is for Karpenter alone, which nothing is exported "
                "to; write karpenter: true beside it, or take it away",
            ),
            id="a price that nobody is told",
        ),
    ],
)
def test_plan(thing: Any, revisions: list[Any], number: int | None, problems: tuple[str, ...]) -> None:
    plan = plan_target(thing, revisions)

    assert (plan.create["revision"] if plan.create else None) == number
    assert plan.problems == problems


def test_an_accepted_edit_makes_the_plan_empty_and_old_ones_go() -> None:
    kept_before = [kept(number, f"{GOOD}# {number}\n") for number in (1, 2, 3, 4)]
    plan = plan_target(config_map(GOOD), kept_before)
    assert plan.create is not None
    assert plan.delete == ("kept-1",)

    left = [plan.create, *(thing for thing in kept_before if thing["metadata"]["name"] not in plan.delete)]
    assert plan_target(config_map(GOOD), left) == TargetPlan(None, ("kept-2",), ())

"""What others are given for the class that is fixed, read from podsla's own answer."""

from typing import Any

import jsonpatch
import pytest

from bench.__main__ import POD, TODAY
from bench.cluster.kyverno import mutating_policy
from bench.cluster.peers import cel, policy
from bench.golang import fixed_class
from catalog.fit import compile_index
from catalog.load import SHIPPED_CATALOG, load_catalog, load_target
from webhook.admit import Serving, Sized, admit


@pytest.fixture(scope="module")
def sized() -> Sized:
    """What podsla does to the pod of the bench."""
    answer = admit(POD, {}, Serving(compile_index(load_catalog([SHIPPED_CATALOG]), load_target("kubernetes"))), TODAY)
    assert isinstance(answer, Sized)
    return answer


def test_the_fixed_class_is_what_was_written_into_the_pod(sized: Sized) -> None:
    fixed, made = fixed_class(sized.patch, "podsla.io/"), jsonpatch.apply_patch(POD, list(sized.patch))
    assert fixed["Size"] == made["metadata"]["labels"]["podsla.io/size"] == "ecs.c6e.2xlarge"
    assert fixed["Record"] == made["metadata"]["annotations"]["podsla.io/record"]
    assert fixed["Affinity"] == made["spec"]["affinity"]
    assert (fixed["Name"], fixed["PPS"], fixed["Floor"]) == ("net-intensive", "1520k", "600k")


def test_the_policy_adds_at_every_path_that_podsla_adds_at(sized: Sized) -> None:
    made, _ = policy(fixed_class(sized.patch, "podsla.io/"), {"a": "b"})
    (mutation,) = made["spec"]["mutations"]
    for operation in sized.patch:
        parent, _, last = operation["path"].rpartition("/")
        key = last.replace("~1", "/")
        expected = f'"{parent}/" + jsonpatch.escapeKey("{key}")' if "~1" in last else f'"{operation["path"]}"'
        assert f"path: {expected}, " in mutation["jsonPatch"]["expression"]


def test_kyverno_is_given_what_the_api_server_is_given(sized: Sized) -> None:
    """But for what only one of them has a word for."""
    made, _ = policy(fixed_class(sized.patch, "podsla.io/"), {"a": "b"})
    theirs = mutating_policy(made)["spec"]

    assert {key: made["spec"][key] for key in theirs.keys() & made["spec"].keys()} == {
        key: text for key, text in theirs.items() if key != "autogen"
    }
    assert made["spec"].keys() - theirs.keys() == {"reinvocationPolicy"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param('a "quoted" text', r'"a \"quoted\" text"', id="text"),
        pytest.param(["3"], '["3"]', id="list"),
        pytest.param({"key": "a", "values": ["3"]}, '{"key": dyn("a"), "values": dyn(["3"])}', id="map of two types"),
    ],
)
def test_values_in_cel(value: Any, expected: str) -> None:
    assert cel(value) == expected

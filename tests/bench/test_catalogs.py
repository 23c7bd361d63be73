"""Twenty catalogues serve as one, here of a few sizes each: what `python -m bench.catalogs` measures is also right."""

import itertools
from collections.abc import Sequence
from typing import Any, Final

import pytest

from bench.catalogs import make_catalogs, pods
from catalog.accept import Memo, judge
from catalog.dimension import BY_PATH, MEMORY, VCPU
from catalog.fit import compile_index
from catalog.load import load_target
from catalog.served import Served, build, find_accepted
from catalog.stored import revision_object
from tests.builders import TODAY
from webhook.admit import Serving, Sized, admit
from webhook.decision import Deny

CATALOGS: Final = 20
SIZES: Final = 60
PPS: Final = BY_PATH["network.pps"].index
NEEDS: Final = (3_200, 6_400 << 20)  # millicores and bytes: by their limits, else their requests, what containers ask


def things() -> list[dict[str, Any]]:
    """The catalogues as the API server has them, created one after the other."""
    return [
        {**made, "metadata": {**made["metadata"], "uid": made["metadata"]["name"], "generation": 1,
                              "creationTimestamp": f"2026-01-01T00:00:{number:02}Z"}}
        for number, made in enumerate(make_catalogs(CATALOGS, SIZES))
    ]  # fmt: skip


def served(accepted: Sequence[dict[str, Any]]) -> Served:
    """What a replica serves that sees these."""
    found = [{**thing, "status": {"serving": "sha256:a"}} for thing in accepted]
    revisions = [
        {**revision_object(thing, "sha256:a", 1, "podsla-system"), "data": {"spec": thing["spec"]}} for thing in found
    ]
    seen = find_accepted(found, revisions, [])
    assert seen is not None
    return build(seen, load_target("kubernetes"), Memo())


@pytest.fixture(scope="module")
def serving() -> Serving:
    whole = served(things())
    assert whole.problems == ()
    assert len(whole.catalog.sizes) == CATALOGS * SIZES
    return Serving(compile_index(whole.catalog, whole.target))


def test_all_of_them_are_accepted_together() -> None:
    assert {verdict.reason for verdict in judge(things(), [], Memo())} == {"Accepted"}


def test_replicas_that_see_them_in_another_order_serve_the_same() -> None:
    made = things()
    assert served(made[::-1]).catalog.revision == served(made).catalog.revision


def test_every_pod_gets_the_smallest_size_of_its_own_catalogue_that_holds_it(serving: Serving) -> None:
    """Held against a look at every size of all catalogues, one by one."""
    index, drivers = serving.index, set()
    for number, pod in enumerate(itertools.islice(pods([f"class-{n}" for n in range(CATALOGS)]), 20 * CATALOGS)):
        wants = (*NEEDS, int(pod["metadata"]["annotations"]["podsla.io/min-pps"]))
        holding = [
            size
            for size in index.catalog.sizes
            if size.family == f"lab.c{number % CATALOGS}" and _holds(index.target.offer(size), wants)
        ]
        answer = admit(pod, {}, serving, TODAY)
        if not holding:
            assert isinstance(answer, Deny), pod
            continue
        assert isinstance(answer, Sized), answer
        smallest = min(holding, key=lambda size: size.order)
        assert answer.place.choice.size == smallest
        drivers.add(answer.place.choice.driver)
    assert len(drivers) > 1, "pods are of several kinds"


def _holds(offer: Sequence[int | None], wants: tuple[int, int, int]) -> bool:
    has = (offer[VCPU.index] or 0, offer[MEMORY.index] or 0, offer[PPS] or 0)
    return all(figure >= want for figure, want in zip(has, wants, strict=True))

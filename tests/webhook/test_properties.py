"""What holds for every catalogue, target, pod and record."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import Any

import jsonpatch
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from catalog.dimension import DIMENSIONS, MEMORY, NOTHING, PPS, VCPU, Ask, lacking
from catalog.fit import MAX_STEPS, Index, compile_index
from catalog.model import Catalog, Reserve, SandboxSize, SlaClass
from catalog.reader import make_catalog
from catalog.target import Target
from tests.strategies import (
    EXTENDED,
    TODAY,
    Pod,
    amounts,
    asks,
    assert_valid_resources,
    catalogs,
    cheapest_by_hand,
    effective,
    exact,
    needed,
    pods,
    qos,
    records,
    scheduled,
    strip_ours,
    targets,
    written,
)
from webhook.admit import Serving, Sized, admit
from webhook.decision import Deny

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

on_any_target = st.sampled_from(sorted(targets())).map(lambda name: targets()[name])


def admitted(pod: Pod, index: Index) -> Sized:
    """Admit a pod; the example does not count where it gets no size."""
    answer = admit(pod, {}, Serving(index), TODAY)
    if not isinstance(answer, Sized):
        reject()
    return answer


def with_record(pod: Mapping[str, Any], record: Any) -> Pod:
    """Put a record on a pod."""
    copy: Pod = deepcopy(dict(pod))
    copy["metadata"]["annotations"]["podsla.io/record"] = record
    return copy


def without_record(pod: Mapping[str, Any]) -> str:
    """Write a pod as text, less its record."""
    copy = deepcopy(dict(pod))
    copy["metadata"]["annotations"].pop("podsla.io/record", None)
    return written(copy)


# --- the size ---------------------------------------------------------------------------------------------------------


@given(catalog=catalogs(), target=on_any_target, ask=asks())
def test_the_size_holds_the_ask_and_no_cheaper_one_does(catalog: Catalog, target: Target, ask: Ask) -> None:
    index = compile_index(catalog, target)
    for sla_class in catalog.classes.values():
        choice = index.choose(sla_class, ask)
        assert (choice.size if choice else None) == cheapest_by_hand(index, sla_class, ask)
        if choice:
            assert not lacking(choice.offer, ask)
            assert [size for size, _ in index.sizes_of(sla_class)].count(choice.size) == 1


@given(catalog=catalogs(), target=on_any_target, ask=asks())
def test_the_driver_is_a_dimension_without_which_a_cheaper_size_would_do(
    catalog: Catalog, target: Target, ask: Ask
) -> None:
    index = compile_index(catalog, target)
    for sla_class in catalog.classes.values():
        choice = index.choose(sla_class, ask)
        if choice is None:
            continue
        cheaper = {}
        for dimension in DIMENSIONS:
            if ask[dimension.index]:
                relaxed = tuple(0 if i == dimension.index else want for i, want in enumerate(ask))
                found = cheapest_by_hand(index, sla_class, relaxed)
                if found and found.order < choice.size.order:
                    cheaper[dimension] = found
        if choice.driver is None:
            assert not cheaper
        else:
            assert choice.without_driver == cheaper[choice.driver] == min(cheaper.values(), key=lambda s: s.order)


@given(catalog=catalogs(fallbacks=False), target=on_any_target, pod=pods())
def test_the_decision_takes_the_cheapest_size_that_holds_its_ask(catalog: Catalog, target: Target, pod: Pod) -> None:
    index = compile_index(catalog, target)
    place = admitted(pod, index).place
    assert place.choice.size == cheapest_by_hand(index, place.sla_class, place.ask)
    assert all(want <= have for want, have in zip(place.demand, place.ask, strict=True))


@given(catalog=catalogs(), target=on_any_target, pod=pods())
def test_the_pod_as_it_leaves_still_fits_its_size(catalog: Catalog, target: Target, pod: Pod) -> None:
    """What the scheduler will count, overhead included, is never more than the size offers."""
    index = compile_index(catalog, target)
    sized = admitted(pod, index)
    runtime = target.runtime(sized.place.sla_class.runtime)
    assert runtime is not None
    own = pod["spec"].get("overhead") or {}
    brought = {"cpu": f"{runtime.overhead_cpu_m}m", "memory": runtime.overhead_memory_bytes}
    ours = runtime.runtime_class is not None and sized.pod["spec"].get("runtimeClassName") == runtime.runtime_class
    overhead = brought if ours else own
    for resource, dimension, scale in (("cpu", VCPU, 1000), ("memory", MEMORY, 1)):
        needs = needed(dict(sized.pod), resource) + exact(overhead.get(resource, 0))
        assert needs * scale <= (sized.place.choice.offer[dimension.index] or 0), resource


@given(catalog=catalogs(), target=on_any_target, pod=pods())
def test_the_floor_is_really_there(catalog: Catalog, target: Target, pod: Pod) -> None:
    """Where CPU and memory are written, the scheduler counts the class's floor or more, overhead included."""
    sized = admitted(pod, compile_index(catalog, target))
    runtime = target.runtime(sized.place.sla_class.runtime)
    assert runtime is not None
    if target.resources.value == "none":
        return
    floor = sized.place.sla_class.floor
    assert scheduled(dict(sized.pod), "cpu") * 1000 + runtime.overhead_cpu_m >= floor[VCPU.index]
    assert scheduled(dict(sized.pod), "memory") + runtime.overhead_memory_bytes >= floor[MEMORY.index]


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), target=on_any_target)
def test_a_ladder_with_more_figures_than_steps_chooses_as_by_hand(seed: int, target: Target) -> None:
    random = Random(seed)  # noqa: S311
    count = MAX_STEPS * 2 + 7
    sizes = []
    for number in range(count):
        figures: list[int | None] = [None] * len(DIMENSIONS)
        figures[VCPU.index] = 1000 + random.randrange(10**6)
        figures[MEMORY.index] = (1 << 31) + random.randrange(1 << 40)
        figures[PPS.index] = None if random.random() < 0.1 else random.randrange(1, 10**7)
        sizes.append(SandboxSize(f"s{number}", "s", 7, tuple(figures), random.randrange(1, 10**6)))
    sla_class = SlaClass("c", "drawn")
    index = compile_index(make_catalog(sizes, [sla_class]), replace(target, node_types=()))
    assert not all(ladder.exact for ladder in index.ladders)
    for _ in range(20):
        like = random.choice(index.offers)
        ask = tuple(max(0, (figure or 0) + random.randint(-1, 1)) for figure in like)
        choice = index.choose(sla_class, ask)
        assert (choice.size if choice else None) == cheapest_by_hand(index, sla_class, ask)
        assert list(index.holders(sla_class, ask)) == [
            s for s, offer in index.sizes_of(sla_class) if not lacking(offer, ask)
        ]
    beyond = tuple(10**15 if d is PPS else 0 for d in DIMENSIONS)
    assert index.choose(sla_class, beyond) is None


# --- order ------------------------------------------------------------------------------------------------------------


@given(catalog=catalogs(), target=on_any_target, pod=pods(), random=st.randoms(use_true_random=False))
def test_the_order_of_a_file_changes_nothing(catalog: Catalog, target: Target, pod: Pod, random: Random) -> None:
    sizes, classes = list(catalog.sizes), list(catalog.classes.values())
    random.shuffle(sizes)
    random.shuffle(classes)
    other = make_catalog(sizes, classes)
    assert other == catalog
    assert admit(pod, {}, Serving(compile_index(other, target)), TODAY) == admit(
        pod, {}, Serving(compile_index(catalog, target)), TODAY
    )


@given(catalog=catalogs(), target=on_any_target, pod=pods(), random=st.randoms(use_true_random=False))
def test_the_order_of_containers_changes_neither_class_nor_size(
    catalog: Catalog, target: Target, pod: Pod, random: Random
) -> None:
    index = compile_index(catalog, target)
    other = deepcopy(pod)
    random.shuffle(other["spec"]["containers"])
    first, second = admit(pod, {}, Serving(index), TODAY), admit(other, {}, Serving(index), TODAY)
    if isinstance(first, Sized) and isinstance(second, Sized):
        assert first.place.sla_class == second.place.sla_class
        assert first.place.choice == second.place.choice
    else:
        assert first == second


# --- more -------------------------------------------------------------------------------------------------------------


@given(catalog=catalogs(), target=on_any_target, low=asks(), more=asks())
def test_a_larger_ask_never_gets_a_cheaper_size(catalog: Catalog, target: Target, low: Ask, more: Ask) -> None:
    index = compile_index(catalog, target)
    high = tuple(map(max, low, more))
    for sla_class in catalog.classes.values():
        small, large = index.choose(sla_class, low), index.choose(sla_class, high)
        assert small is not None or large is None
        if small and large:
            assert small.size.order <= large.size.order


@given(catalog=catalogs(fallbacks=False), target=on_any_target, pod=pods(), more=asks())
def test_more_floor_never_means_a_cheaper_size(catalog: Catalog, target: Target, pod: Pod, more: Ask) -> None:
    before = admitted(pod, compile_index(catalog, target))
    raised = before.place.sla_class
    raised = replace(raised, floor=tuple(map(max, raised.floor, (*more[:8], 0))))
    classes = {**catalog.classes, raised.name: raised}
    after = admit(pod, {}, Serving(compile_index(make_catalog(catalog.sizes, list(classes.values())), target)), TODAY)
    if isinstance(after, Sized):
        assert before.place.choice.size.order <= after.place.choice.size.order


@given(catalog=catalogs(fallbacks=False), target=on_any_target, pod=pods(pod_level=False), extra=st.integers(1, 4000))
def test_a_larger_demand_never_gets_a_cheaper_size(catalog: Catalog, target: Target, pod: Pod, extra: int) -> None:
    """A further container asks for more; Burstable pods, since whole CPUs are raised by whole CPUs."""
    assume(qos(pod) != "Guaranteed")
    index = compile_index(catalog, target)
    before = admitted(pod, index)
    larger = deepcopy(pod)
    asked = {"cpu": f"{extra}m", "memory": f"{extra}Mi"}
    larger["spec"]["containers"].append({"name": "more", "resources": {"requests": asked}})
    after = admit(larger, {}, Serving(index), TODAY)
    if isinstance(after, Sized):
        assert before.place.choice.size.order <= after.place.choice.size.order


# --- the patch --------------------------------------------------------------------------------------------------------


@given(catalog=catalogs(), target=on_any_target, pod=pods())
def test_the_patch_makes_the_pod_that_was_promised(catalog: Catalog, target: Target, pod: Pod) -> None:
    untouched = written(pod)
    sized = admitted(pod, compile_index(catalog, target))
    assert written(pod) == untouched, "the pod that was sent is changed"
    patch = json.loads(json.dumps(sized.patch))
    assert written(jsonpatch.apply_patch(deepcopy(pod), patch)) == written(sized.pod)


@given(catalog=catalogs(), target=on_any_target, pod=pods())
def test_less_what_is_ours_the_pod_is_as_it_was_sent(catalog: Catalog, target: Target, pod: Pod) -> None:
    """
    Priority, overhead, preemption, security contexts, unknown fields, empty and null ones: all stay.

    Seen to fail where a container is written anew from the fields that are known.
    """
    sized = admitted(pod, compile_index(catalog, target))
    assert written(strip_ours(dict(sized.pod), pod)) == written(pod)


@given(catalog=catalogs(), target=on_any_target, pod=pods())
def test_deciding_twice_changes_nothing(catalog: Catalog, target: Target, pod: Pod) -> None:
    """Seen to fail where no record is believed."""
    index = compile_index(catalog, target)
    sized = admitted(pod, index)
    again = admit(deepcopy(dict(sized.pod)), {}, Serving(index), TODAY)
    assert isinstance(again, Sized), again
    assert again.patch == ()
    assert again.place == sized.place


# --- resources --------------------------------------------------------------------------------------------------------


@given(catalog=catalogs(), target=on_any_target, pod=pods())
def test_extended_resources_are_whole_with_requests_equal_to_limits(catalog: Catalog, target: Target, pod: Pod) -> None:
    sized = admitted(pod, compile_index(catalog, target))
    for container in sized.pod["spec"]["containers"]:
        requests, limits = amounts(container, "requests"), amounts(container, "limits")
        for resource in EXTENDED:
            assert requests.get(resource) == limits.get(resource)
            assert limits.get(resource, Decimal(1)) >= 1
            assert limits.get(resource, Decimal(1)) % 1 == 0


@given(catalog=catalogs(), target=on_any_target, pod=pods())
def test_reservations_are_the_ask_or_the_whole_size(catalog: Catalog, target: Target, pod: Pod) -> None:
    sized = admitted(pod, compile_index(catalog, target))
    for holding in sized.place.holdings:
        if holding.dimension.resource and "reservation" in holding.by:
            want = holding.offer if sized.place.reserve.value == "size" else holding.ask
            assert effective(dict(sized.pod), holding.dimension.resource) == want


@given(catalog=catalogs(), target=on_any_target, pod=pods())
def test_a_guaranteed_pod_stays_guaranteed(catalog: Catalog, target: Target, pod: Pod) -> None:
    assume(qos(pod) == "Guaranteed")
    sized = admitted(pod, compile_index(catalog, target))
    assert qos(dict(sized.pod)) == "Guaranteed"


@given(catalog=catalogs(), target=on_any_target, pod=pods())
def test_no_request_and_no_limit_is_ever_lowered(catalog: Catalog, target: Target, pod: Pod) -> None:
    after = admitted(pod, compile_index(catalog, target)).pod
    for group in ("initContainers", "containers"):
        pairs = zip(pod["spec"].get(group) or [], after["spec"].get(group) or [], strict=True)
        for old, new in [*pairs, (pod["spec"], after["spec"])]:
            for kind in ("requests", "limits"):
                now = amounts(new, kind)
                assert all(now[key] >= value for key, value in amounts(old, kind).items())


@given(catalog=catalogs(), target=on_any_target, pod=pods())
def test_the_pod_passes_validation_of_its_resources(catalog: Catalog, target: Target, pod: Pod) -> None:
    """
    No request above its limit; containers together within the pod's request, each within the pod's limit.

    Seen to fail where limits are not written along with requests.
    """
    after: Pod = dict(admitted(pod, compile_index(catalog, target)).pod)
    assert_valid_resources(after)


# --- records ----------------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(catalog=catalogs(), target=on_any_target, pod=pods(), other=pods(), more=asks(), data=st.data())
def test_a_record_on_a_new_pod_gives_what_the_pod_would_get_without_it(
    catalog: Catalog, target: Target, pod: Pod, other: Pod, more: Ask, data: st.DataObject
) -> None:
    """Random, cut off, changed, another pod's, its own, of an unknown revision: none gains or loses anything."""
    index = compile_index(catalog, target)
    plain = admitted(pod, index)
    # A runtime of its own that a believable record of another pod claims as ours: nobody can tell, nothing is gained.
    foreign = admit(pod if "runtimeClassName" in pod["spec"] else other, {}, Serving(index), TODAY)
    changed = [replace(c, floor=tuple(map(max, c.floor, more))) for c in catalog.classes.values()]
    late = admit(pod, {}, Serving(compile_index(make_catalog(catalog.sizes, changed), target)), TODAY)
    drawn = records(record_of(plain), record_of(foreign, plain), record_of(late, plain))
    forged = with_record(pod, data.draw(drawn, label="record"))
    answer = admit(forged, {}, Serving(index), TODAY)
    assert isinstance(answer, Sized), answer
    assert without_record(answer.pod) == without_record(plain.pod)
    assert answer.place.choice == plain.place.choice
    assert written(jsonpatch.apply_patch(forged, list(answer.patch))) == written(answer.pod)


def record_of(answer: object, instead: Sized | None = None) -> str:
    """Read the record that an answer puts on its pod; that of *instead* where it gives no size."""
    sized = answer if isinstance(answer, Sized) else instead
    assert sized is not None
    return str(sized.pod["metadata"]["annotations"]["podsla.io/record"])


@given(catalog=catalogs(), target=on_any_target, pod=pods(), data=st.data())
def test_a_sized_pod_whose_record_is_damaged_is_a_pod_as_any_other(
    catalog: Catalog, target: Target, pod: Pod, data: st.DataObject
) -> None:
    """Fields that we wrote count as the pod's own, and what comes of it is stable."""
    index = compile_index(catalog, target)
    sized = admitted(pod, index)
    own = record_of(sized)
    cut = with_record(sized.pod, own[: data.draw(st.integers(0, len(own) - 1), label="end")])
    bare = deepcopy(cut)
    del bare["metadata"]["annotations"]["podsla.io/record"]
    first, second = admit(cut, {}, Serving(index), TODAY), admit(bare, {}, Serving(index), TODAY)
    if isinstance(first, Sized) and isinstance(second, Sized):
        assert without_record(first.pod) == without_record(second.pod)
    else:
        assert first == second


@pytest.mark.parametrize(
    "made",
    [
        pytest.param({"containers": []}, id="no container"),
        pytest.param({"containers": [{"name": "i", "kind": "init"}]}, id="only an init container"),
        pytest.param({"containers": [{"name": "a", "kind": "running"}], "runtime_class": []}, id="a list as a name"),
        pytest.param(
            {"containers": [{"name": "a", "kind": "running", "requests": {"cpu": "-1"}}]}, id="a negative request"
        ),
        pytest.param(
            {"containers": [{"name": "a", "kind": "running", "requests": {"cpu": "1e17"}}]},
            id="a request beyond 64 bits",
        ),
        pytest.param({"containers": [{"name": "a", "kind": "running"}], "claims": 7}, id="a number as a list"),
    ],
)
@pytest.mark.parametrize("name", ["c0", "c1", "c2", "gpu"])
def test_a_record_with_an_input_that_no_pod_can_have_is_not_believed(made: dict[str, Any], name: str) -> None:
    figures = [2000, 4 << 30, 2500, 10**6, 4, 10**9, 10**4, 10**8, 2]
    floors = {"c0": (VCPU, MEMORY), "c1": (PPS,), "c2": ()}
    classes = [
        SlaClass(key, "made", floor=tuple(1000 if d in floor else 0 for d in DIMENSIONS))
        for key, floor in floors.items()
    ]
    size = SandboxSize("fam0.s0", "fam0", 7, tuple(figures), 1)
    index = compile_index(
        make_catalog([size], [*classes, SlaClass("gpu", "made", floor=NOTHING)]), targets()["kubernetes"]
    )
    pod = {
        "metadata": {"annotations": {"podsla.io/class": name}},
        "spec": {"containers": [{"name": "a", "image": "x"}]},
    }
    record = {
        "version": 1,
        "revision": index.catalog.revision,
        "input": {**made, "keys": {"podsla.io/class": name}},
    }
    forged = with_record(pod, json.dumps(record))
    plain, answer = admit(pod, {}, Serving(index), TODAY), admit(forged, {}, Serving(index), TODAY)
    assert isinstance(plain, Sized)
    assert isinstance(answer, Sized)
    assert without_record(answer.pod) == without_record(plain.pod)


# --- edges that were found by looking ---------------------------------------------------------------------------------

EIGHT = SandboxSize("s.a", "s", 7, (8100, 64 << 30, 2700, 10**7, 8, 10**10, 10**6, 10**9, 8), 8000)


def one_class(sla_class: SlaClass, target: str = "kubernetes") -> Index:
    """One size that offers 8 CPUs, and one class."""
    return compile_index(make_catalog([EIGHT], [sla_class]), targets()[target])


def asking(container: Mapping[str, Any] | None = None, *, init: Mapping[str, Any] | None = None, **spec: Any) -> Pod:
    """A pod of class `c` whose container, and init container where given, has these resources."""
    metadata = {"annotations": {"podsla.io/class": "c"}, "labels": {}}
    spec["containers"] = [{"name": "a", **({} if container is None else {"resources": dict(container)})}]
    if init is not None:
        spec["initContainers"] = [{"name": "i", "resources": dict(init)}]
    return {"metadata": metadata, "spec": spec}


def both(**amounts: str) -> dict[str, Any]:
    """Requests equal to limits."""
    named = {key.replace("pps", "podsla.io/pps"): text for key, text in amounts.items()}
    return {"requests": named, "limits": dict(named)}


def floor_of(**figures: int) -> Ask:
    """A floor by name of the dimension."""
    named = {"cpu_m": VCPU, "memory": MEMORY, "pps": PPS}
    return tuple(next((v for k, v in figures.items() if named[k] is d), 0) for d in DIMENSIONS)


@pytest.mark.parametrize(
    ("given", "target"),
    [
        pytest.param(asking(both(cpu="500m", memory="1Gi")), "kubernetes", id="Guaranteed"),
        pytest.param(asking(both(cpu="2", memory="1Gi")), "kubernetes", id="Guaranteed with whole CPUs"),
        pytest.param(
            asking(both(cpu="1", memory="1Gi"), init=both(cpu="4", memory="1Gi")),
            "kubernetes",
            id="whole CPUs, and an init container larger than what runs",
        ),
        pytest.param(
            asking({"requests": {"cpu": "1"}}, init={"requests": {"cpu": "4"}}),
            "containers",
            id="an init container larger than what runs, on a target that writes to containers",
        ),
        pytest.param(
            asking({"requests": {"cpu": "100m"}}, resources={"requests": {"cpu": "100m"}}),
            "containers",
            id="pod-level resources, on a target that writes to containers",
        ),
        pytest.param(
            asking({"requests": {"cpu": "1"}}, resources={"limits": {"cpu": "8"}}),
            "kubernetes",
            id="a pod-level limit alone, over containers with requests",
        ),
    ],
)
def test_a_floor_of_six_cpus_is_what_the_scheduler_counts(given: Pod, target: str) -> None:
    after: Pod = dict(admitted(given, one_class(SlaClass("c", "m", floor=floor_of(cpu_m=6000)), target)).pod)
    assert scheduled(after, "cpu") >= 6
    assert_valid_resources(after)


@pytest.mark.parametrize(
    ("given", "runtime"),
    [
        pytest.param(asking({"requests": {"cpu": "1"}}), "rund", id="overhead of the class's runtime"),
        pytest.param(
            asking({"requests": {"cpu": "1"}}, runtimeClassName="kata", overhead={"cpu": "500m"}),
            None,
            id="overhead of the pod's own runtime",
        ),
    ],
)
def test_overhead_beside_the_floor_still_fits_the_size(given: Pod, runtime: str | None) -> None:
    """The floor is all that the size offers: with overhead, what is written may not be more than it has."""
    sla_class = SlaClass("c", "m", floor=floor_of(cpu_m=8000), runtime=runtime, reserve=Reserve.ASK)
    answer = admit(given, {}, Serving(one_class(sla_class)), TODAY)
    if isinstance(answer, Sized):
        overhead = Decimal("0.25") if runtime else Decimal("0.5")
        assert scheduled(dict(answer.pod), "cpu") + overhead <= 8
    else:
        assert isinstance(answer, Deny)
        assert "vcpu" in answer.message


def test_a_reservation_counts_beside_an_init_container_that_holds_one_itself() -> None:
    given = asking(both(pps="500k"), init=both(pps="1M"))
    after: Pod = dict(admitted(given, one_class(SlaClass("c", "m", floor=floor_of(pps=2_000_000)))).pod)
    assert effective(after, "podsla.io/pps") == 2_000_000


def test_a_reservation_that_another_container_holds_already_adds_no_zero() -> None:
    given = asking()
    given["spec"]["containers"].append({"name": "b", "resources": both(pps="1M")})
    after = admitted(given, one_class(SlaClass("c", "m", floor=floor_of(pps=600_000)))).pod
    assert "podsla.io/pps" not in amounts(after["spec"]["containers"][0], "limits")


def test_a_reservation_that_is_requested_without_a_limit_is_not_lowered() -> None:
    given = asking({"requests": {"podsla.io/pps": "1M"}})
    answer = admit(given, {}, Serving(one_class(SlaClass("c", "m", floor=floor_of(pps=600_000)))), TODAY)
    if isinstance(answer, Sized):
        assert amounts(answer.pod["spec"]["containers"][0], "requests")["podsla.io/pps"] >= 1_000_000


@pytest.mark.parametrize(
    ("given", "target"),
    [
        pytest.param(asking({"requests": {"cpu": "1"}, "limits": {}}), "containers", id="empty limits of a container"),
        pytest.param(asking({"requests": {"cpu": "1"}, "limits": None}), "containers", id="null limits of a container"),
        pytest.param(
            asking(resources={"requests": {"cpu": "1"}, "limits": {}}), "kubernetes", id="empty limits of the pod"
        ),
    ],
)
def test_what_is_empty_stays_as_it_is(given: Pod, target: str) -> None:
    index = one_class(SlaClass("c", "m", floor=floor_of(cpu_m=2000)), target)
    assert written(strip_ours(dict(admitted(given, index).pod), given)) == written(given)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"affinity": "zone-a"}, id="affinity is text"),
        pytest.param({"affinity": ["zone-a"]}, id="affinity is a list"),
        pytest.param({"affinity": {"nodeAffinity": "zone-a"}}, id="node affinity is text"),
        pytest.param({"affinity": {"nodeAffinity": {REQUIRED: ["zone-a"]}}}, id="required affinity is a list"),
        pytest.param(
            {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": ["zone-a"]}}}}, id="a term is text"
        ),
        pytest.param(
            {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": {"zone": "a"}}}}}, id="terms are a mapping"
        ),
        pytest.param({"tolerations": 5}, id="tolerations are a number"),
        pytest.param({"tolerations": {"key": "edge"}}, id="tolerations are a mapping"),
        pytest.param({"runtimeClassName": ["kata"]}, id="the RuntimeClass is a list"),
        pytest.param({"overhead": "1"}, id="overhead is text"),
        pytest.param({"resources": []}, id="pod-level resources are a list"),
        pytest.param(
            {"containers": [{"name": "a", "resources": {"requests": {1: "1", "cpu": "1"}}}]}, id="a number as a key"
        ),
    ],
)
def test_a_part_of_the_wrong_form_is_refused_in_words(fields: dict[str, Any]) -> None:
    """The API server would not send it; a file on disk may hold it."""
    sla_class = SlaClass("c", "m", floor=(0, 0, 2700, *NOTHING[3:]), tolerations=((("key", "edge"),),))
    given = asking()
    given["spec"] |= fields
    answer = admit(given, {}, Serving(one_class(sla_class)), TODAY)
    assert isinstance(answer, Deny)
    assert answer.reason.value == "InvalidPod"


@pytest.mark.parametrize("group", ["annotations", "labels"])
def test_an_annotation_or_label_whose_key_is_a_number_is_refused_in_words(group: str) -> None:
    given = asking()
    given["metadata"][group][1] = "x"
    answer = admit(given, {}, Serving(one_class(SlaClass("c", "m"))), TODAY)
    assert isinstance(answer, Deny)
    assert answer.reason.value == "InvalidPod"

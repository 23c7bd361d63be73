"""Which class, and whether it can be had: every outcome, with its whole message."""

from collections.abc import Sequence
from typing import Any

import pytest

from catalog.fit import compile_index
from catalog.model import Reserve, SandboxSize
from catalog.reader import make_catalog
from tests.sample import TODAY, answer, catalog, container, pod, sized, target
from webhook.admit import Serving, admit
from webhook.decision import Deny, Ignore, Reason, Skip

PVC = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}


@pytest.mark.parametrize(
    ("given", "labels", "expected"),
    [
        pytest.param(pod(None), {}, Ignore(Skip.NO_CLASS), id="no class: left alone"),
        pytest.param(pod("none"), {"podsla.io/default-class": "net"}, Ignore(Skip.OPTED_OUT), id="none opts out"),
        pytest.param(
            pod("plain", annotations={"kubernetes.io/config.mirror": "x"}),
            {},
            Ignore(Skip.MIRROR_POD),
            id="a mirror pod is the kubelet's",
        ),
        pytest.param(
            pod(None, nodeName="n1"),
            {"podsla.io/default-class": "net"},
            Ignore(Skip.NO_CLASS),
            id="the default does not reach a pod that is bound",
        ),
        pytest.param(
            pod(None, metadata={"ownerReferences": [{"kind": "DaemonSet", "name": "d", "controller": True}]}),
            {"podsla.io/default-class": "net"},
            Ignore(Skip.NO_CLASS),
            id="the default does not reach a DaemonSet's pod",
        ),
    ],
)
def test_some_pods_are_none_of_our_business(given: Any, labels: dict[str, str], expected: Ignore) -> None:
    assert answer(given, labels=labels) == expected


def minimum(class_name: str, **minima: str) -> Any:
    return pod(class_name, annotations={f"podsla.io/min-{key.replace('_', '-')}": text for key, text in minima.items()})


@pytest.mark.parametrize(
    ("given", "reason", "message"),
    [
        pytest.param(
            pod("nett"),
            Reason.UNKNOWN_CLASS,
            "class 'nett' is in no catalogue; did you mean net?",
            id="a typo: the nearest class is named",
        ),
        pytest.param(
            pod("NET"),
            Reason.UNKNOWN_CLASS,
            "class 'NET' is in no catalogue; did you mean net?",
            id="wrong case is another name",
        ),
        pytest.param(
            pod(""),
            Reason.UNKNOWN_CLASS,
            "class '' is in no catalogue; known are any-gpu, borrow, disk, fast, fast-or-plain, floored, gone, gpu, "
            "net, old, plain, polite, …",
            id="an empty class is no class",
        ),
        pytest.param(
            pod("net", annotations={"podsla.io/min-pp": "1"}),
            Reason.UNKNOWN_KEY,
            "podsla.io/min-pp is no key of podsla; did you mean podsla.io/min-pps or podsla.io/min-disk-iops?",
            id="an unknown key is never ignored",
        ),
        pytest.param(
            pod(None, annotations={"podsla.io/min-pps": "1"}),
            Reason.KEY_WITHOUT_CLASS,
            "podsla.io/min-pps has no effect without a class; add podsla.io/class, or remove it",
            id="a minimum without a class",
        ),
        pytest.param(
            pod("none", annotations={"podsla.io/min-pps": "1"}),
            Reason.KEY_WITHOUT_CLASS,
            "podsla.io/min-pps has no effect without a class; add podsla.io/class, or remove it",
            id="a minimum beside the opt-out",
        ),
        pytest.param(
            pod("team-only"),
            Reason.CLASS_NOT_OPEN,
            "class 'team-only' is open to namespaces with team In edge only; ask the owner of 'test'",
            id="a class of another team",
        ),
        pytest.param(
            pod("gone"),
            Reason.CLASS_RETIRED,
            "class 'gone' takes no new pods since 2026-01-01; use 'plain'.",
            id="a retired class names its successor",
        ),
        pytest.param(
            minimum("net", pps="-1"),
            Reason.INVALID_MINIMUM,
            "podsla.io/min-pps: '-1' is negative; write 0 or more",
            id="a negative minimum",
        ),
        pytest.param(
            minimum("net", pps="NaN"),
            Reason.INVALID_MINIMUM,
            "podsla.io/min-pps: 'NaN' is not a quantity; write a number with an optional suffix, as 4, 1500M or 8Gi",
            id="NaN is no minimum",
        ),
        pytest.param(
            minimum("net", pps="1e400"),
            Reason.INVALID_MINIMUM,
            "podsla.io/min-pps: '1e400' is beyond 64 bits; the exponent may be 40 at most",
            id="1e400 is no minimum",
        ),
        pytest.param(
            minimum("net", base_mhz="2500"),
            Reason.NOT_TUNABLE,
            "class 'net' fixes cpu.baseMHz; podsla.io/min-base-mhz cannot be set; it lets tune: podsla.io/min-pps, "
            "podsla.io/min-network-bits-per-second",
            id="a dimension that the class fixes",
        ),
        pytest.param(
            minimum("net", pps="3M"),
            Reason.ABOVE_MAXIMUM,
            "podsla.io/min-pps is 3M, and class 'net' allows 2M at most; lower it, or choose a class that allows more",
            id="above the class's maximum",
        ),
        pytest.param(
            minimum("net", pps="2M"),
            Reason.NO_SIZE_FITS,
            "no size of class 'net' on target 'kubernetes' holds the pod: network.pps asks 2M, best is 1900k "
            "(s.2xlarge); what fits: network.queues 4; ask for less, or ask the owner of catalogue 'test' for more",
            id="more than nodes publish: both figures, per dimension",
        ),
        pytest.param(
            pod("gpu", container(limits={"nvidia.com/gpu": "1"}), annotations={"podsla.io/gpu": "on-demand"}),
            Reason.GPU_CONFLICT,
            "the pod holds 1 GPU for its whole life, and asks to borrow one on demand; remove the limit",
            id="a GPU for life and on demand",
        ),
        pytest.param(
            pod("gpu", annotations={"podsla.io/gpu": "yes"}),
            Reason.INVALID_MINIMUM,
            "podsla.io/gpu is 'yes'; the only value is 'on-demand'",
            id="an unknown GPU mode",
        ),
        pytest.param(
            pod("net", annotations={"podsla.io/gpu": "on-demand"}),
            Reason.NOT_TUNABLE,
            "class 'net' names no GPU to borrow; classes that do: any-gpu, borrow, gpu",
            id="a GPU of a class that has none",
        ),
        pytest.param(
            pod("vm", runtimeClassName="gvisor"),
            Reason.RUNTIME_CONFLICT,
            "the pod has runtimeClassName 'gvisor', and class 'vm' runs on 'rund'; remove it",
            id="another runtime class is never overwritten",
        ),
        pytest.param(
            pod("plain", container(requests={"cpu": "many"})),
            Reason.INVALID_POD,
            "spec.containers[0]: resources.requests.cpu: 'many' is not a quantity; write a number with an optional "
            "suffix, as 4, 1500M or 8Gi; the API server would refuse it too",
            id="a quantity that is none",
        ),
    ],
)
def test_a_pod_that_cannot_be_served_is_told_why(given: Any, reason: Reason, message: str) -> None:
    assert answer(given) == Deny(reason, message)


@pytest.mark.parametrize(
    "sizes",
    [pytest.param([], id="nothing at all"), pytest.param(catalog().sizes, id="sizes alone")],
)
def test_where_no_class_is_published_the_refusal_says_so(sizes: Sequence[SandboxSize]) -> None:
    """A cluster before its first catalogue: everything compiles, and whoever names a class is told what is missing."""
    empty = Serving(compile_index(make_catalog(sizes, []), target("kubernetes")))

    message = "class 'net' is in no catalogue; no class is published yet: see `podsla catalog apply`"
    assert admit(pod("net"), {}, empty, TODAY) == Deny(Reason.UNKNOWN_CLASS, message)
    assert admit(pod(None), {}, empty, TODAY) == Ignore(Skip.NO_CLASS)


def test_each_dimension_exists_but_no_one_size_has_all() -> None:
    result = answer(
        pod("any-gpu", container(requests={"cpu": "6"}), annotations={}),
        "{gpu: {resource: nvidia.com/gpu, modelLabel: m}, nodeTypes: [gn.xlarge, s]}",
    )

    assert isinstance(result, Deny)
    assert result.reason is Reason.NO_SIZE_FITS
    assert (
        "each alone exists, but no one size has all; s.2xlarge comes closest with gpu.count not published of 1"
        in result.message
    )


def test_the_cheapest_size_that_holds_everything_wins() -> None:
    place = sized(minimum("net", pps="1200k")).place

    assert place.choice.size.name == "s.2xlarge"
    assert place.choice.driver is not None
    assert place.choice.driver.path == "network.pps"
    assert place.choice.without_driver is not None
    assert place.choice.without_driver.name == "s.xlarge"


def test_a_minimum_below_the_floor_has_no_effect() -> None:
    low, none = sized(minimum("net", pps="5")).place, sized(pod("net")).place

    assert low.choice == none.choice
    assert low.effects == none.effects


def test_a_default_class_reaches_pods_that_name_none() -> None:
    assert sized(pod(None), labels={"podsla.io/default-class": "net"}).place.sla_class.name == "net"


def test_an_open_class_serves_the_team_that_it_is_open_to() -> None:
    assert sized(pod("team-only"), labels={"team": "edge"}).place.sla_class.name == "team-only"


def test_a_deprecated_class_warns_until_its_day() -> None:
    assert sized(pod("old")).warnings == (
        "class old is deprecated and refuses new pods from 2027-03-01; use plain. Too slow.",
    )


class TestFallback:
    """Fallbacks are tried in order, where they are open, for want of a size or a consumer."""

    given = pod("fast-or-plain", container(requests={"cpu": "6"}))

    def test_the_first_that_serves_is_recorded_and_warned_about(self) -> None:
        result = sized(self.given)

        assert result.place.sla_class.name == "plain"
        assert result.warnings == ("class 'fast-or-plain' cannot be had (NoSizeFits); fallback 'plain' serves",)
        assert '"fallbackFrom":"fast-or-plain"' in result.pod["metadata"]["annotations"]["podsla.io/record"]

    def test_the_failed_class_leaves_no_floor_behind(self) -> None:
        assert sized(self.given).place.effects.requirements == ()

    def test_one_that_is_open_comes_first(self) -> None:
        assert sized(self.given, labels={"team": "edge"}).place.sla_class.name == "team-only"

    def test_none_serves_and_each_says_why(self) -> None:
        result = answer(pod("fast-or-plain", container(requests={"cpu": "60"})))

        assert isinstance(result, Deny)
        assert result.message.endswith("fallback 'team-only': not open to this namespace; fallback 'plain': NoSizeFits")

    def test_a_conflict_is_no_reason_to_fall_back(self) -> None:
        result = answer(pod("vm", runtimeClassName="gvisor"))

        assert isinstance(result, Deny)
        assert result.reason is Reason.RUNTIME_CONFLICT


class TestConsumers:
    """Nothing is promised that nobody on this target keeps."""

    bare = "{consumers: []}"

    def test_a_floor_with_no_consumer_refuses(self) -> None:
        assert answer(pod("net"), self.bare) == Deny(
            Reason.NO_CONSUMER,
            "class 'net' promises network.pps 600k, and target 'test' has nobody to keep it; add a consumer to the "
            "target, or list it in the class's bestEffort",
        )

    def test_a_best_effort_floor_is_dropped_recorded_and_warned_about(self) -> None:
        result = sized(pod("polite"), self.bare)

        assert [d.path for d in result.place.dropped] == ["network.pps", "disk.iops"]
        assert result.place.choice.size.name == "s.large"
        assert result.warnings == (
            "network.pps is best effort and dropped: nobody keeps it on 'test'",
            "disk.iops is best effort and dropped: nobody keeps it on 'test'",
            "the class's families are not placed: no consumer publishes podsla.io/family on nodes",
        )

    def test_a_runtime_that_the_target_lacks_refuses(self) -> None:
        assert answer(pod("vm"), "calico") == Deny(
            Reason.NO_CONSUMER,
            "class 'vm' needs runtime 'rund', and target 'calico' has runc; add it to the target's runtimes",
        )

    def test_a_gpu_model_that_the_target_cannot_name_refuses(self) -> None:
        assert answer(pod("gpu"), "{gpu: {resource: g, modelLabel: m, models: {A10: [a10]}}}") == Deny(
            Reason.NO_CONSUMER,
            "class 'gpu' gives a GPU (T4), and target 'test' has no name for it; add it to the target's gpu.models",
        )

    def test_a_disk_floor_on_a_claim_is_placed_only(self) -> None:
        result = sized(pod("disk", **PVC))

        assert [str(h.state) for h in result.place.holdings if h.dimension.path == "disk.iops"] == ["placed"]
        assert result.warnings == ("volume data is a claim, on another disk than disk.iops counts",)

    def test_a_gpu_is_not_lent_where_no_node_is_shared(self) -> None:
        assert answer(pod("borrow"), "ack-eci") == Deny(
            Reason.NO_CONSUMER,
            "class 'borrow' lends GPUs of shared nodes, and target 'ack-eci' has none; name a class that gives a GPU "
            "for the life of the pod",
        )

    def test_a_size_whose_gpu_model_the_target_cannot_name_never_serves(self) -> None:
        place = sized(pod("borrow"), "{gpu: {resource: g, modelLabel: m, models: {A10: [a10]}}}").place

        assert place.choice.size.name == "gn.2xlarge"

    def test_a_daemonsets_pod_is_told_what_is_not_placed(self) -> None:
        owner = {"ownerReferences": [{"kind": "DaemonSet", "name": "d", "controller": True}]}
        result = sized(pod("fast", metadata=owner))

        assert [d.path for d in result.place.dropped] == ["cpu.baseMHz"]
        assert result.warnings == ("cpu.baseMHz is dropped: a DaemonSet's pods run on every node, whatever it has",)

    def test_limits_that_keep_a_pod_below_its_floor_are_named(self) -> None:
        result = sized(pod("floored", container(limits={"cpu": "500m", "memory": "1Gi"}, requests={"cpu": "100m"})))

        assert result.warnings == (
            "its containers' limits let the pod use vcpu 500m of the class's 2; raise them",
            "its containers' limits let the pod use memory 1Gi of the class's 4Gi; raise them",
        )


def test_a_key_among_the_labels_is_never_ignored() -> None:
    assert answer(pod(None, metadata={"labels": {"podsla.io/class": "net"}})) == Deny(
        Reason.UNKNOWN_KEY, "podsla.io/class is a label here, and has to be an annotation; move it"
    )


def test_a_gpu_asked_of_a_class_that_has_none_is_told_where_there_is_one() -> None:
    result = answer(pod("net", container(limits={"nvidia.com/gpu": "1"})))

    assert isinstance(result, Deny)
    assert (
        "it asks for a GPU, and no size of the class has one; classes with a GPU: any-gpu, borrow, gpu"
        in result.message
    )


def test_a_fallback_without_a_gpu_does_not_serve_a_pod_that_borrows_one() -> None:
    classes = """
  - {name: infer, gpu: {models: [T4], mode: on-demand}, floor: {cpu: {baseMHz: 2500}}, fallback: [plain]}
  - {name: plain}
"""
    index = compile_index(catalog(classes=classes), target("{gpu: {resource: g, modelLabel: m, models: {T4: [t4]}}}"))
    given = pod("infer", annotations={"podsla.io/gpu": "on-demand"})
    result = admit(given, {}, Serving(index), TODAY)

    assert isinstance(result, Deny)
    assert result.message.endswith("; fallback 'plain': NotTunable")


class TestReserveDefault:
    """The whole of a size where the pod has a machine of its own, what it asks where it shares one."""

    def test_a_runtime_of_the_pods_own_that_is_a_vm_counts(self) -> None:
        assert sized(pod("plain", runtimeClassName="rund")).place.reserve is Reserve.SIZE
        assert sized(pod("plain", runtimeClassName="gvisor")).place.reserve is Reserve.ASK

    def test_a_pod_without_a_runtime_class_is_in_no_vm_of_another_runtime(self) -> None:
        on = "{runtimes: {runc: {}, kata: {vmBacked: true}}}"

        assert sized(pod("plain"), on).place.reserve is Reserve.ASK

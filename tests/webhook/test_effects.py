"""What is written into pods, target by target: the traps of each consumer."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from catalog.fit import compile_index
from tests.sample import TODAY, answer, catalog, container, pod, sized, target
from webhook.admit import Serving, Sized, admit
from webhook.decision import Deny, Reason

FIRST_TERM = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")


def terms(given: Mapping[str, Any]) -> list[Any]:
    value: Any = given["spec"]
    for step in FIRST_TERM:
        value = value[step]
    return list(value)


def annotation(given: Mapping[str, Any], key: str) -> Any:
    return given["metadata"]["annotations"].get(key)


def resources(given: Mapping[str, Any], position: int = 0) -> Any:
    return given["spec"]["containers"][position].get("resources")


class TestReservations:
    """Divisible figures are integer extended resources, requests equal to limits, on the first container."""

    def test_only_what_the_class_floors_is_reserved(self) -> None:
        given = sized(pod("net", container("a"), container("b"))).pod

        assert resources(given) == {"requests": {"podsla.io/pps": "600k"}, "limits": {"podsla.io/pps": "600k"}}
        assert resources(given, 1) is None

    def test_what_the_pod_tunes_is_reserved_too(self) -> None:
        given = sized(pod("net", annotations={"podsla.io/min-network-bits-per-second": "1500M"})).pod

        assert resources(given)["requests"] == {
            "podsla.io/pps": "600k",
            "podsla.io/network-bits-per-second": "1500M",
        }

    def test_what_another_container_reserves_itself_counts(self) -> None:
        own = container("b", requests={"podsla.io/pps": "200k"}, limits={"podsla.io/pps": "200k"})

        assert resources(sized(pod("net", container("a"), own)).pod)["limits"] == {"podsla.io/pps": "400k"}

    def test_reserve_size_takes_what_a_node_of_the_size_offers(self) -> None:
        assert resources(sized(pod("whole")).pod)["limits"] == {"podsla.io/pps": "475k"}


class TestPlacement:
    """Floors that cannot be divided are node affinity: `Gt` is strict, terms are ORed."""

    def test_at_least_n_is_greater_than_n_minus_one(self) -> None:
        assert terms(sized(pod("fast")).pod) == [
            {"matchExpressions": [{"key": "podsla.io/base-mhz", "operator": "Gt", "values": ["2999"]}]}
        ]

    def test_every_term_gets_the_expression(self) -> None:
        own = [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
        ]
        affinity = {"nodeAffinity": {FIRST_TERM[2]: {"nodeSelectorTerms": own}}}
        ours = {"key": "podsla.io/base-mhz", "operator": "Gt", "values": ["2999"]}

        assert terms(sized(pod("fast", affinity=affinity)).pod) == [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}, ours]},
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}], "matchExpressions": [ours]},
        ]

    def test_an_empty_term_matches_nothing_and_stays_so(self) -> None:
        affinity: Any = {"nodeAffinity": {FIRST_TERM[2]: {"nodeSelectorTerms": [{}]}}}

        assert terms(sized(pod("fast", affinity=affinity)).pod) == [{}]

    def test_families_and_generation_are_placement(self) -> None:
        family = {"key": "podsla.io/family", "operator": "In", "values": ["s"]}

        assert family in terms(sized(pod("floored")).pod)[0]["matchExpressions"]
        assert terms(sized(pod("tolerant")).pod)[0]["matchExpressions"] == [
            {"key": "podsla.io/generation", "operator": "Gt", "values": ["6"]}
        ]

    def test_node_types_are_named_where_the_target_lists_them(self) -> None:
        on = "{nodeTypes: [s, gn.xlarge], consumers: [{by: node-labels}, {by: reservation}]}"

        assert terms(sized(pod("net"), on).pod) == [
            {
                "matchExpressions": [
                    {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["s.2xlarge", "s.xlarge"]}
                ]
            }
        ]

    def test_a_consumer_on_some_nodes_only_becomes_placement(self) -> None:
        on = "{consumers: [{by: reservation, nodes: {disk: fast}}]}"

        assert terms(sized(pod("disk"), on).pod)[0]["matchExpressions"][0] == {
            "key": "disk",
            "operator": "In",
            "values": ["fast"],
        }

    def test_a_daemonsets_pod_reserves_but_is_not_placed(self) -> None:
        owner = {"ownerReferences": [{"kind": "DaemonSet", "name": "d", "controller": True}]}
        given = sized(pod("net", metadata=owner)).pod

        assert "affinity" not in given["spec"]
        assert resources(given)["limits"] == {"podsla.io/pps": "600k"}

    def test_tolerations_are_added_where_absent(self) -> None:
        own = {"key": "x", "operator": "Exists"}
        ours = {"effect": "NoSchedule", "key": "edge", "operator": "Exists"}

        assert sized(pod("tolerant", tolerations=[own])).pod["spec"]["tolerations"] == [own, ours]
        assert sized(pod("tolerant", tolerations=[ours])).pod["spec"]["tolerations"] == [ours]


class TestBandwidth:
    """The same annotation is bits/s in Kubernetes and bytes/s on ECI."""

    given = pod("net", annotations={"podsla.io/min-network-bits-per-second": "1G"})

    @pytest.mark.parametrize(
        ("on", "text"),
        [
            pytest.param("kubernetes", "1G", id="CNI plugins read bits/s"),
            pytest.param("ack-eci", "250M", id="ECI reads bytes/s, of the whole size"),
            pytest.param("calico", None, id="a target with no limiter writes none"),
        ],
    )
    def test_each_target_reads_its_own_unit(self, on: str, text: str | None) -> None:
        given = sized(self.given, on).pod

        assert annotation(given, "kubernetes.io/egress-bandwidth") == text
        assert annotation(given, "kubernetes.io/ingress-bandwidth") == text

    def test_a_lower_limit_of_the_pod_itself_stays(self) -> None:
        result = sized(_also(self.given, {"kubernetes.io/egress-bandwidth": "10M"}))

        assert annotation(result.pod, "kubernetes.io/egress-bandwidth") == "10M"
        assert result.warnings == (
            "annotation kubernetes.io/egress-bandwidth=10M is the pod's own and stays; the class gives 1G",
        )

    def test_a_higher_limit_is_never_lowered_silently(self) -> None:
        assert answer(_also(self.given, {"kubernetes.io/egress-bandwidth": "10G"})) == Deny(
            Reason.LIMIT_CONFLICT,
            "annotation kubernetes.io/egress-bandwidth is '10G', and class 'net' gives '1G'; remove the annotation, or "
            "ask for more with a podsla.io/min- annotation",
        )

    def test_what_the_cni_plugin_would_fail_on_is_refused_here(self) -> None:
        result = answer(pod("net", annotations={"podsla.io/min-network-bits-per-second": "999"}))

        assert result == Deny(
            Reason.LIMIT_CONFLICT,
            "network.bitsPerSecond is 999, and the CNI plugin limits 1000 to 1000000000000000 only; ask within that",
        )


def _also(given: Mapping[str, Any], annotations: dict[str, str]) -> Any:
    metadata = given["metadata"]
    return {**given, "metadata": {**metadata, "annotations": {**metadata["annotations"], **annotations}}}


class TestOtherConsumers:
    """Calico, Koordinator, ECI."""

    @pytest.mark.parametrize(
        ("direction", "rate"),
        [pytest.param("each", "600000", id="each may use all"), pytest.param("split", "300000", id="halved")],
    )
    def test_calico_limits_packets_per_direction(self, direction: str, rate: str) -> None:
        calico = f"{{by: calico-packet-rate, direction: {direction}}}"
        on = f"{{consumers: [{{by: node-labels}}, {{by: reservation}}, {calico}]}}"
        given = sized(pod("net"), on).pod

        assert annotation(given, "qos.projectcalico.org/ingressPacketRate") == rate
        assert annotation(given, "qos.projectcalico.org/egressPacketRate") == rate

    def test_koordinator_limits_the_node_disk(self) -> None:
        given = sized(pod("disk"), "koordinator").pod

        assert json.loads(annotation(given, "koordinator.sh/blkioQOS")) == {
            "blocks": [{"name": "/dev/vdb", "type": "device", "ioCfg": {"readIOPS": 20000, "writeIOPS": 20000}}]
        }

    def test_eci_is_told_up_to_five_sizes_that_hold_the_ask(self) -> None:
        assert annotation(sized(pod("net"), "ack-eci").pod, "k8s.aliyun.com/eci-use-specs") == "s.xlarge,s.2xlarge"

    def test_eci_sizes_with_and_without_gpu_are_never_mixed(self) -> None:
        specs = annotation(
            sized(pod("plain", container(requests={"cpu": "4"})), "ack-eci").pod, "k8s.aliyun.com/eci-use-specs"
        )

        assert specs == "s.xlarge,hf.xlarge,s.2xlarge"

    def test_eci_sizes_with_and_without_local_disks_are_never_mixed(self) -> None:
        sizes = """
  - {name: i3.large, vcpu: "2", memory: 4Gi, localDisk: true, cost: 3}
  - {name: i3.xlarge, vcpu: "4", memory: 8Gi, localDisk: true}
  - {name: c6.large, vcpu: "2", memory: 4Gi}
  - {name: c6.xlarge, vcpu: "4", memory: 8Gi}
"""
        served = Serving(compile_index(catalog(sizes, "\n  - {name: plain}\n"), target("ack-eci")))
        result = admit(pod("plain"), {}, served, TODAY)

        assert isinstance(result, Sized)
        assert annotation(result.pod, "k8s.aliyun.com/eci-use-specs") == "c6.large,c6.xlarge"

    def test_eci_reads_no_resources_so_none_are_written(self) -> None:
        given = sized(pod("whole"), "ack-eci").pod

        assert resources(given) is None
        assert "resources" not in given["spec"]


class TestGpu:
    """A class gives GPUs by count and model; on demand it gives a place, and no GPU."""

    def test_a_pod_without_a_gpu_gets_the_classs(self) -> None:
        given = sized(pod("gpu")).pod

        assert resources(given)["limits"] == {"nvidia.com/gpu": "1"}
        assert terms(given)[0]["matchExpressions"] == [
            {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["Tesla-T4"]}
        ]

    def test_its_own_gpu_is_kept(self) -> None:
        own = {"nvidia.com/gpu": 2}
        given = sized(pod("any-gpu", container(requests=own, limits=own))).pod

        assert resources(given) == {"requests": own, "limits": own}

    def test_fewer_than_the_class_gives_is_a_conflict(self) -> None:
        on = "{gpu: {resource: g, modelLabel: m, models: {T4: [t4]}}}"

        assert not isinstance(answer(pod("gpu", container(limits={"g": "1"})), on), Deny)

    def test_on_demand_adds_the_place_and_a_seat(self) -> None:
        given = sized(pod("borrow")).pod

        assert resources(given)["limits"] == {"podsla.io/gpu-seats": "1"}
        assert terms(given)[0]["matchExpressions"][0]["values"] == ["NVIDIA-A10", "Tesla-T4"]
        assert annotation(given, "cluster-autoscaler.kubernetes.io/safe-to-evict") == "false"
        assert annotation(given, "karpenter.sh/do-not-disrupt") == "true"

    def test_autoscalers_may_evict_who_borrows_where_the_class_says_so(self) -> None:
        """It gets the same place and seat."""
        classes = "\n  - {name: borrow, gpu: {models: [T4, A10], mode: on-demand, evictable: true}}\n"
        other = Serving(compile_index(catalog(classes=classes), target("kubernetes")))
        guarded, result = sized(pod("borrow")).pod, admit(pod("borrow"), {}, other, TODAY)
        assert isinstance(result, Sized)
        given = result.pod
        guards = {"cluster-autoscaler.kubernetes.io/safe-to-evict", "karpenter.sh/do-not-disrupt"}

        assert guards - guarded["metadata"]["annotations"].keys() == set()
        assert guards & given["metadata"]["annotations"].keys() == set()
        assert given["spec"] == guarded["spec"]


class TestRuntime:
    """A runtime class is set where absent; overhead is the API server's to fill in."""

    def test_it_is_set_and_overhead_is_not(self) -> None:
        spec = sized(pod("vm")).pod["spec"]

        assert spec["runtimeClassName"] == "rund"
        assert "overhead" not in spec

    def test_a_vm_gets_the_whole_size_less_what_it_costs_itself(self) -> None:
        assert sized(pod("vm")).pod["spec"]["resources"]["limits"] == {"cpu": "1650m", "memory": "2912Mi"}

    def test_overhead_that_is_filled_in_later_changes_nothing(self) -> None:
        first = sized(pod("vm")).pod
        filled = {**first, "spec": {**first["spec"], "overhead": {"cpu": "250m", "memory": "160Mi"}}}

        assert sized(filled).patch == ()


def test_the_record_says_what_was_decided() -> None:
    given = sized(pod("net", annotations={"podsla.io/min-pps": "1200k"})).pod

    record = json.loads(annotation(given, "podsla.io/record"))
    assert given["metadata"]["labels"] == {"podsla.io/size": "s.2xlarge"}
    assert {key: record[key] for key in record if key not in ("revision", "input")} == {
        "version": 1,
        "catalog": "test",
        "class": "net",
        "size": "s.2xlarge",
        "reserve": "ask",
        "dimensions": {
            "network.pps": {"ask": "1200k", "kept": "1200k", "offer": "1900k", "state": "reserved"},
            "network.queues": {"ask": "4", "kept": "4", "offer": "8", "state": "placed"},
        },
        "driver": {"dimension": "network.pps", "without": "s.xlarge"},
        "nextSmaller": {"size": "s.xlarge", "offers": {"network.pps": "950k"}},
    }


def test_of_cpu_and_memory_the_request_is_reserved_though_the_size_holds_the_limit() -> None:
    given = sized(pod("plain", container(requests={"memory": "1Gi"}, limits={"memory": "6Gi"}))).pod

    memory = json.loads(annotation(given, "podsla.io/record"))["dimensions"]["memory"]
    assert memory == {"ask": "6Gi", "kept": "1Gi", "offer": "7Gi", "state": "reserved"}


def test_virtual_nodes_tolerate_their_taint() -> None:
    assert sized(pod("plain"), "ack-eci").pod["spec"]["tolerations"] == [
        {"effect": "NoSchedule", "key": "virtual-kubelet.io/provider", "operator": "Exists"}
    ]


def test_annotations_are_no_longer_than_what_the_api_server_takes() -> None:
    many = [container(f"c{i}", requests={"cpu": "1m"}) for i in range(200)]

    assert len(annotation(sized(pod("plain", *many)).pod, "podsla.io/record")) < 100_000

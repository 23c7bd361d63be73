"""A small catalogue and helpers that many tests share."""

from collections.abc import Mapping
from datetime import date
from functools import cache
from typing import Any

from catalog.fit import Index, compile_index
from catalog.load import load_target
from catalog.model import Catalog
from catalog.reader import read_catalog
from catalog.target import Target
from catalog.target_reader import read_target
from catalog.yamltext import parse_documents
from webhook.admit import Answer, Serving, Sized, admit

TODAY = date(2026, 11, 23)

SIZES = """
  - {name: s.large, family: s, generation: 7, vcpu: "2", memory: 4Gi, cpu: {baseMHz: 2700}, network: {pps: 500k, queues: 2, bitsPerSecond: 1G}, disk: {iops: 10k, bytesPerSecond: 100M}}
  - {name: s.xlarge, family: s, generation: 7, vcpu: "4", memory: 8Gi, cpu: {baseMHz: 2700}, network: {pps: 1M, queues: 4, bitsPerSecond: 2G}, disk: {iops: 30k, bytesPerSecond: 200M}}
  - {name: s.2xlarge, family: s, generation: 7, vcpu: "8", memory: 16Gi, cpu: {baseMHz: 2700}, network: {pps: 2M, queues: 8, bitsPerSecond: 4G}, disk: {iops: 60k, bytesPerSecond: 400M}}
  - {name: hf.xlarge, family: hf, generation: 8, vcpu: "4", memory: 8Gi, cpu: {baseMHz: 3300}, network: {pps: 1M, queues: 4}, cost: 5}
  - {name: gn.xlarge, family: gn, generation: 7, vcpu: "4", memory: 16Gi, cpu: {baseMHz: 2500}, gpu: {model: T4, count: 1}, cost: 36}
  - {name: gn.2xlarge, family: gn, generation: 7, vcpu: "8", memory: 32Gi, cpu: {baseMHz: 2500}, gpu: {model: A10, count: 2}, cost: 72}
"""  # noqa: E501

CLASSES = """
  - {name: plain, description: Anything.}
  - {name: net, floor: {network: {pps: 600k, queues: 4}}, sizes: {families: [s]}, tunable: {network.pps: {max: 2M}, network.bitsPerSecond: }}
  - {name: disk, floor: {disk: {iops: 20k}}, sizes: {families: [s]}, tunable: {disk.bytesPerSecond: {max: 300M}}}
  - {name: fast, floor: {cpu: {baseMHz: 3000}}}
  - {name: fast-or-plain, floor: {cpu: {baseMHz: 3000}, vcpu: "2"}, sizes: {families: [hf]}, fallback: [team-only, plain]}
  - {name: floored, floor: {vcpu: "2", memory: 4Gi}, sizes: {families: [s]}}
  - {name: whole, reserve: size, sizes: {families: [s]}, floor: {network: {pps: 100k}}}
  - {name: vm, runtime: rund, sizes: {families: [s]}}
  - {name: team-only, namespaces: {matchLabels: {team: edge}}}
  - {name: old, deprecated: {message: Too slow., replacedBy: plain, refuseFrom: 2027-03-01}}
  - {name: gone, deprecated: {replacedBy: plain, refuseFrom: 2026-01-01}}
  - {name: gpu, gpu: {models: [T4], count: 1}}
  - {name: any-gpu, gpu: {count: 1}}
  - {name: borrow, gpu: {models: [T4, A10], mode: on-demand}}
  - {name: tolerant, tolerations: [{key: edge, operator: Exists, effect: NoSchedule}], sizes: {minGeneration: 7}}
  - {name: polite, floor: {network: {pps: 100k}, disk: {iops: 5k}}, sizes: {families: [s]}, bestEffort: [network.pps, disk.iops]}
"""  # noqa: E501


@cache
def catalog(sizes: str = SIZES, classes: str = CLASSES) -> Catalog:
    """Read the small catalogue, or one with other sizes or classes."""
    head = "apiVersion: podsla.io/v1beta1\nkind: SpecCatalog\nmetadata: {name: test}\nspec:\n"
    return read_catalog(parse_documents(f"{head}  sizes:{sizes}  classes:{classes}", "test.yaml"))


@cache
def target(spec: str) -> Target:
    """Read a target from the text of its spec, or load a shipped one by name."""
    if ":" not in spec:
        return load_target(spec)
    head = "apiVersion: podsla.io/v1beta1\nkind: Target\nmetadata: {name: test}\n"
    return read_target(parse_documents(f"{head}spec: {spec}", "target.yaml"))


@cache
def index(on: str = "kubernetes") -> Index:
    """Compile the small catalogue."""
    return compile_index(catalog(), target(on))


def pod(class_name: str | None = "plain", *containers: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """Build a pod of a class; one empty container where none is given. Annotations go in as `annotations`."""
    annotations = {**({"podsla.io/class": class_name} if class_name is not None else {}), **spec.pop("annotations", {})}
    metadata = {"name": "p", "annotations": annotations, **spec.pop("metadata", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": list(containers) or [container()], **spec},
    }


def container(name: str = "app", requests: Any = None, limits: Any = None, **fields: Any) -> dict[str, Any]:
    """Build a container; resources only where given."""
    resources = {key: value for key, value in (("requests", requests), ("limits", limits)) if value is not None}
    return {"name": name, "image": "x", **({"resources": resources} if resources else {}), **fields}


def answer(given: Mapping[str, Any], on: str = "kubernetes", labels: Mapping[str, str] | None = None) -> Answer:
    """Admit a pod on a target."""
    return admit(given, labels or {}, Serving(index(on)), TODAY)


def sized(given: Mapping[str, Any], on: str = "kubernetes", labels: Mapping[str, str] | None = None) -> Sized:
    """Admit a pod that must get a size."""
    result = answer(given, on, labels)
    assert isinstance(result, Sized), result
    return result

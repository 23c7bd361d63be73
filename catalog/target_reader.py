"""The target as it is written → `Target`, or every problem that keeps it from being one. Pure."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from catalog.dimension import BY_PATH, TUNABLE
from catalog.keys import DOMAIN, ISTIO_INJECT, LINKERD_INJECT
from catalog.model import Requirement, read_tolerations
from catalog.problems import InvalidError, Problem, nearest
from catalog.schema import (
    API_VERSION,
    DIMENSION_PATH,
    LABEL_VALUE,
    TOLERATIONS,
    Rules,
    cpu,
    flag,
    integer,
    keyed,
    many,
    mapping,
    name,
    one,
    text,
    validate,
    whole,
)
from catalog.target import (
    CAN_HOLD,
    NVIDIA,
    Consumer,
    Direction,
    KarpenterExport,
    Libraries,
    Mechanism,
    Metadata,
    Resources,
    Runtime,
    Target,
    TargetGpu,
)
from catalog.yamltext import Document, parse_documents

_OVERHEAD: Final = one({"vcpu": cpu(), "memory": integer()}, default={})

TARGET: Final = Rules(
    {
        "apiVersion": text(required=True, allowed=[API_VERSION]),
        "kind": text(required=True, allowed=["Target"]),
        "metadata": one({"name": name(required=True)}, required=True, allow_unknown=True),
        "spec": one(
            {
                "description": text(default=""),
                "nodeTypes": many(text(), 1024, default=[]),
                "nodeOverhead": _OVERHEAD,
                "capacityPercent": integer(default=95, max=100),
                "resources": text(allowed=[r.value for r in Resources], default=Resources.POD.value),
                "virtualNodes": flag(default=False),
                "tolerations": TOLERATIONS,
                "autoscaler": one(
                    {"karpenter": flag(default=False), "price": flag(), "weight": whole(min=1, max=10000)}, default={}
                ),
                "consumers": many(
                    one(
                        {
                            "by": text(required=True, allowed=[m.value for m in Mechanism]),
                            "dimensions": many(DIMENSION_PATH, len(TUNABLE)),
                            "nodes": mapping(text(), default={}),
                            "direction": text(allowed=[d.value for d in Direction], default=Direction.EACH.value),
                            "device": text(),
                        }
                    ),
                    32,
                    default=[],
                ),
                "runtimes": mapping(
                    one(
                        {"runtimeClassName": text(), "vmBacked": flag(default=False), "overhead": _OVERHEAD},
                        nullable=True,
                    ),
                    default={"runc": {}},
                ),
                "gpu": one(
                    {
                        "resource": text(required=True),
                        "modelLabel": text(required=True),
                        "models": mapping(many(text(), 32), default={}),
                        "seatsPerGPUPercent": integer(default=140),
                        "gpuLibraries": text(allowed=[one.value for one in Libraries]),
                        "runtimeClassName": text(),
                        "phaseImage": text(empty=False),
                        "placeholderMetadata": one(
                            {
                                "labels": keyed(text(regex=LABEL_VALUE), 32, default={}),
                                "annotations": keyed(text(maxlength=1024), 32, default={}),
                            }
                        ),
                    }
                ),
            },
            required=True,
        ),
    }
)


def read_target(documents: Sequence[Document]) -> Target:
    """
    Read a target.

    Raises:
        InvalidError: It is not exactly one document, or the document is wrong.
    """
    if len(documents) != 1:
        raise InvalidError(
            [Problem("target", 0, "", f"is {len(documents)} documents; a cluster has exactly one target")]
        )
    document = documents[0]
    data, problems = validate(document, TARGET)
    if data is None:
        raise InvalidError(problems)
    spec = data["spec"]
    problems += _check_consumers(document, spec["consumers"])
    problems += _check_gpu(document, spec.get("gpu", {}))
    problems += _check_autoscaler(document, spec["autoscaler"], virtual_nodes=spec["virtualNodes"])
    if problems:
        raise InvalidError(problems)
    overhead = spec["nodeOverhead"]
    return Target(
        name=data["metadata"]["name"],
        description=spec["description"],
        node_types=tuple(sorted(spec["nodeTypes"])),
        overhead_cpu_m=overhead.get("vcpu", 0),
        overhead_memory_bytes=overhead.get("memory", 0),
        capacity_percent=spec["capacityPercent"],
        resources=Resources(spec["resources"]),
        virtual_nodes=spec["virtualNodes"],
        tolerations=read_tolerations(spec["tolerations"]),
        consumers=tuple(_read_consumer(fields) for fields in spec["consumers"]),
        runtimes=tuple(_read_runtime(key, fields or {}) for key, fields in sorted(spec["runtimes"].items())),
        gpu=_read_gpu(spec["gpu"]) if "gpu" in spec else None,
        karpenter=_read_karpenter(spec["autoscaler"]),
    )


@lru_cache(maxsize=8)
def asks_karpenter(text: str) -> bool:
    """Tell whether the text of a target asks that overlays are kept; one that cannot be read does not."""
    try:
        return read_target(parse_documents(text, "target")).karpenter is not None
    except InvalidError:
        return False


def _check_autoscaler(document: Document, fields: Mapping[str, Any], *, virtual_nodes: bool) -> list[Problem]:
    asked, path = fields.get("karpenter", False), ("spec", "autoscaler")
    if asked and virtual_nodes:
        message = "is true with virtualNodes, whose nodes no autoscaler adds; take one of them away"
        return [document.problem((*path, "karpenter"), message)]
    idle = [] if asked else [key for key in ("price", "weight") if key in fields]
    message = "is for Karpenter alone, which nothing is exported to; write karpenter: true beside it, or take it away"
    return [document.problem((*path, key), message) for key in idle]


def _check_gpu(document: Document, fields: Mapping[str, Any]) -> list[Problem]:
    own = [
        (group, key)
        for group, texts in fields.get("placeholderMetadata", {}).items()
        for key in texts
        if key.startswith(DOMAIN) or key in (ISTIO_INJECT, LINKERD_INJECT)
    ]
    message = "is podsla's own to write on the pods that reserve GPUs; take it away"
    problems = [document.problem(("spec", "gpu", "placeholderMetadata", group, key), message) for group, key in own]
    if "runtimeClassName" in fields and fields.get("gpuLibraries") != Libraries.RUNTIME_CLASS:
        message = "is for gpuLibraries: runtimeClass alone; write that beside it, or take it away"
        problems.append(document.problem(("spec", "gpu", "runtimeClassName"), message))
    return problems


def _check_consumers(document: Document, consumers: Sequence[Mapping[str, Any]]) -> list[Problem]:
    problems = []
    for index, fields in enumerate(consumers):
        mechanism = Mechanism(fields["by"])
        can = [d.path for d in CAN_HOLD[mechanism]]
        for path in fields.get("dimensions", ()):
            if path not in can:
                message = f"{path} is nothing that {mechanism} can hold; {nearest(path, can)}"
                problems.append(document.problem(("spec", "consumers", index, "dimensions"), message))
        if mechanism is Mechanism.KOORDINATOR_BLKIO and "device" not in fields:
            message = "is missing; name the block device that holds pods' files, as /dev/vdb"
            problems.append(document.problem(("spec", "consumers", index, "device"), message))
    return problems


def _read_consumer(fields: Mapping[str, Any]) -> Consumer:
    mechanism = Mechanism(fields["by"])
    return Consumer(
        by=mechanism,
        dimensions=tuple(BY_PATH[path] for path in fields.get("dimensions", [d.path for d in CAN_HOLD[mechanism]])),
        nodes=tuple(Requirement(key, "In", (value,)) for key, value in sorted(fields["nodes"].items())),
        direction=Direction(fields["direction"]),
        device=fields.get("device", ""),
    )


def _read_karpenter(fields: Mapping[str, Any]) -> KarpenterExport | None:
    return KarpenterExport(fields.get("price", False), fields.get("weight")) if fields.get("karpenter") else None


def _read_runtime(key: str, fields: Mapping[str, Any]) -> Runtime:
    overhead = fields.get("overhead", {})
    return Runtime(
        name=key,
        runtime_class=fields.get("runtimeClassName"),
        vm_backed=fields.get("vmBacked", False),
        overhead_cpu_m=overhead.get("vcpu", 0),
        overhead_memory_bytes=overhead.get("memory", 0),
    )


def _read_gpu(fields: Mapping[str, Any]) -> TargetGpu:
    models = tuple((model, tuple(spellings)) for model, spellings in sorted(fields["models"].items()))
    metadata = fields.get("placeholderMetadata", {"labels": {}, "annotations": {}})
    return TargetGpu(
        resource=fields["resource"],
        model_label=fields["modelLabel"],
        models=models,
        seats_percent=fields["seatsPerGPUPercent"],
        libraries=Libraries(fields["gpuLibraries"]) if "gpuLibraries" in fields else None,
        runtime_class=fields.get("runtimeClassName", NVIDIA),
        phase_image=fields.get("phaseImage"),
        placeholder_metadata=Metadata(*(tuple(sorted(metadata[group].items())) for group in ("labels", "annotations"))),
    )

"""The real case of an edit: figures of ECS sizes as published in 2021-07 and as published in 2025-26."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from catalog.importers.ecs import import_ecs
from catalog.model import Catalog
from catalog.reader import read_catalog
from catalog.yamltext import Document, parse_documents

CLASSES = """
apiVersion: podsla.io/v1beta1
kind: SpecCatalog
metadata: {name: platform}
spec:
  classes:
  - name: net-intensive
    description: Packet-heavy services.
    floor: {network: {pps: 600000, queues: 2}}
    sizes: {families: [ecs.g7, ecs.g7ne]}
    tunable: {network.pps: {}, network.queues: {}}
  - name: net-gpu
    description: Inference behind a busy network.
    floor: {network: {pps: 400000}}
    gpu: {models: [T4]}
    tunable: {network.pps: {}}
  - name: training
    description: Whole machines for training.
    gpu: {models: [A100], count: 8}
"""


def drifted(shared_data: Path) -> tuple[Catalog, Catalog]:
    """Read the catalogue of every size that the drift names, before and after, with the classes above."""
    before, after = (Document(sizes, "ecs.csv", {}) for sizes in drifted_sizes(shared_data))
    classes = parse_documents(CLASSES, "classes.yaml")
    return read_catalog([before, *classes]), read_catalog([after, *classes])


def drifted_sizes(shared_data: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a SpecCatalog of every size that the drift names, before and after."""
    with (shared_data / "catalogs" / "ecs-figure-drift.csv").open(newline="") as stream:
        drift = list(csv.DictReader(stream))
    named = {change["size"] for change in drift}
    with (shared_data / "catalogs" / "ecs-instance-types.csv").open(newline="") as stream:
        rows = {row["size"]: row for row in csv.DictReader(stream) if row["size"] in named}
    return _sizes(rows, drift, "value_2021_07"), _sizes(rows, drift, "value_2025_26")


def _sizes(rows: Mapping[str, Mapping[str, str]], drift: Iterable[Mapping[str, str]], column: str) -> dict[str, Any]:
    edited = {size: dict(row) for size, row in rows.items()}
    for change in drift:
        if change[column] == "absent":
            del edited[change["size"]]
        elif change["column"] != "(row)":
            edited[change["size"]][change["column"]] = change[column]
    return import_ecs(edited.values(), "ecs")

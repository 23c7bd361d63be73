"""`podsla classes` and `podsla targets`: what pods may ask for, and what clusters may have."""

from collections.abc import Sequence
from typing import Any

import click

from catalog.check import allows
from catalog.dimension import GPU_COUNT
from catalog.fit import Index
from catalog.load import load_target, read_text, shipped_targets
from catalog.model import SlaClass
from catalog.problems import nearest
from podsla import completing
from podsla.basis import Source, find_basis, source_options
from podsla.options import output_option
from podsla.output import print_table, print_value, say
from podsla.summary import floor_text


@click.command("classes")
@click.argument("names", nargs=-1, shell_complete=completing.classes)
@source_options(pods=False)
@output_option("table", "wide", "json", "yaml", default="table")
def classes_command(names: Sequence[str], source: Source, form: str) -> None:
    """List the SLA classes that a pod may name, or show some.

    Where a cluster is named (--kubeconfig, --context, KUBECONFIG, ~/.kube/config), those that it serves; with --catalog
    or --target, and where none is named, those of files.

    \b
      podsla classes
      podsla classes net-intensive -o yaml
      podsla classes --catalog ecs --catalog platform.yaml
    """
    basis = find_basis(source)
    index = basis.serving.index
    for name in names:
        if name not in index.catalog.classes:
            raise click.UsageError(f"class {name!r} is in no catalogue; {nearest(name, index.catalog.classes)}")
    basis.announce()
    rows = [describe(index, index.catalog.classes[name]) for name in names or index.catalog.classes]
    if form in ("json", "yaml"):
        print_value(rows[0] if len(names) == 1 else rows, form)
        return
    columns = ["name", "floor", "smallest", "sizes", "description"]
    wide = ["name", "catalog", "floor", "tunable", "reserve", "fallback", "smallest", "sizes", "description"]
    shown = wide if form == "wide" else columns
    print_table(shown, [[_text(row[column]) for column in shown] for row in rows])


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def describe(index: Index, sla_class: SlaClass) -> dict[str, Any]:
    """Describe a class as plain values, with the cheapest size that keeps its floor here."""
    ask = list(sla_class.floor)
    ask[GPU_COUNT.index] = sla_class.gpu.count if sla_class.gpu else 0
    choice = index.choose(sla_class, tuple(ask))
    return {
        "name": sla_class.name,
        "catalog": sla_class.catalog,
        "description": sla_class.description,
        "floor": floor_text(sla_class),
        "tunable": [f"{d.min_key} up to {d.render(m) if m else 'any'}" for d, m in sla_class.tunable],
        "reserve": sla_class.reserve.value if sla_class.reserve else "by target",
        "bestEffort": [d.path for d in sla_class.best_effort],
        "fallback": list(sla_class.fallback),
        "smallest": choice.size.name if choice else "none here",
        "sizes": sum(allows(sla_class, size) for size, _ in index.sizes_of(sla_class)),
        "deprecated": sla_class.deprecated.message if sla_class.deprecated else None,
    }


@click.command("targets")
@click.argument("name", required=False, type=click.Choice(list(shipped_targets())))
@output_option("table", "json", "yaml", default="table")
def targets_command(name: str | None, form: str) -> None:
    """List the shipped targets: what a cluster has that keeps promises. With NAME, print that target's file.

    \b
      podsla targets
      podsla targets kubernetes > my-cluster.yaml    # every field is explained there
    """
    if name is not None:
        say(read_text(shipped_targets()[name]).rstrip())
        return
    rows = []
    for shipped in shipped_targets():
        target = load_target(shipped)
        consumers = [f"{c.by.value}: {', '.join(d.path for d in c.dimensions)}" for c in target.consumers]
        rows.append({"name": shipped, "description": target.description, "consumers": consumers})
    if form != "table":
        print_value(rows, form)
        return
    for row in rows:
        say(f"{row['name']}: {row['description']}", style="bold")
        for consumer in row["consumers"]:
            say(f"  {consumer}")

"""`podsla gpu budget`: GPU-minutes that namespaces have held today, and may hold."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from attach.budget import KEY, LEDGER, Ledger, day_of, read_ledger, used_s
from catalog.model import Catalog
from podsla.options import home_option, output_option, reach_options
from podsla.output import ClusterError, note, print_table, print_value, say


@click.command("budget")
@reach_options
@home_option
@output_option("table", "json", "yaml", default="table")
def budget_command(kubeconfig: Path | None, context: str | None, home: str, form: str) -> None:
    """Show how many GPU-minutes each namespace has held today, and how many it may hold.

    The day is that of UTC. Of a GPU that is held now, the last minute may not be noted yet. "!" marks a budget that is
    used up: what that namespace asks waits for the next day.

    \b
      podsla gpu budget
      podsla gpu budget -o json
    """
    from kube.kinds import CONFIG_MAPS, NAMESPACES
    from podsla.cluster import connect, told

    reader = connect(kubeconfig, context, None, home)
    with told():
        namespaces, thing, served = reader.all(
            lambda: reader.read(NAMESPACES), lambda: reader.api.get(CONFIG_MAPS, LEDGER, home), reader.served
        )
    try:
        ledger = read_ledger((thing or {}).get("data", {}).get(KEY, ""))
    except ValueError as error:
        raise ClusterError(f"ConfigMap {LEDGER} in namespace {home} cannot be read: {error}") from None
    found = rows(namespaces, served.catalog, ledger, day_of(time.time()))
    if form != "table":
        print_value(found, form)
    elif found:
        print_table(("namespace", "used", "budget"), [_cells(row) for row in found])
    else:
        say("no namespace has a budget of GPU-minutes, and none has held a GPU today")
    if thing is None:
        note(f"there is no ConfigMap {LEDGER} in namespace {home}; apply the manifests again", style="warn")


def rows(namespaces: Iterable[Mapping[str, Any]], catalog: Catalog, ledger: Ledger, day: str) -> list[dict[str, Any]]:
    """Say of every namespace that has a budget, or has held a GPU, how it stands; by name. Whole minutes."""
    labels = {thing["metadata"]["name"]: thing["metadata"].get("labels") or {} for thing in namespaces}
    today = ledger if ledger.day == day else Ledger()
    found = []
    for name in sorted(labels.keys() | today.held.keys()):
        used, budget = used_s(today, name) // 60, catalog.gpu_minutes(labels.get(name, {}))
        if budget is not None or name in today.held:
            found.append({"namespace": name, "usedMinutes": used, "minutesPerDay": budget})
    return found


def _cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    used, budget = row["usedMinutes"], row["minutesPerDay"]
    spent = "!" if budget is not None and used >= budget else ""
    return row["namespace"], f"{used} min{spent}", "none" if budget is None else f"{budget} min"

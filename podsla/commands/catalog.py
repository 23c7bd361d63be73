"""`podsla catalog …`: check, show, import and export catalogues."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import click

from catalog.dimension import DIMENSIONS, render
from catalog.importers import IMPORTERS, render_catalog
from catalog.lint import Severity, lint
from catalog.load import load_target, read_text, target_documents
from catalog.model import SandboxSize
from catalog.problems import InvalidError, nearest
from catalog.reader import read_catalog
from catalog.target_reader import read_target
from nodes.export import Provider, cluster_autoscaler, karpenter
from nodes.offer import UnknownSizeError, offers
from podsla.files import read_catalogs, read_documents
from podsla.options import catalog_options, output_option, target_option
from podsla.output import REFUSED, note, print_json, print_table, print_value, print_yaml, say
from podsla.reports import Entry, junit, of_findings, of_problems, sarif
from podsla.summary import counted, size_fields


@click.command("lint")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@target_option
@output_option("table", "json", "yaml", "junit", "sarif", default="table")
def lint_command(files: Sequence[str], target: str, form: str) -> None:
    """Check catalogue files, alone and against a target.

    Without FILE, checks the shipped catalogues. Files are read together: classes may use sizes of another file, so name
    every file that is served with them (`ecs` names the shipped sizes).

    Exit code 3: a file cannot be used; its problems go to standard error, and into the report of every form but table.
    1: a class would refuse every pod on this target. 0: no errors; there may be warnings.

    \b
      podsla catalog lint ecs platform.yaml --target my-cluster.yaml
      podsla catalog lint ecs platform.yaml -o junit > report.xml
      podsla catalog lint ecs platform.yaml -o sarif > report.sarif
    """
    try:
        documents, of_target = read_documents(files), target_documents(target)
        catalog, loaded = read_catalog(documents), read_target(of_target)
    except InvalidError as error:
        if form != "table":
            _print_entries(of_problems(error.problems), target, form)
        raise  # the problems go to standard error in every form
    findings = lint(catalog, loaded)
    errors = sum(f.severity is Severity.ERROR for f in findings)
    if form == "table":
        for finding in findings:
            say(str(finding), style="bad" if finding.severity is Severity.ERROR else "warn")
        head = (
            f"{counted(len(catalog.sizes), 'size')}, {counted(len(catalog.classes), 'class')} on target {loaded.name}"
        )
        found = f"{counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}"
        say(f"{head}: {found}", style="bad" if errors else "good")
        say(f"revision {catalog.revision}", style="dim")
    else:
        _print_entries(of_findings(findings, [*documents, *of_target]), loaded.name, form)
    if errors:
        raise click.exceptions.Exit(REFUSED)


def _print_entries(entries: Sequence[Entry], target: str, form: str) -> None:
    match form:
        case "junit":
            say(junit(f"podsla catalog lint on {target}", entries))
        case "sarif":
            print_json(sarif(version("podsla"), target, entries))
        case _:
            print_value([{**asdict(entry), "severity": entry.severity.value} for entry in entries], form)


@click.command("show")
@click.argument("names", nargs=-1, metavar="[SIZE|FAMILY]...")
@click.option("--catalog", "catalogs", multiple=True, metavar="NAME|FILE", help="Default: all shipped ones.")
@click.option("--offers", "on", metavar="NAME|FILE", help="Show what nodes offer on this target.")
@output_option("table", "json", "yaml", default="table")
def show_command(names: Sequence[str], catalogs: Sequence[str], on: str | None, form: str) -> None:
    """Show sandbox sizes: all, or those of the named sizes and families.

    \b
      podsla catalog show ecs.c7
      podsla catalog show ecs.c7.xlarge -o yaml
      podsla catalog show ecs.c7 --offers kubernetes
    """
    catalog = read_catalogs(catalogs)
    known = {name for size in catalog.sizes for name in (size.name, size.family)}
    for name in names:
        if name not in known:
            raise click.UsageError(f"{name!r} is no size and no family; {nearest(name, known)}")
    sizes = [s for s in catalog.sizes if not names or s.name in names or s.family in names]
    if form != "table":
        print_value([size_fields(size) for size in sizes], form)
        return
    target = load_target(on) if on else None
    rows = [[s.name, *_figures(s, target.offer(s) if target else s.figures), _gpu(s)] for s in sizes]
    print_table(["name", *(d.path for d in DIMENSIONS[:-1]), "gpu"], rows)


def _figures(size: SandboxSize, figures: Sequence[int | None]) -> list[str]:
    return ["-" if figures[d.index] is None else render(d, figures[d.index]) for d in DIMENSIONS[:-1]]


def _gpu(size: SandboxSize) -> str:
    if size.gpu is None:
        return "-"
    return f"{size.gpu.share or size.gpu_count} x {size.gpu.model or 'model not published'}"


@click.command("import")
@click.argument("source", type=click.Choice(sorted(IMPORTERS)))
@click.argument("file", metavar="FILE.csv")
@click.option("--name", help="The catalogue's name; the source's by default.")
def import_command(source: str, file: str, name: str | None) -> None:
    """Make a catalogue of a table of published figures.

    The CSV's columns are described in the README. Prints YAML, a line per size; redirect it into a file.

    \b
      podsla catalog import ecs ecs-instance-types.csv > ecs.yaml
    """
    importer = IMPORTERS[source]
    rows = csv.DictReader(io.StringIO(read_text(Path(file))))
    document = importer.read(rows, name or source, file)
    click.echo(render_catalog(document, importer.header), nl=False)


@click.command("export")
@click.argument("autoscaler", type=click.Choice(["karpenter", "cluster-autoscaler"]))
@click.argument("names", nargs=-1, metavar="[SIZE|FAMILY]...")
@catalog_options
@click.option(
    "--provider",
    type=click.Choice([p.value for p in Provider]),
    default=Provider.AWS.value,
    show_default=True,
    help="Whose cluster-autoscaler reads the tags.",
)
@click.option("--price", is_flag=True, help="karpenter: write cost ranks as prices.")
@click.option("--weight", type=click.IntRange(1, 10_000), help="karpenter: the higher wins over other overlays.")
@click.option(
    "--startup-taint",
    is_flag=True,
    help="cluster-autoscaler: no pods before capacity stands; needs manifests/components/cluster-autoscaler.",
)
@output_option("yaml", "json", default="yaml")
def export_command(
    autoscaler: str,
    names: Sequence[str],
    catalogs: Sequence[str],
    target: str,
    provider: str,
    price: bool,
    weight: int | None,
    startup_taint: bool,
    form: str,
) -> None:
    """Write what an autoscaler must know of nodes that do not exist yet.

    Without names, every size that the target can have.

    \b
      podsla catalog export karpenter ecs.c7 ecs.g7 | kubectl apply -f -
      podsla catalog export cluster-autoscaler ecs.c7.xlarge --provider ack
    """
    loaded = load_target(target)
    if loaded.virtual_nodes:
        raise click.UsageError(
            f"target {loaded.name!r} has virtual nodes, which no autoscaler adds; name another target"
        )
    try:
        found = offers(read_catalogs(catalogs), loaded, names)
    except UnknownSizeError as error:
        raise click.UsageError(str(error)) from None
    if autoscaler == "karpenter":
        documents = karpenter(found, price=price, weight=weight)
    else:
        documents = cluster_autoscaler(found, Provider(provider), startup_taint=startup_taint)
    if form == "yaml":
        print_yaml(documents)
    else:
        print_json(documents)
    note(f"{counted(len(documents), 'document')} for {counted(len(found), 'size')}", style="dim")
    if not loaded.node_types:
        note(
            "pods are placed by podsla.io/ labels, which an autoscaler does not know of nodes that do not exist yet;",
            style="warn",
        )
        note("list nodeTypes in the target, and they are placed by instance type instead", style="warn")

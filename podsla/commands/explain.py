"""`podsla explain`: why a pod gets its size, and why the near ones lost."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from catalog.dimension import BY_MIN_KEY, DIMENSIONS, render, render_lacking
from catalog.fit import Index
from catalog.pod import read_pod
from catalog.problems import InvalidError, Problem
from podsla import completing
from podsla.basis import Source, find_basis, source_options
from podsla.commands.admit import admit_found, today
from podsla.files import find_pods, load_manifests
from podsla.options import optional_pod_options, output_option
from podsla.output import REFUSED, ClusterError, print_table, print_value, say, styled
from podsla.recorded import Recalled, Today, recall
from podsla.summary import driver_sentence, reserve_sentence, uncovered_sentence
from webhook.admit import Answer, Sized
from webhook.decision import Deny, Ignore, Place

NEAR_BELOW, NEAR_ABOVE = 5, 2


@click.command("explain")
@click.argument("running", nargs=-1, metavar="[pod NAME]", shell_complete=completing.after_pod)
@optional_pod_options
@source_options(pods=True)
@output_option("table", "json", "yaml", default="table")
@click.option(
    "--near",
    type=click.IntRange(min=0),
    default=NEAR_BELOW,
    show_default=True,
    help="How many cheaper sizes to show, with what each lacks.",
)
def explain_command(
    running: Sequence[str],
    files: Sequence[str],
    recursive: bool,
    class_name: str | None,
    namespace_labels: Mapping[str, str] | None,
    source: Source,
    form: str,
    near: int,
) -> None:
    """Say why each pod gets its size: pods in files, or one that runs.

    Per dimension: what the class promises, what the pod demands, what the size offers, and who keeps it. Then the sizes
    that were near, each with what it lacks.

    Where a cluster is named (--kubeconfig, --context, KUBECONFIG, ~/.kube/config), by what it serves and by the labels
    that namespaces have there; with --catalog or --target, and where none is named, by files.

    Of a running pod, whether a new one like it would get the same today, by what its cluster serves.

    \b
      podsla explain pod trader-6d4cf56db6-x7k2p -n edge
      podsla explain -f deploy.yaml
      podsla explain -f deploy.yaml --class disk-intensive --target ack-eci
    """
    if running:
        if files:
            raise click.UsageError("name a running pod or files with -f, not both")
        if source.catalogs or source.target:
            raise click.UsageError(
                "a running pod is judged by what its cluster serves; leave out --catalog and --target"
            )
        _explain_running(_pod_name(running), source, form=form, near=near)
        return
    if not files:
        raise click.UsageError("name manifests with -f, or a running pod: podsla explain pod NAME")
    pods = list(find_pods(load_manifests(files, recursive=recursive)))
    if not pods:
        raise InvalidError([Problem(", ".join(files), 0, "", "no document holds a pod or a pod template")])
    basis, day = find_basis(source), today()
    index, labels = basis.serving.index, basis.labels_of({found.namespace for found in pods}, namespace_labels)
    basis.announce()
    answers = [(found, admit_found(found, class_name, labels[found.namespace], basis.serving, day)) for found in pods]
    if form == "table":
        for position, (found, answer) in enumerate(answers):
            if position:
                say()
            _print(found.title, answer, index, near)
    else:
        explained = [explain(found.title, answer, index, near) for found, answer in answers]
        print_value(explained[0] if len(explained) == 1 else explained, form)
    if any(isinstance(answer, Deny) for _, answer in answers):
        raise click.exceptions.Exit(REFUSED)


def _pod_name(words: Sequence[str]) -> str:
    """Read `pod NAME`, `pod/NAME` or `NAME`, as kubectl does."""
    kind, _, name = "/".join(words).rpartition("/")
    if kind not in ("", "po", "pod", "pods") or not name:
        raise click.UsageError(f"{' '.join(words)!r} is no pod; write: podsla explain pod NAME")
    return name


def _explain_running(name: str, source: Source, *, form: str, near: int) -> None:
    from kube.kinds import PODS
    from podsla.cluster import connect, told

    reader = connect(source.kubeconfig, source.context, source.namespace, source.home)
    with told():
        pod, labels, serving = reader.all(
            lambda: reader.api.get(PODS, name, reader.namespace),
            lambda: reader.namespace_labels(reader.namespace),
            reader.serving,
        )
    if pod is None:
        raise ClusterError(f"there is no pod {name!r} in namespace {reader.namespace}; name another with -n")
    found, title = recall(pod, labels or {}, serving.index, today()), f"Pod/{name} in {reader.namespace}"
    if form != "table":
        told_today = explain(title, found.answer, serving.index, near)
        recorded = {"today": found.today.value, "differences": list(found.differences), "record": found.record}
        print_value({**told_today, **recorded}, form)
    else:
        _print_recalled(found)
        _print(title, found.answer, serving.index, near)
    if found.today is Today.REFUSED:
        raise click.exceptions.Exit(REFUSED)


def _print_recalled(found: Recalled) -> None:
    record = found.record
    if record and found.today is not Today.SAME:
        say(f"given: {record['size']} for class {record['class']}, revision {record['revision'][:19]}", style="bold")
        for path, said in record["dimensions"].items():
            say(f"  {path}: asked {said['ask']}, kept {said['kept']} {said['state']}")
        say()
    say(f"today: {_TODAY[found.today]}", style="good" if found.today is Today.SAME else "warn")
    for difference in found.differences:
        say(f"  {difference}")
    say()


_TODAY: Final = {
    Today.SAME: "a new pod like it would get the same",
    Today.DIFFERS: "a new pod like it would get something else; this one keeps what it was given",
    Today.REFUSED: "a new pod like it would be refused; this one runs on",
    Today.LEFT_ALONE: "a new pod like it would get no size",
    Today.NO_RECORD: "it was created without podsla, and has no size; a new pod like it would get this",
    Today.UNREADABLE: "its record cannot be read, so nobody knows what it was given; a new pod like it would get this",
}


def explain(title: str, answer: Answer, index: Index, near: int) -> dict[str, Any]:
    """Explain one answer as plain values."""
    if isinstance(answer, Ignore):
        return {"pod": title, "outcome": "left alone", "reason": answer.why.value}
    if isinstance(answer, Deny):
        return {"pod": title, "outcome": "refused", "reason": answer.reason.value, "message": answer.message}
    place = answer.place
    return {
        "pod": title,
        "outcome": "sized",
        "class": place.sla_class.name,
        "catalog": place.sla_class.catalog,
        "revision": index.catalog.revision,
        "target": index.target.name,
        "size": place.choice.size.name,
        "why": driver_sentence(place),
        "reserve": place.reserve.value,
        "dimensions": dimensions(place, answer),
        "near": near_sizes(index, place, near),
        "dropped": [d.path for d in place.dropped],
        "uncovered": list(place.uncovered),
        "warnings": list(answer.warnings),
    }


def dimensions(place: Place, answer: Sized) -> list[dict[str, str]]:
    """List the asked dimensions: floor, minimum, demand, ask, offer, how it is kept."""
    minima = _minima(answer.pod)
    rows = []
    for holding in place.holdings:
        d = holding.dimension
        rows.append(
            {
                "dimension": d.path,
                "floor": d.render(place.sla_class.floor[d.index]) if place.sla_class.floor[d.index] else "",
                "minimum": minima.get(d.path, ""),
                "demand": d.render(place.demand[d.index]) if place.demand[d.index] else "",
                "ask": d.render(holding.ask),
                "offer": d.render(holding.offer),
                "kept": f"{d.render(holding.kept)} {holding.state}",
                "by": ", ".join(holding.by),
            }
        )
    return rows


def _minima(pod: Mapping[str, Any]) -> dict[str, str]:
    return {BY_MIN_KEY[key].path: text for key, text in read_pod(pod).keys if key in BY_MIN_KEY}


def near_sizes(index: Index, place: Place, near: int) -> list[dict[str, str]]:
    """List the sizes around the chosen one in the order in which they are tried, each with its verdict."""
    sizes = list(index.sizes_of(place.sla_class))
    chosen = next(i for i, (size, _) in enumerate(sizes) if size is place.choice.size)
    rows = []
    for position, (size, offer) in enumerate(sizes[: chosen + NEAR_ABOVE + 1]):
        if position < chosen - near:
            continue
        short = render_lacking(offer, place.ask)
        dearer = size.cost_m > place.choice.size.cost_m
        spare = "holds it too, and costs more" if dearer else "holds it too, and ranks after it"
        verdict = "chosen" if position == chosen else f"lacks {short}" if short else spare
        rows.append(
            {
                "size": size.name,
                **{d.path: render(d, offer[d.index]) for d in DIMENSIONS if place.ask[d.index]},
                "cost": render(DIMENSIONS[0], size.cost_m),
                "verdict": verdict,
            }
        )
    return rows


def _print(title: str, answer: Answer, index: Index, near: int) -> None:
    if isinstance(answer, Ignore):
        say(f"{title}: left alone ({answer.why})")
        return
    if isinstance(answer, Deny):
        say(f"{title}: refused, {answer.reason}", style="bad")
        head, separator, rest = answer.message.partition(": ")
        say(f"  {head}{separator}")
        for part in filter(None, rest.split("; ")):
            say(f"    {part}")
        return
    place = answer.place
    head = f"{title}: {place.choice.size.name}"
    say(head, style="bold")
    say(f"  class {place.sla_class.name} of catalogue {place.sla_class.catalog}, on target {index.target.name}")
    say(f"  {driver_sentence(place)}")
    say(f"  {reserve_sentence(place)}")
    say()
    columns = ["dimension", "class floor", "pod minimum", "pod demand", "ask", "size offers", "kept", "by"]
    print_table(columns, [list(row.values()) for row in dimensions(place, answer)], indent="  ")
    say()
    rows = near_sizes(index, place, near)
    print_table(list(rows[0]), [[_verdict(text) for text in row.values()] for row in rows], indent="  ")
    _print_rest(place, answer)


def _verdict(text: str) -> str:
    return styled(text, "good") if text == "chosen" else text


def _print_rest(place: Place, answer: Sized) -> None:
    lines = [uncovered_sentence(resource) for resource in place.uncovered]
    if lines:
        say()
    for line in lines:
        say(f"  {line}", style="dim")
    for warning in answer.warnings:
        say(f"  warning: {warning}", style="warn")

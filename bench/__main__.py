"""Print what a decision costs, what the Flask application adds, and whether memory stays flat.

Timings compare things within one run, in turn, and print medians; no test asserts them.
"""

import io
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeAlias

import click
import orjson
from flask import Flask, request
from flask import Response as HttpResponse
from rich.console import Console
from rich.table import Table

from bench.attach import bench_attach
from bench.drift import bench_drift
from bench.golang import build
from bench.idle import bench_idle
from bench.tls import bench_memory, bench_tls
from catalog.fit import Index, compile_index
from catalog.load import SHIPPED_CATALOG, load_catalog, load_target
from catalog.model import Catalog
from catalog.reader import make_catalog
from podsla.output import note, print_json
from tests.cluster.state import ClusterError
from webhook.admit import Serving, Sized, admit
from webhook.app import Environment, create_app
from webhook.metrics import PrometheusRecorder

Row: TypeAlias = tuple[str, str, str, str]
COLUMNS: Final = ("what", "median", "least", "note")
PARTS: Final = ("decision", "process", "tls", "memory", "attach", "drift", "idle")
ROUNDS: Final = 40
CALLS: Final = 100
TODAY: Final = date(2026, 11, 23)

POD: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "generateName": "edge-gateway-5d4f7c9b8-",
        "namespace": "edge",
        "labels": {"app": "edge-gateway", "pod-template-hash": "5d4f7c9b8"},
        "annotations": {"podsla.io/class": "net-intensive", "podsla.io/min-pps": "1500000"},
    },
    "spec": {
        "containers": [
            {
                "name": "envoy",
                "image": "envoyproxy/envoy:v1.34.0",
                "resources": {"requests": {"cpu": "3", "memory": "4Gi"}, "limits": {"memory": "6Gi"}},
                "ports": [{"name": "https", "containerPort": 8443, "protocol": "TCP"}],
            },
            {
                "name": "access-log-shipper",
                "image": "fluent/fluent-bit:4.0",
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"cpu": "200m", "memory": "256Mi"},
                },
            },
        ],
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
    },
}


def resized(catalog: Catalog, count: int) -> Catalog:
    """Make a catalogue of *count* sizes: some of the shipped ones, or copies of them under other names."""
    sizes = catalog.sizes
    if count < len(sizes):
        families = catalog.classes["net-intensive"].sizes.families
        can_serve = [size for size in sizes if size.family in families]
        rest = [size for size in sizes if size.family not in families]
        sizes = (*can_serve[:: max(1, len(can_serve) // count)], *rest)[:count]
    copies = -(-count // len(sizes))
    many = [replace(size, name=f"{size.name}-{n}") if n else size for n in range(copies) for size in sizes]
    return make_catalog(many[:count], list(catalog.classes.values()))


def median_us(work: Callable[[], Any]) -> float:
    """Time *work*: the median over rounds of the mean of a round's calls, in microseconds."""
    return statistics.median(rounds_us([work])[0])


def rounds_us(works: Sequence[Callable[[], Any]]) -> list[list[float]]:
    """Time several things in turn, round by round, so that a slower minute of the machine meets all of them."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for position, work in enumerate(works):
            started = time.perf_counter_ns()
            for _ in range(CALLS):
                work()
            times[position].append((time.perf_counter_ns() - started) / CALLS / 1000)
    return times


def bench_decision(catalog: Catalog, index_of: Callable[[Catalog], Index]) -> Iterator[Row]:
    """Decision and patch, from the parsed pod to the operations, over catalogues of growing size; none is looked up."""
    counts = (10, 100, len(catalog.sizes), 10 * len(catalog.sizes))
    indexes = [index_of(resized(catalog, count)) for count in counts]
    works = [lambda index=index: admit(POD, {}, Serving(index), TODAY) for index in indexes]
    alike = Serving(index_of(catalog))
    *rounds, again = rounds_us([*works, lambda: admit(POD, {}, alike, TODAY)])
    for count, index, times in zip(counts, indexes, rounds, strict=True):
        result = admit(POD, {}, Serving(index), TODAY)
        got = result.place.choice.size.name if isinstance(result, Sized) else "refused"
        yield f"decision + patch, {count} sizes", f"{statistics.median(times):.0f}", f"{min(times):.0f}", got
    yield "same, a further pod of a workload", f"{statistics.median(again):.0f}", f"{min(again):.0f}", ""


def bench_flask(serving: Serving) -> Iterator[Row]:
    """The application from bytes to bytes, for pods of one workload, beside the same answering a constant."""
    recorder = PrometheusRecorder()
    app = create_app(Environment(lambda: serving, lambda _: {}, recorder, lambda: TODAY, time.perf_counter))
    body = orjson.dumps(review())
    call = caller(app, "/mutate", body)
    answer = call()
    _constant(app, answer)
    ours, constant = rounds_us([call, caller(app, "/constant", body)])
    ratio = statistics.median(constant) / statistics.median(ours)
    sizes = f"{len(body)} bytes in, {len(answer)} out"
    what = "µs in process, Flask application"
    yield f"{what}: podsla", f"{statistics.median(ours):.0f}", f"{min(ours):.0f}", sizes
    reached = f"ours reaches {ratio:.0%} of its rate"
    yield f"{what}: constant", f"{statistics.median(constant):.0f}", f"{min(constant):.0f}", reached


def _constant(app: Flask, answer: bytes) -> None:
    app._got_first_request = False  # the route is added to the very application that was measured
    app.add_url_rule("/constant", "constant", lambda: _read_and(answer), methods=["POST"])


def _read_and(answer: bytes) -> HttpResponse:
    request.get_data(cache=False)
    return HttpResponse(answer, content_type="application/json")


def review() -> dict[str, Any]:
    """Wrap the pod as the API server does."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "edge",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": POD,
            "oldObject": None,
            "dryRun": False,
        },
    }


def caller(app: Flask, path: str, body: bytes) -> Callable[[], bytes]:
    """Call the WSGI application in process, with no test client between."""
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "timeout=10s",
        "SERVER_NAME": "podsla",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "https",
        "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0),
    }

    def call() -> bytes:
        chunks = app({**environ, "wsgi.input": io.BytesIO(body)}, lambda status, headers, error=None: lambda _: None)
        return b"".join(chunks)

    return call


def machine() -> str:
    """Say on what this ran."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    python = f"Python {platform.python_version()} ({platform.python_compiler()})"
    return f"{os.cpu_count()} x {model}, {platform.system()} {platform.release().partition('-')[0]}, {python}"


def commit() -> str:
    """Say of which commit this is."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    return name.strip() + (" with uncommitted changes" if changed else "")


def parts() -> dict[str, Callable[[], Iterator[Row]]]:
    """What can be measured, by name."""
    catalog, target = load_catalog([SHIPPED_CATALOG]), load_target("kubernetes")
    serving = Serving(compile_index(catalog, target))
    return {
        "decision": lambda: bench_decision(catalog, lambda made: compile_index(made, target)),
        "process": lambda: bench_flask(serving),
        "tls": lambda: bench_tls(review(), _go()),
        "memory": lambda: bench_memory(review()),
        "attach": bench_attach,
        "drift": bench_drift,
        "idle": bench_idle,
    }


def _go() -> Path | None:
    try:
        return build()
    except ClusterError as error:
        note(f"not measured: {error}", style="warn")
        return None


@click.command()
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Measure this part alone; may be given again.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def main(only: Sequence[str], output: str) -> None:
    """Measure a decision, a review in process and over TLS, memory, and what a GPU costs its node."""
    known, rows = parts(), list[Row]()
    for name in only or PARTS:
        note(f"measuring: {name} …", style="dim")
        rows += known[name]()
    if output == "json":
        command = " ".join(["python -m bench", *(f"--only {name}" for name in only)])
        facts = {"machine": machine(), "commit": commit()}
        print_json({"command": command, "facts": facts, "rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows]})
        return
    out = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("what", "median µs", "least µs", "note", box=None, title=machine(), title_justify="left")
    for row in rows:
        table.add_row(*row)
    out.print(table)


if __name__ == "__main__":
    main()

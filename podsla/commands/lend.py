"""`podsla gpu attach | detach | list | wait | run | release`: borrow GPUs for pods that run already."""

import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from podsla import completing
from podsla.gpu import GROUP, Borrow, GpuError, InPod, NotInPod, Pod, State, borrow, read_state, say_state
from podsla.options import namespaced_options, output_option
from podsla.output import INVALID, REFUSED, ClusterError, note, print_table, print_value, say

F = TypeVar("F", bound=Callable[..., Any])

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENDED: Final = frozenset({"Failed", "Released"})


def ask_options(command: F) -> F:
    """What is asked of an attachment."""
    for option in reversed(
        [
            click.option("-c", "--container", metavar="NAME", default="",
                         help="Of the pod. Default: its usual one; to run in a pod: the one that runs it."),
            click.option("--count", type=click.IntRange(1, 16), default=1, show_default=True, help="How many GPUs."),
            click.option("--model", "models", metavar="NAME", multiple=True, help="Any of these; repeat it."),
            click.option("--resource", default="nvidia.com/gpu", show_default=True, help="Or a MIG profile's."),
            click.option(
                "--lease", type=click.IntRange(10, 604800), default=900, show_default=True, metavar="SECONDS",
                help="How long it may be held without a renewal.",
            ),
            click.option(
                "--grace", type=click.IntRange(0, 3600), default=30, show_default=True, metavar="SECONDS",
                help="How long processes have to close it when it goes.",
            ),
            click.option(
                "--policy", type=click.Choice(["Wait", "Terminate"]), default="Wait", show_default=True,
                help="What becomes of processes that do not.",
            ),
        ]
    ):  # fmt: skip
        command = option(command)
    return command


def _spec(asked: Mapping[str, Any]) -> dict[str, Any]:
    spec = {
        "resource": asked["resource"], "count": asked["count"], "models": list(asked["models"]),
        "leaseSeconds": asked["lease"], "gracePeriodSeconds": asked["grace"], "detachPolicy": asked["policy"],
    }  # fmt: skip
    return {**spec, "container": asked["container"]} if asked["container"] else spec


@click.command("attach")
@click.argument("pod", shell_complete=completing.pods)
@namespaced_options
@ask_options
@click.option("--name", metavar="NAME", help="Of the attachment. Default: the pod's, and some letters.")
@click.option(
    "--wait", "wait_s", type=click.IntRange(0), default=60, show_default=True, metavar="SECONDS",
    help="How long to wait until it is attached; 0: do not wait.",
)  # fmt: skip
@output_option("table", "wide", "json", "yaml", default="table")
def attach_command(
    pod: str, kubeconfig: Path | None, context: str | None, namespace: str | None, name: str | None, wait_s: int,
    form: str, **asked: Any,
) -> None:  # fmt: skip
    """Attach a GPU to a pod that runs.

    Nobody renews its lease: it ends after --lease, or by `podsla gpu detach`. The attachment stays in the queue where
    --wait is over first.

    Exit code 1: it failed, or is not attached yet.

    \b
      podsla gpu attach eval-42-x7k2p --container worker --lease 3600
      podsla gpu attach eval-42-x7k2p --model A10 --model T4 -o json
    """
    from podsla.lending import Lender

    lender, pod = Lender(kubeconfig, context, namespace), pod.removeprefix("pod/")
    name = name or f"{pod[:50].rstrip('-.')}-{secrets.token_hex(3)}"
    thing = lender.create(name, {"podName": pod, **_spec(asked)})
    state = read_state(thing)
    if wait_s:
        thing, state = lender.wait(name, _ENDED | {"Attached", "Revoked"}, wait_s, _tell(name))
    _print([thing], form)
    if state.word == "Attached" or not wait_s:
        return
    if state.word == "Waiting":
        note(f"{name} is not attached after {wait_s} s, and stays in the queue; "
             f"`podsla gpu wait {lender.named(name)}` waits on, `podsla gpu detach {lender.named(name)}` gives up",
             style="warn")  # fmt: skip
    raise click.exceptions.Exit(REFUSED)


@click.command("detach")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=completing.attachments)
@namespaced_options
@click.option(
    "--wait", "wait_s", type=click.IntRange(0), default=60, show_default=True, metavar="SECONDS",
    help="How long to wait until each is released; 0: do not wait.",
)  # fmt: skip
def detach_command(
    names: Sequence[str], kubeconfig: Path | None, context: str | None, namespace: str | None, wait_s: int
) -> None:
    """Give GPUs back: the attachments stay, as a record, until their time is over.

    Exit code 1: one of them is not released in time, since a process of its pod still has the device open.

    \b
      podsla gpu detach eval-42
    """
    from podsla.lending import Lender

    lender = Lender(kubeconfig, context, namespace)
    for name in names:
        lender.release(name)
    states = [(name, lender.wait(name, _ENDED, wait_s, _tell(name))[1]) for name in names] if wait_s else []
    late = [name for name, state in states if state.word not in _ENDED]
    for name in late:
        note(f"{name} is not released after {wait_s} s, and stays asked for; "
             f"`podsla gpu wait {lender.named(name)} --for released` waits on", style="warn")  # fmt: skip
    if late:
        raise click.exceptions.Exit(REFUSED)


@click.command("release")
@click.argument("name", shell_complete=completing.attachments)
@namespaced_options
@click.option("--force", is_flag=True, help="End its quarantine without a check; needs the role podsla-gpu-admin.")
def release_command(
    name: str, kubeconfig: Path | None, context: str | None, namespace: str | None, force: bool
) -> None:
    """Release a GPU that is quarantined, although nobody could check that it is free.

    It may be handed to another pod at once. Look at the node first: `podsla gpu inspect`.

    \b
      podsla gpu release eval-42 --force
    """
    if not force:
        raise click.UsageError(f"say --force, or give it back the usual way: podsla gpu detach {name}")
    from podsla.lending import Lender

    lender = Lender(kubeconfig, context, namespace)
    thing = lender.get(name)
    if not _is(thing.get("status") or {}, "Quarantined"):
        raise ClusterError(f"{name} is {read_state(thing).word}, and not quarantined; "
                           f"`podsla gpu detach {lender.named(name)}` gives a GPU back")  # fmt: skip
    lender.force(name)
    say(f"{name}: its release was forced; `podsla gpu wait {lender.named(name)} --for released` waits for it")


@click.command("list")
@namespaced_options
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of every namespace.")
@output_option("table", "wide", "json", "yaml", default="table")
def list_command(
    kubeconfig: Path | None, context: str | None, namespace: str | None, everywhere: bool, form: str
) -> None:
    """List who holds which GPU, who waits for one, and why.

    \b
      podsla gpu list -A
      podsla gpu list -o json | jq -r '.[].status.devices[]?.uuid'
    """
    from podsla.lending import Lender

    _print(Lender(kubeconfig, context, namespace).all(everywhere=everywhere), form, everywhere=everywhere)


@click.command("wait")
@click.argument("name", shell_complete=completing.attachments)
@namespaced_options
@click.option("--for", "goal", type=click.Choice(["attached", "released"]), default="attached", show_default=True,
              help="What to wait for.")  # fmt: skip
@click.option("--timeout", type=click.IntRange(1), default=600, show_default=True, metavar="SECONDS",
              help="For how long.")  # fmt: skip
def wait_command(
    name: str, kubeconfig: Path | None, context: str | None, namespace: str | None, goal: str, timeout: int
) -> None:
    """Wait until a GPU is attached or released, and say on the way what it waits for.

    Exit code 1: it went another way, or the time was over.
    """
    from podsla.lending import Lender

    until = _ENDED if goal == "released" else _ENDED | {"Attached", "Revoked"}
    _, state = Lender(kubeconfig, context, namespace).wait(name, until, timeout, _tell(name))
    if state.word not in until:
        note(f"{name} is not {goal} after {timeout} s: it is {state.word}", style="warn")
    if state.word != goal.capitalize():
        raise click.exceptions.Exit(REFUSED)


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@namespaced_options
@ask_options
@click.option("--pod", metavar="NAME", help="The pod that this runs in, where nothing says it.")
@click.option("--timeout", type=click.IntRange(1), default=600, show_default=True, metavar="SECONDS",
              help="How long to wait for the GPU.")  # fmt: skip
def run_command(
    command: Sequence[str], kubeconfig: Path | None, context: str | None, namespace: str | None, pod: str | None,
    timeout: int, **asked: Any,
) -> None:  # fmt: skip
    """Run a command with a GPU, in the pod that this runs in, and give the GPU back when it ends.

    It is for the container that this runs in, which the kubelet's mounts name; where they do not, say it with -c.
    The command has CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES set. The lease is renewed while it runs. It gets the
    signals that come; its exit code is passed on, 128 and the signal's number where one killed it. Where this process
    is killed, the lease ends the attachment.

    Exit code 1 of podsla itself: there was no GPU in time, or it was taken back. 3: no pod, no right, no cluster.

    \b
      podsla gpu run -- python infer.py
      podsla gpu run --count 2 --timeout 3600 -- torchrun --nproc-per-node 2 infer.py
    """
    try:
        lent = _lend(kubeconfig, context, namespace, pod, timeout, asked)
        code = _run(lent, list(command))
    except NotInPod as error:
        note(str(error), style="bad")
        code = INVALID
    except GpuError as error:
        note(str(error), style="bad")
        code = INVALID if error.reason in ("Forbidden", "Unauthorized", "Unreachable", "NotFound") else REFUSED
    raise click.exceptions.Exit(code)


def _lend(
    kubeconfig: Path | None, context: str | None, namespace: str | None, pod: str | None, timeout: int,
    asked: Mapping[str, Any],
) -> Borrow:  # fmt: skip
    options = {key: asked[key] for key in ("count", "resource", "models", "container", "lease", "grace", "policy")}
    options.update(timeout=float(timeout), on_wait=lambda line: note(f"waiting for a GPU: {line}", style="dim"))
    if kubeconfig is None and context is None and pod is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        api = InPod()
        if namespace is None or namespace == (own := api.pod()).namespace:
            return borrow(**options, api=api)
        return borrow(**options, api=api, pod=Pod(namespace, own.name))
    from podsla.lending import Kubeconfig, Lender

    if pod is None:
        raise ClusterError("this is no pod; say with --pod which pod it runs in")
    lender = Lender(kubeconfig, context, namespace)
    return borrow(**options, api=Kubeconfig(lender.api), pod=Pod(lender.namespace, pod))


def _run(lent: Borrow, command: list[str]) -> int:
    """Run it; signals go to the child while there is one, end the wait before, and are too late after."""

    def ignore() -> None:
        for number in FORWARDED:
            signal.signal(number, signal.SIG_IGN)

    def forward(number: int, _: object) -> None:
        running = [child for child in lent.children if child.poll() is None]
        if not running:
            ignore()  # one that follows must not stop the release
            raise SystemExit(128 + number)
        for child in running:
            if number != signal.SIGINT or not sys.stdin.isatty():  # a terminal's goes to the child by itself
                child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        with lent:
            try:
                code = lent.run(command).returncode
            except FileNotFoundError as error:
                note(f"{error.filename}: command not found", style="bad")
                code = NOT_FOUND
            except PermissionError as error:
                note(f"{error.filename}: cannot be executed", style="bad")
                code = NOT_EXECUTABLE
            finally:
                ignore()
    except SystemExit as end:  # stopped before there was a GPU
        return int(end.code or 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _tell(name: str) -> Callable[[State], None]:
    def tell(state: State) -> None:
        line = say_state(state) if state.word == "Waiting" else f"{state.word}: {state.reason} {state.message}".rstrip()
        note(f"{name}: {line}", style="bad" if state.word in ("Failed", "Revoked") else "dim")

    return tell


def _print(things: Sequence[Mapping[str, Any]], form: str, *, everywhere: bool = False) -> None:
    if form in ("json", "yaml"):
        print_value([{"apiVersion": GROUP, "kind": "GPUAttachment", **thing} for thing in things], form)
        return
    if not things:
        say("nobody holds a GPU, and nobody waits for one")
        return
    columns = ["name", "pod", "state", "queue", "devices", "held", "why"]
    wide = ["node", "resource", "count", "lease ends"]
    rows = [[*_row(thing), *(_more(thing) if form == "wide" else [])] for thing in things]
    if everywhere:
        columns = ["namespace", *columns]
        rows = [[str(thing["metadata"]["namespace"]), *row] for thing, row in zip(things, rows, strict=True)]
    print_table([*columns, *(wide if form == "wide" else [])], rows)


def _row(thing: Mapping[str, Any]) -> list[str]:
    status, state = thing.get("status") or {}, read_state(thing)
    why = f"{state.reason}: {state.message}" if state.message else state.reason
    word = next((kind for kind in ("Quarantined", "Overdue", "Draining") if _is(status, kind)), state.word)
    return [
        thing["metadata"]["name"], thing["spec"]["podName"], state.word if state.word in _ENDED else word,
        str(state.queue or "-"), ",".join(state.uuids) or "-", _held(status), why,
    ]  # fmt: skip


def _is(status: Mapping[str, Any], kind: str) -> bool:
    return any(each["type"] == kind and each["status"] == "True" for each in status.get("conditions") or ())


def _held(status: Mapping[str, Any]) -> str:
    """Say for how long it was held, or is."""
    if status.get("heldSeconds"):
        return f"{status['heldSeconds']}s"
    since = status.get("attachedAt")
    return f"{int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())}s" if since else "-"


def _more(thing: Mapping[str, Any]) -> list[str]:
    status, spec = thing.get("status") or {}, thing["spec"]
    return [status.get("node") or "-", spec.get("resource", "nvidia.com/gpu"), str(spec.get("count", 1)),
            status.get("leaseExpiresAt") or "-"]  # fmt: skip


@click.command("timeline")
@namespaced_options
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of every namespace.")
@click.option("--since", "minutes", type=click.IntRange(1), default=60, show_default=True, metavar="MINUTES",
              help="How far to look back.")  # fmt: skip
@click.option("--width", type=click.IntRange(10, 500), default=72, show_default=True, help="Of the chart, in letters.")
@output_option("text", "svg", "html", "json", "yaml", default="text")
def timeline_command(
    kubeconfig: Path | None, context: str | None, namespace: str | None, everywhere: bool, minutes: int, width: int,
    form: str,
) -> None:  # fmt: skip
    """Draw who held which GPU when, from the attachments that are there still.

    A capital letter has the device, a small one is asked to give it back, "!" keeps it open past its end, "?" is
    quarantined, "~" waits, and nobody has it at a dot.

    \b
      podsla gpu timeline -A --since 240
      podsla gpu timeline -A -o html > timeline.html
    """
    from attach.api import parse_attachment
    from podsla.lending import Lender
    from podsla.timeline import dump, lay_out, render_html, render_svg, render_text

    things = Lender(kubeconfig, context, namespace).all(everywhere=everywhere)
    now_s = datetime.now(UTC).timestamp()
    line = lay_out(map(parse_attachment, things), now_s - 60 * minutes, now_s)
    if form == "text":
        for row in render_text(line, width):
            say(row)
    elif form in ("json", "yaml"):
        print_value(dump(line), form)
    else:
        say((render_svg if form == "svg" else render_html)(line).rstrip("\n"))

"""`podsla agent`: give running containers of this node their GPUs, and take them back."""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from kube.logs import JsonLines
from podsla.options import output_option, reach_options
from podsla.output import INVALID, REFUSED, note, print_table, print_value

if TYPE_CHECKING:
    from attach.agent import FromCluster

STATE_DIR: Final = Path("/var/lib/podsla/attach")
KUBELET_SOCKET: Final = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
SETTLED: Final = ("Attached", "Released")
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("agent")
@click.option(
    "--desired", type=_FILE, metavar="FILE",
    help="Which attachments this node shall have. Default: the GPUAttachments of a cluster.",
)  # fmt: skip
@reach_options
@click.option(
    "--node", envvar="NODE_NAME", metavar="NAME", help="This node, as the cluster calls it. Default: $NODE_NAME."
)
@click.option(
    "--kubelet-socket", type=click.Path(path_type=Path), default=KUBELET_SOCKET, show_default=True,
    help="Where the kubelet says which devices pods have.",
)  # fmt: skip
@click.option(
    "--system-namespace", "system_namespaces", multiple=True, default=["kube-system"], show_default=True,
    metavar="NAME", help="Whose pods may have any device open, as device plugin and monitoring do; may be repeated.",
)  # fmt: skip
@click.option("--once", "mode", flag_value="once", help="Make one pass, print how each attachment stands, end.")
@click.option("--watch", "mode", flag_value="watch", help="Go on until SIGTERM; every change is logged.")
@click.option(
    "--inventory", type=_FILE, metavar="FILE", help="The node's devices, from a file. Default: the NVIDIA driver's."
)
@click.option(
    "--state", type=click.Path(file_okay=False, path_type=Path), default=STATE_DIR, show_default=True,
    help="The folder of the journal. It has to outlive the agent, and a boot.",
)  # fmt: skip
@click.option(
    "--metrics", type=_FILE, metavar="FILE", help="Write metrics here, for node-exporter's textfile collector."
)
@click.option(
    "--every", "every_s", type=click.FloatRange(0.1, 3600), default=5.0, show_default=True, metavar="SECONDS",
    help="How often to look for drift while nothing changes.",
)  # fmt: skip
@output_option("table", "json", "yaml", default="table", what="How --once prints.")
def agent_command(
    desired: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    node: str | None,
    kubelet_socket: Path,
    system_namespaces: tuple[str, ...],
    mode: str | None,
    inventory: Path | None,
    state: Path,
    metrics: Path | None,
    every_s: float,
    form: str,
) -> None:
    """Give running containers of this node their GPUs, take them back, and repair what others undo.

    Runs as root on the node. In a cluster it follows the GPUAttachments of its node, learns from the kubelet which
    devices are reserved, and writes back how each stands; while the API server is away, leases end all the same.
    With --desired it needs no cluster: a file says which container shall have which device, and for how long.

    A journal under --state says what is about to be done before it is done, so the agent may be killed at any moment:
    the next one goes on. One GPU is never open to two pods.

    \b
      apiVersion: podsla.io/v1beta1
      kind: NodeAttachments
      attachments:
      - uid: eval-42                       # yours to choose; never used twice
        namespace: team-a
        podName: eval-42-x7k2p
        podUID: 0d1c6c3e-6a52-4c36-9d0b-3a5d2a0e8f11
        containerID: containerd://4f9d…    # kubectl get pod -o jsonpath='{.status.containerStatuses[*].containerID}'
        devices: [GPU-5d1f…]               # podsla gpu inspect lists them
        renewTime: "2027-03-01T12:00:00Z"  # write it anew before leaseSeconds are over, to keep the device
        leaseSeconds: 900
        gracePeriodSeconds: 30             # between hiding the device and taking the permission away
        detachPolicy: Wait                 # or Terminate: TERM, then KILL, processes of the pod that still have it open
        release: false                     # true, or taking the item out, detaches

    \b
    A device is given back when its item goes, release is true, or the lease ends. It is free once no process of the
    whole node has it open:
      Overdue      a process of the pod has; it stays that pod's until the process closes it
      Quarantined  held otherwise, or not known; free after three clean checks in a row, or with force: true

    \b
    Exit codes of --once:
      0  every attachment is Attached or Released
      1  one is refused, waits, or failed; its reason is printed
      3  the journal or the inventory can't be used, or another agent runs; nothing was done

    \b
      podsla agent --desired node.yaml --once
      podsla agent --desired node.yaml --watch --metrics /var/lib/node_exporter/podsla.prom
      podsla agent --watch --node worker-7 --kubeconfig ~/.kube/config
    """
    from attach.agent import Settings, open_agent, watch  # prometheus_client takes 0.1 s: no other command waits
    from attach.errors import AttachError
    from attach.inspect import render_status
    from attach.journal import JournalError
    from attach.store import TakenError

    if mode is None:
        raise click.UsageError("give --once for one pass, or --watch to go on")
    if desired is None and mode == "once":
        raise click.UsageError("--once needs --desired: a cluster is watched, so give --watch")
    source = desired or _cluster(kubeconfig, context, node, kubelet_socket, system_namespaces)
    settings = Settings(source, state, inventory, metrics, every_s)
    _log_to(sys.stdout if mode == "watch" else sys.stderr)
    try:
        if mode == "watch":
            watch(settings)
            return
        with open_agent(settings) as agent:
            statuses = [render_status(status) for status in agent.run_once()]
            problems = agent.problems
    except (AttachError, JournalError, TakenError, OSError) as error:
        reason = f"{error.reason}: " if isinstance(error, AttachError | JournalError) else ""
        note(f"{reason}{error}", style="bad")
        raise click.exceptions.Exit(INVALID) from None
    for problem in problems:
        note(str(problem), style="bad")
    _print(statuses, form)
    if problems or any(status["state"] not in SETTLED for status in statuses):
        raise click.exceptions.Exit(REFUSED)


def _cluster(
    kubeconfig: Path | None, context: str | None, node: str | None, socket: Path, system_namespaces: tuple[str, ...]
) -> "FromCluster":
    from attach.agent import FromCluster
    from kube.api import Api
    from podsla.cluster import told

    if not node:
        raise click.UsageError("say with --node which node this is, or with --desired FILE what it shall have")
    with told():
        return FromCluster(Api.connect(kubeconfig, context), node, socket, system_namespaces)


def _print(statuses: Sequence[Mapping[str, Any]], form: str) -> None:
    if form != "table":
        print_value(list(statuses), form)
        return
    columns = ("attachment", "pod", "state", "devices", "reason", "message")
    print_table(columns, [[_cell(status["uid" if c == "attachment" else c]) for c in columns] for status in statuses])


def _cell(value: Any) -> str:
    return (",".join(value) if isinstance(value, list) else str(value)) or "-"


def _log_to(stream: TextIO) -> None:
    """Send one JSON object for each change of an attachment to *stream*."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    for name in ("attach", "kube"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False

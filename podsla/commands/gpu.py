"""`podsla gpu`: what containers hold of this node's GPUs."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from podsla.commands.agent import STATE_DIR
from podsla.options import output_option
from podsla.output import INVALID, note, print_table, print_value, say


@click.command("hold")
def hold_command() -> None:
    """Hold a reservation: what a placeholder's pod runs.

    Ends with 0 on SIGUSR1 alone, the word of the node's agent that nobody has the device open any more. SIGTERM and
    SIGINT are not obeyed: the kubelet takes the device for free as soon as this process has ended.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    say("holds the reservation until SIGUSR1")
    signal.sigwait({signal.SIGUSR1})


@click.command("inspect")
@click.option(
    "--inventory", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="The node's devices, from a file. Default: the NVIDIA driver's.",
)  # fmt: skip
@click.option(
    "--state", type=click.Path(file_okay=False, path_type=Path), default=STATE_DIR, show_default=True,
    help="The folder of the agent's journal.",
)  # fmt: skip
@output_option("table", "json", "yaml", default="table")
def inspect_command(inventory: Path | None, state: Path, form: str) -> None:
    """Show who has this node's GPUs open, and what the agent gave to whom: rules, nodes, processes, journal.

    Runs as root on the node, changes nothing, and may run beside the agent. Processes are found by device number, over
    descriptors and mappings, so one that was sent a descriptor or that made a node of its own is found too.

    \b
    RULE and NODE say what stands in the container now:
      ours     made by the agent, and goes with the attachment
      theirs   was there before, and stays
      absent   not there; of an attachment that is Attached, the agent makes it again when it looks next

    \b
      podsla gpu inspect
      podsla gpu inspect -o json | jq '.devices[] | select(.holders != [])'
    """
    from attach.agent import open_node
    from attach.errors import AttachError
    from attach.inspect import inspect
    from attach.journal import Journal, JournalError, decode
    from attach.store import FileStore

    try:
        data = FileStore(state).load()
        journal = Journal("") if data is None else decode(data)
        with open_node(inventory, alone=False) as node:
            found = inspect(node, journal)
    except (AttachError, JournalError) as error:
        note(f"{error.reason}: {error}", style="bad")
        raise click.exceptions.Exit(INVALID) from None
    except OSError as error:
        note(f"{error}; run it as root on the node", style="bad")
        raise click.exceptions.Exit(INVALID) from None
    if form != "table":
        print_value(found, form)
        return
    _print_devices(found)
    _print_attachments(found["attachments"])


def _print_devices(found: Mapping[str, Any]) -> None:
    if "inventory" in found:
        note(f"the devices can't be listed: {found['inventory']}", style="bad")
    rows = [
        (d["uuid"], d["node"], d["number"], d["state"] or "Free", d["pod"] or "-", d["attachment"] or "-",
         _holders(d["holders"]), d["unhealthy"] or "-")
        for d in found["devices"]
    ]  # fmt: skip
    if rows:
        print_table(("device", "node", "number", "state", "pod", "attachment", "open in", "unhealthy"), rows)
    else:
        say("this node has no device to give; an agent with an --inventory of its own gives what that names")


def _holders(holders: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(holders, str):
        return holders
    return ", ".join(f"{h['pid']} ({h['command']}, {h['by']})" for h in holders) or "-"


def _print_attachments(attachments: Sequence[Mapping[str, Any]]) -> None:
    if not attachments:
        return
    say()
    rows = [
        (a["uid"], a["pod"], a["state"], a["reason"], a["engine"] or "-", _rules(a), _nodes(a), a["leaseExpiresAt"],
         a["message"])
        for a in attachments
    ]  # fmt: skip
    print_table(("attachment", "pod", "state", "reason", "engine", "rule", "node", "lease ends", "message"), rows)


def _rules(attachment: Mapping[str, Any]) -> str:
    rules = attachment["rules"]
    if isinstance(rules, str):
        return rules
    return _summary({path: _whose(path, attachment["granted"]) if there else "absent" for path, there in rules.items()})


def _nodes(attachment: Mapping[str, Any]) -> str:
    nodes = attachment["nodes"].items()
    made = attachment["made"]
    return _summary(
        {path: _whose(path, made) if state in ("Right", "Host") else state.lower() for path, state in nodes}
    )


def _whose(path: str, ours: Sequence[str]) -> str:
    return "ours" if path in ours else "theirs"


def _summary(each: Mapping[str, str]) -> str:
    """Say it once where all are alike."""
    kinds = sorted(set(each.values()))
    if len(kinds) <= 1:
        return "".join(kinds) or "-"
    return ", ".join(f"{path} {kind}" for path, kind in each.items())

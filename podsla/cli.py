"""The command line: which commands there are, and how each ends."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from catalog.problems import InvalidError
from podsla.commands.admit import admit_command
from podsla.commands.agent import agent_command
from podsla.commands.apply import apply_command  # noqa: F401 - joins the group `catalog`, as diff and revisions do
from podsla.commands.catalog import catalog_group
from podsla.commands.classes import classes_command, targets_command
from podsla.commands.completion import completion_command
from podsla.commands.controller import controller_command
from podsla.commands.diff import diff_command  # noqa: F401
from podsla.commands.doctor import doctor_command
from podsla.commands.explain import explain_command
from podsla.commands.gpu import gpu_group
from podsla.commands.lend import run_command  # noqa: F401
from podsla.commands.revisions import status_command  # noqa: F401
from podsla.commands.top import top_command
from podsla.commands.uninstall import uninstall_command
from podsla.commands.webhook import webhook_command
from podsla.commands.why import why_command
from podsla.output import INVALID, USAGE, ClusterError, note, print_problems

_EPILOG = """\b
Exit codes:
  0  done
  1  a pod was refused, a catalogue has lint errors, or a diff breaks running pods
  2  the command line itself was wrong
  3  a file cannot be used; every problem is printed, and nothing was taken over; or a cluster cannot be reached

\b
First steps:
  podsla classes                                     what a pod may ask for
  podsla admit -f deploy.yaml --class net-intensive  what a pod would get
  podsla explain -f deploy.yaml                      why, and what was near
  podsla why POD                                     in a cluster: why it is where it is, or nowhere
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="podsla", prog_name="podsla")
def cli() -> None:
    """Pod-level SLA classes: a pod names a class, and gets the sandbox size that holds it.

    Works without a cluster, too: on the shipped catalogue, or on yours.
    """


for command in (
    admit_command,
    explain_command,
    classes_command,
    targets_command,
    catalog_group,
    why_command,
    top_command,
    doctor_command,
    webhook_command,
    controller_command,
    agent_command,
    gpu_group,
    uninstall_command,
    completion_command,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every expected failure ends in a message and an exit code, never in a traceback."""
    program = "kubectl podsla" if Path(sys.argv[0]).name.startswith("kubectl-") else "podsla"  # kubectl's plugin
    try:
        code = cli.main(args=arguments, prog_name=program, complete_var="_PODSLA_COMPLETE", standalone_mode=False)
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.ClickException as error:
        error.show()
        code = USAGE
    except click.Abort:
        code = 130
    except InvalidError as error:
        print_problems(error)
        code = INVALID
    except ClusterError as error:
        note(str(error), style="bad")
        code = INVALID
    except (BrokenPipeError, SystemExit) as end:  # click exits by itself: after a completion, and on a broken pipe
        if not isinstance(end, SystemExit) or end.code:  # the reader has seen enough, as in `podsla … | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)

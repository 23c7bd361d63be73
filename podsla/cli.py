"""The command line: which commands there are, and how each ends."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from catalog.problems import InvalidError
from podsla.commands.groups import Lazy
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


_MODULES = {
    "admit": "admit",
    "agent": "agent",
    "catalog": "groups",
    "classes": "classes",
    "completion": "completion",
    "controller": "controller",
    "doctor": "doctor",
    "explain": "explain",
    "gpu": "groups",
    "targets": "classes",
    "top": "top",
    "uninstall": "uninstall",
    "webhook": "webhook",
    "why": "why",
}


@click.group(
    cls=Lazy,
    modules=_MODULES,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="podsla", prog_name="podsla")
def cli() -> None:
    """Pod-level SLA classes: a pod names a class, and gets the sandbox size that holds it.

    Works without a cluster, too: on the shipped catalogue, or on yours.
    """


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

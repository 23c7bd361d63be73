"""EDGE: `podsla completion`: what a shell, or kubectl for one, needs to complete commands, options and names."""

import sys
from collections.abc import Sequence
from typing import Final

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

_VARIABLE: Final = "_PODSLA_COMPLETE"
FILES, NO_FILES = 0, 4  # what the shell does beyond: cobra's directives, which kubectl reads


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print a script that completes podsla's commands, options, and names of a cluster's objects.

    `kubectl podsla` needs none: where kubectl's own completion is on, it finds kubectl_complete-podsla on the PATH.

    \b
      source <(podsla completion bash)
      podsla completion fish > ~/.config/fish/completions/podsla.fish
    """
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(made(context.find_root().command, {}, "podsla", _VARIABLE).source())


def plugin_main(words: Sequence[str] | None = None) -> None:
    """Complete the last of some words for `kubectl podsla`: what kubectl calls as kubectl_complete-podsla."""
    from podsla.cli import cli

    *before, word = words if words is not None else sys.argv[1:] or [""]
    found = ShellComplete(cli, {}, "podsla", _VARIABLE).get_completions(before, word)
    for line in render(found):
        click.echo(line)


def render(found: Sequence[CompletionItem]) -> list[str]:
    """Write completions as cobra does: each with its help after a tab, and at the end a directive."""
    plain = [one for one in found if one.type == "plain"]
    lines = [f"{one.value}\t{one.help}" if one.help else str(one.value) for one in plain]
    return [*lines, f":{NO_FILES if plain else FILES}"]

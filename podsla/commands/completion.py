"""`podsla completion`: what a shell needs to complete commands and options."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print a script that completes podsla's commands and options.

    \b
      source <(podsla completion bash)
      podsla completion fish > ~/.config/fish/completions/podsla.fish
    """
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(made(context.find_root().command, {}, "podsla", "_PODSLA_COMPLETE").source())

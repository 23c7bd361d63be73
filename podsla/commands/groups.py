"""EDGE: groups of commands. The module of a command is imported when it is called: together they take half a second."""

import gc
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from catalog.problems import nearest


class Lazy(click.Group):
    """A group that finds the command NAME as `NAME_command` in the module of `podsla.commands` that *modules* names."""

    def __init__(self, *arguments: Any, modules: Mapping[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List names, in the order in which help shows them."""
        return sorted(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None: there is none of the name."""
        if cmd_name not in self.modules:
            return None
        gc.disable()  # a module is for good: nothing of it is garbage, and looking for some takes a tenth of the time
        try:
            module = import_module(f"podsla.commands.{self.modules[cmd_name]}")
        finally:
            gc.enable()
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named first; where there is none, say which may have been meant."""
        if args[0] not in self.modules and not args[0].startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"no such command {args[0]!r}; {nearest(args[0], self.modules)}")
        return super().resolve_command(ctx, args)


@click.group(
    "catalog",
    cls=Lazy,
    modules={
        "apply": "apply",
        "diff": "diff",
        "export": "catalog",
        "history": "revisions",
        "import": "catalog",
        "lint": "catalog",
        "rollback": "revisions",
        "show": "catalog",
        "status": "revisions",
    },
)
def catalog_command() -> None:
    """Check, show, compare, import and export spec catalogues; publish and watch them in a cluster."""


@click.group(
    "gpu",
    cls=Lazy,
    modules={
        "attach": "lend",
        "budget": "budget",
        "detach": "lend",
        "hold": "gpu",
        "inspect": "gpu",
        "list": "lend",
        "release": "lend",
        "run": "lend",
        "timeline": "lend",
        "wait": "lend",
    },
)
def gpu_command() -> None:
    """GPUs that running pods borrow."""

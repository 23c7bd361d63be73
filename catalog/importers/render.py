"""A catalogue document → text with one line for each size, so that it reads and diffs as a table. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import yaml

_WIDEST: Final = 2**31 - 1  # libyaml keeps the width in a C int; lines are never folded


class _FlowDumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _FlowDumper, text: str) -> yaml.ScalarNode:
    """Escape line breaks rather than fold them: an entry stays on its line."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style=None if text.isprintable() else '"')


_FlowDumper.add_representer(str, _represent_text)
# Subclasses of str are text too: numbers that `catalog.yamltext` keeps as they were written are quoted.
_FlowDumper.add_multi_representer(str, _represent_text)


def render_catalog(document: Mapping[str, Any], header: str) -> str:
    """
    Write a `SpecCatalog` document: each size, class and source on a line of its own.

    Args:
        document: As an importer makes it.
        header: What stands above it, as comments.
    """
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    lines += [f"{key}: {_flow(value)}" for key, value in document.items() if key != "spec"]
    lines.append("spec:")
    for key, value in document["spec"].items():
        if isinstance(value, list) and value:
            lines.append(f"  {key}:")
            lines += [f"  - {_flow(item)}" for item in value]
        else:
            lines.append(f"  {key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """Write a value in flow style; in a list, since a text alone would get an end-of-document mark."""
    text: str = yaml.dump(
        [value], Dumper=_FlowDumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=_WIDEST
    )
    return text.strip()[1:-1]

"""Published figures of a provider (CSV rows) → a `SpecCatalog` document, and that document → text. Pure.

Only what a provider promises becomes a figure: bursts and turbo go to the fields that are shown, and what is not a
whole number of base units is rounded down.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from catalog.importers.ec2 import HEADER as EC2_HEADER
from catalog.importers.ec2 import import_ec2
from catalog.importers.ecs import HEADER as ECS_HEADER
from catalog.importers.ecs import import_ecs
from catalog.importers.render import render_catalog

__all__ = ["IMPORTERS", "Importer", "import_ec2", "import_ecs", "render_catalog"]


@dataclass(frozen=True, slots=True)
class Importer:
    """
    One provider.

    Attributes:
        read: (rows, name of the catalogue, name of the file for messages) to a document.
        header: What a reader of the rendered file must know, as text without comment marks.
    """

    read: Callable[[Iterable[Mapping[str, str]], str, str], dict[str, Any]]
    header: str


IMPORTERS: Final[Mapping[str, Importer]] = {
    "ec2": Importer(import_ec2, EC2_HEADER),
    "ecs": Importer(import_ecs, ECS_HEADER),
}

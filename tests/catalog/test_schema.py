"""The schemas themselves: cerberus is spared checking them at every start, so they are checked here."""

import importlib
import pkgutil
from copy import deepcopy
from types import ModuleType

import cerberus
import pytest

import attach
import catalog
from catalog.schema import Rules


def schemas(*packages: ModuleType) -> dict[str, Rules]:
    """Find every schema of these packages, by module and name."""
    found = {}
    for package in packages:
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(each.name)
            own = {name: value for name, value in vars(module).items() if isinstance(value, Rules)}
            found.update({f"{module.__name__}.{name}": value for name, value in own.items()})
    return found


SCHEMAS = schemas(catalog, attach)


def test_the_schemas_are_found() -> None:
    assert {
        "catalog.schema.CATALOG_HEAD",
        "catalog.target_reader.TARGET",
        "attach.inventory.INVENTORY",
    } <= SCHEMAS.keys()


@pytest.mark.parametrize("where", SCHEMAS)
def test_cerberus_takes_it_for_a_schema_and_has_nothing_to_expand(where: str) -> None:
    fields = SCHEMAS[where].fields
    assert dict(cerberus.Validator(deepcopy(fields)).schema) == fields

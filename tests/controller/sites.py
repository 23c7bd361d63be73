"""
Where the controller's code writes to the API server: as its source says, and as the stack of a write shows.

Events are left out: nothing ever depends on them.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import controller

FOLDER: Final = Path(controller.__file__).parent
METHODS: Final = {"create", "replace", "patch", "delete", "call"}  # of an Api
HELPERS: Final = {"patch_version", "delete_seen"}  # write for whoever calls them


class Site(NamedTuple):
    """A line of a module of the controller, by its name."""

    module: str
    line: int


class Write(NamedTuple):
    """A call in the source that writes."""

    module: str
    first: int
    last: int
    text: str

    def is_among(self, sites: set[Site]) -> bool:
        """Whether one of the sites is in this call."""
        return any(site.module == self.module and self.first <= site.line <= self.last for site in sites)


def writes(*modules: str) -> Iterator[Write]:
    """Find every write in modules of the controller."""
    for module in modules:
        tree = ast.parse((FOLDER / f"{module}.py").read_text())
        helping = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in HELPERS]
        inside = {id(node) for helper in helping for node in ast.walk(helper)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _is_write(node) and id(node) not in inside:
                yield Write(module, node.lineno, node.end_lineno or node.lineno, ast.unparse(node))


def modules() -> tuple[str, ...]:
    """Name every module of the controller."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.py")))


def _is_write(call: ast.Call) -> bool:
    match call.func:
        case ast.Name(id=name):
            return name in HELPERS
        case ast.Attribute(value=value, attr="call"):
            return _is_api(value) and not (isinstance(call.args[0], ast.Constant) and call.args[0].value == "GET")
        case ast.Attribute(value=value, attr=attr):
            return attr in METHODS and _is_api(value)
    return False


def _is_api(value: ast.expr) -> bool:
    """Whether it is a connection by its name, as `api` and `self.world.api` are."""
    return ast.unparse(value).split(".")[-1] == "api"


def site_of_caller() -> Site:
    """Find the innermost line of the controller's code on the stack."""
    frame = sys._getframe(1)
    while Path(frame.f_code.co_filename).parent != FOLDER or frame.f_code.co_name in HELPERS:
        assert frame.f_back is not None, "somebody else writes"
        frame = frame.f_back
    return Site(Path(frame.f_code.co_filename).stem, frame.f_lineno)

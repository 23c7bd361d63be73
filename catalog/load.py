"""EDGE: catalogue and target files on disk."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from catalog.model import Catalog
from catalog.problems import InvalidError, Problem, nearest
from catalog.reader import read_catalog
from catalog.target import Target
from catalog.target_reader import read_target
from catalog.yamltext import Document, parse_documents

MAX_FILE_BYTES: Final = 64 << 20
SUFFIXES: Final = {".yaml", ".yml", ".json"}
_HERE: Final = Path(__file__).parent
SHIPPED_CATALOG: Final = _HERE / "shipped"
_TARGETS: Final = _HERE / "targets"
DEFAULT_TARGET: Final = "kubernetes"


def load_catalog(paths: Iterable[Path]) -> Catalog:
    """
    Read catalogue files, or folders of them, as one catalogue.

    Raises:
        InvalidError: Some file cannot be read or is wrong; every problem of every file is named.
    """
    return read_catalog(load_documents(paths))


def load_documents(paths: Iterable[Path], *, recursive: bool = False) -> list[Document]:
    """
    Read every YAML or JSON document of files and folders; a file in a folder may be empty.

    Raises:
        InvalidError: Some file cannot be read or is no YAML; every problem of every file is named.
    """
    problems: list[Problem] = []
    documents: list[Document] = []
    for path in paths:
        for file in _files(path, problems, recursive=recursive):
            try:
                found = parse_documents(read_text(file), str(file))
            except InvalidError as error:
                problems += error.problems
                continue
            documents += [document for document in found if document.data is not None]
            if file == path and all(document.data is None for document in found):
                problems.append(Problem(str(file), 0, "", "is empty; write a document or remove the file"))
    if problems:
        raise InvalidError(problems)
    return documents


def _files(path: Path, problems: list[Problem], *, recursive: bool) -> Iterator[Path]:
    if path.is_dir():
        inside = path.rglob("*") if recursive else path.iterdir()
        files = sorted(file for file in inside if file.suffix in SUFFIXES and file.is_file())
        if not files:
            problems.append(Problem(str(path), 0, "", "the folder holds no .yaml, .yml or .json file"))
        yield from files
    else:
        yield path


def read_text(file: Path) -> str:
    """
    Read a file as UTF-8.

    Raises:
        InvalidError: It is missing, unreadable, too large, or no text.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            limit = f"is larger than {MAX_FILE_BYTES >> 20} MiB; split it"
            raise InvalidError([Problem(str(file), 0, "", limit)])
        return content.decode("utf-8-sig")
    except OSError as error:
        raise InvalidError([Problem(str(file), 0, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start}); save it as UTF-8"
        raise InvalidError([Problem(str(file), 0, "", message)]) from None


def shipped_catalogs() -> dict[str, Path]:
    """List the catalogues that come with podsla, by the name that stands for each file."""
    return {file.stem: file for file in sorted(SHIPPED_CATALOG.glob("*.yaml"))}


def shipped_targets() -> dict[str, Path]:
    """List the targets that come with podsla."""
    return {file.stem: file for file in sorted(_TARGETS.glob("*.yaml"))}


def load_target(name: str) -> Target:
    """
    Read a target: one that is shipped, by name, or a file.

    Raises:
        InvalidError: There is no such target, or the file is wrong.
    """
    return read_target(target_documents(name))


def target_documents(name: str) -> list[Document]:
    """
    Load the document of a target: one that is shipped, by name, or a file.

    Raises:
        InvalidError: There is no such target, or the file is no YAML.
    """
    shipped = shipped_targets()
    if name not in shipped and "/" not in name and "." not in name:
        message = f"is no shipped target and no file; {nearest(name, shipped)}"
        raise InvalidError([Problem(name, 0, "", message)])
    return load_documents([shipped.get(name, Path(name))])

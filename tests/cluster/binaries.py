"""EDGE: finds the programs that clusters run, or builds them once from the Go modules pinned beside this file."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tests.cluster.pins import (
    BINARIES,
    CRD_FOLDERS,
    FOLDERS,
    PINS,
    STAGE_FILES,
    STAGES,
    Binary,
    Pin,
    time_left_s,
)
from tests.cluster.state import ClusterError

_PINS: Final = Path(__file__).parent / "pins"
_GO_PLACES: Final = ("/usr/local/go/bin", "/usr/lib/go/bin")
_POLL_S: Final = 0.2
_OUTPUT_TAIL: Final = 20


def find(name: str) -> Path:
    """Find one program, or build it; `kwok-stages` is a folder."""
    return ensure([name])[name]


def ensure(names: Iterable[str]) -> dict[str, Path]:
    """
    Find programs, and build those that are missing with a progress display on standard error.

    Raises:
        ClusterError: Go is missing or the build fails; a name of `TEST_ASSET_…` leads nowhere.
    """
    wanted = list(names)
    if missing := [name for name in wanted if _look_up(name) is None]:
        with _build_lock():
            _build([name for name in missing if _look_up(name) is None])
    return {name: path for name in wanted if (path := _look_up(name)) is not None}


def folder(name: str) -> Path:
    """The cache folder of the module that a program is built from, as it is pinned."""
    module = FOLDERS[name][0] if name in FOLDERS else BINARIES[name][0].module
    pinned, kept = f"{module}-{_pin_hash(module)}", cache_folder() / "binaries"
    if version := _go_version():
        return kept / f"{pinned}-{version}"
    built = sorted(kept.glob(f"{pinned}-go*"))  # without Go, what an earlier one built will do
    return built[-1] if built else kept / f"{pinned}-none"


def cache_folder() -> Path:
    """Where what took long to make is kept: `PODSLA_CACHE`, else below `XDG_CACHE_HOME`, else `~/.cache`."""
    given = os.environ.get("PODSLA_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(given) if given else Path(base) / "podsla").absolute()


def _look_up(name: str) -> Path | None:
    """The order of envtest: the program's own variable, the assets' folder, the cache."""
    variable = f"TEST_ASSET_{name.replace('-', '_').upper()}"
    if given := os.environ.get(variable):
        if not Path(given).exists():
            raise ClusterError(f"{variable} names {given}, which does not exist; correct it, or leave it out")
        return Path(given).absolute()
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    places = [*([Path(assets).absolute()] if assets else []), folder(name)]
    return next((place / name for place in places if (place / name).exists()), None)


@cache
def _pin_hash(module: str) -> str:
    pin = next(pin for pin in PINS if pin.module == module)
    summed = hashlib.sha256(repr((pin.flags, pin.cgo, [(b.name, b.package) for b in pin.binaries])).encode())
    for file in sorted((_PINS / module).iterdir()):
        summed.update(f"{file.name}\0".encode() + file.read_bytes())
    return summed.hexdigest()[:16]


@cache
def _go() -> str | None:
    return shutil.which("go", path=os.pathsep.join([os.environ.get("PATH", ""), *_GO_PLACES]))


@cache
def _go_version() -> str | None:
    go = _go()
    if go is None:
        return None
    asked = subprocess.run([go, "env", "GOVERSION"], cwd=_PINS / "etcd", capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None


@contextmanager
def _build_lock() -> Iterator[None]:
    """Let one launcher build at a time; the next finds what the first has built."""
    kept = cache_folder() / "binaries"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            Console(stderr=True).print("another build of the cluster's programs is under way; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(names: Sequence[str]) -> None:
    if not names:
        return
    if _go() is None:
        raise ClusterError(
            f"{', '.join(names)}: not in {cache_folder()} or KUBEBUILDER_ASSETS, and Go, which builds them, is not "
            f"there; install Go 1.26 (https://go.dev/dl) and put it on PATH, or set KUBEBUILDER_ASSETS"
        )
    for name in names:
        folder(name).mkdir(parents=True, exist_ok=True)
    todo = [BINARIES[name] for name in names if name in BINARIES]
    with _Display([binary for _, binary in todo]) as display:
        for pin, binary in todo:
            display.begin(binary)
            _build_one(pin, binary, display)
            display.end()
    for name in (name for name in names if name in FOLDERS):
        made = folder(name) / f".{name}.{os.getpid()}"
        made.mkdir()
        copy = _copy_stages if name == STAGES else partial(_copy_crds, CRD_FOLDERS[name])
        copy(_module_folder(*FOLDERS[name]), made)
        made.replace(folder(name) / name)


class _Display:
    """What is being built and how long the rest takes: a bar on a terminal, else a line a program."""

    def __init__(self, binaries: Sequence[Binary]) -> None:
        self.console = Console(stderr=True)
        self.waiting, self.built = list(binaries), list[tuple[int, float]]()
        self.running, self.began_s = Binary("", "", 0), 0.0
        shown = (TextColumn("building {task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
        self.progress = Progress(
            *shown, TimeElapsedColumn(), console=self.console, transient=True, disable=not self.console.is_terminal
        )
        self.task: TaskID = self.progress.add_task("", total=sum(binary.cold_s for binary in binaries), left="")

    def __enter__(self) -> "_Display":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def begin(self, binary: Binary) -> None:
        """Say which program comes now."""
        self.running, self.began_s = self.waiting.pop(0), time.monotonic()
        self.progress.update(self.task, description=binary.name)
        if not self.console.is_terminal:
            self.console.print(f"building {binary.name} ({len(self.waiting)} more after it): {self._left()}")

    def tick(self) -> None:
        """Move on while a program is built."""
        so_far_s = min(time.monotonic() - self.began_s, self.running.cold_s)
        done_s = sum(cold for cold, _ in self.built) + so_far_s
        self.progress.update(self.task, completed=done_s, left=self._left())

    def end(self) -> None:
        """Count the program as built."""
        self.built.append((self.running.cold_s, time.monotonic() - self.began_s))

    def _left(self) -> str:
        running = (self.running.cold_s, time.monotonic() - self.began_s)
        left_s = time_left_s(self.built, running, (binary.cold_s for binary in self.waiting))
        return f"about {left_s / 60:.0f} min left" if left_s >= 90 else f"about {left_s:.0f} s left"


def _build_one(pin: Pin, binary: Binary, display: _Display) -> None:
    """Build into a temporary name and rename, so that a half-built program is never found."""
    made = folder(binary.name) / f".{binary.name}.{os.getpid()}"
    command = [_go() or "go", "build", *pin.flags, "-o", str(made), binary.package]
    env = {**os.environ, "CGO_ENABLED": str(int(pin.cgo)), "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    with tempfile.TemporaryFile("w+") as output:
        running = subprocess.Popen(command, cwd=_PINS / pin.module, env=env, stdout=output, stderr=output)
        try:
            while running.poll() is None:
                display.tick()
                time.sleep(_POLL_S)
        finally:
            running.terminate()  # an interrupted launcher leaves no build behind
            running.wait()
        output.seek(0)
        said = output.read().splitlines()[-_OUTPUT_TAIL:]
    if running.returncode:
        hint = "; it is linked to libseccomp: install libseccomp-dev, pkg-config and gcc" if pin.cgo else ""
        shown = "\n".join(f"  {line}" for line in said)
        raise ClusterError(f"cannot build {binary.name} in {_PINS / pin.module}{hint}; go says:\n{shown}")
    made.replace(folder(binary.name) / binary.name)


def _module_folder(pin: str, module: str) -> Path:
    """Find a module's files, downloaded where they are not there yet."""
    command = [_go() or "go", "mod", "download", "-json", module]
    asked = subprocess.run(command, cwd=_PINS / pin, capture_output=True, text=True, check=False)
    told = json.loads(asked.stdout or "{}")
    if "Dir" not in told:
        raise ClusterError(f"cannot find the files of {module}; go says: {told.get('Error') or asked.stderr.strip()}")
    return Path(told["Dir"])


def _copy_stages(module: Path, into: Path) -> None:
    """Keep kwok's stage files beside it, so that it runs where there is no Go."""
    for stage in STAGE_FILES:
        texts = [file.read_text() for file in sorted((module / "kustomize" / "stage" / stage).glob("*.yaml"))]
        stages = [text for text in texts if "kind: Stage" in text]
        (into / f"{stage.replace('/', '-')}.yaml").write_text("\n---\n".join(stages))


def _copy_crds(places: Iterable[str], module: Path, into: Path) -> None:
    """Keep CRDs beside what reads them."""
    for file in (file for place in places for file in sorted((module / place).glob("*.yaml"))):
        (into / file.name).write_bytes(file.read_bytes())

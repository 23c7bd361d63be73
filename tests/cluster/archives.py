"""
EDGE: builds the images that pods of the tests run, with no registry and no daemon; and the disk of a virtual machine.

An image is a docker-archive tar in the cache, named by the hash of all that goes into it: what exists is never rebuilt.
"""

import ast
import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from tests.cluster import binaries
from tests.cluster.state import ClusterError

REPOSITORY: Final = Path(__file__).resolve().parents[2]
RECIPES: Final = Path(__file__).resolve().parent / "image"

PODSLA: Final = "docker.io/podsla/podsla:dev"
PAUSE: Final = "docker.io/local/pause:1"
AGNHOST: Final = "docker.io/local/agnhost:1"
BASE = "docker.io/podsla/base:1"

BUILD_DEADLINE_S: Final = 900
FORM: Final = b"1"  # counts what this module itself changes in what it writes
# How long the slow ones take on two cores; of podsla's image half, where only sources have changed.
COLD_S: Final = {"vm": 60, "base": 20, "compiler": 20, "podsla": 35, "store": 30}
KEPT_PER_IMAGE: Final = 2  # a source change makes a new archive of 200 MB


def build(cache: Path) -> Path:
    """
    Build the image of webhook, controller and agent from the Containerfile, over a base of Debian packages.

    Base and dependencies are layers of their own: a change of our sources costs seconds.
    """
    base, compiler = _root(cache, "base"), _root(cache, "compiler")
    return cached(cache, "podsla", [*build_context(), base, compiler], lambda out: _buildah(cache, base, compiler, out))


def pause(cache: Path) -> Path:
    """Build the image that holds a pod's namespaces open."""
    source = RECIPES / "pause"

    def make(out: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            binary = Path(folder) / "pause"
            flags = ["-trimpath", "-ldflags", "-s -w"]
            call(["go", "build", *flags, "-o", str(binary), "."], cwd=source, env={"CGO_ENABLED": "0"})
            write_archive(out, PAUSE, _layer_of(binary), {"Entrypoint": ["/pause"], "User": "65535:65535"})

    return cached(cache, "pause", [source], make)


def agnhost(cache: Path) -> Path:
    """Wrap Kubernetes' own test server into an image with nothing else in it."""
    binary = binaries.find("agnhost")
    config = {"Entrypoint": ["/agnhost"], "Cmd": ["pause"]}
    return cached(cache, "agnhost", [binary], lambda out: write_archive(out, AGNHOST, _layer_of(binary), config))


def virtual_machine(cache: Path) -> Path:
    """Make the folder that a virtual machine boots from: `vmlinuz`, `initrd.img` and `root.img`, a raw disk."""
    recipe = RECIPES / "vm"

    def make(out: Path) -> None:
        out.mkdir()
        call([str(recipe / "build"), str(out)])

    return cached(cache, "vm", [recipe], make, suffix="")


def summary(archive: Path) -> str:
    """Say how large an image is and how much of it each layer takes, the oldest first."""
    with tarfile.open(archive) as tar:
        manifest = json.loads(member(tar, "manifest.json"))[0]
        sizes = [tar.getmember(name).size for name in manifest["Layers"]]
    layers = " + ".join(f"{size / 1e6:.1f}" for size in sizes)
    return f"{manifest['RepoTags'][0]}: {sum(sizes) / 1e6:.1f} MB unpacked ({layers})"


def _root(cache: Path, name: str) -> Path:
    """Make an image of Debian packages by the recipe of its name."""
    recipe = RECIPES / name

    def make(out: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root.tar"
            call([str(recipe), str(root)])
            config = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]}
            write_archive(out, f"docker.io/podsla/{name}:1", root.read_bytes(), config)

    return cached(cache, name, [recipe], make)


def build_context() -> list[Path]:
    """List what the image is built from: the entries that .dockerignore lets through, and the recipe."""
    ignore = REPOSITORY / ".dockerignore"
    kept = [line[1:].strip() for line in ignore.read_text().splitlines() if line.startswith("!")]
    return [REPOSITORY / "Containerfile", ignore, *(REPOSITORY / name for name in kept if (REPOSITORY / name).exists())]


def _buildah(cache: Path, base: Path, compiler: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pip_config, volumes = _pip_settings(Path(folder))
        # Mounts are made in a namespace of their own and end with it, however the build ends.
        buildah = ["unshare", "--mount", "buildah", f"--root={cache / 'buildah'}", f"--runroot={folder}/run"]
        options = ["--isolation=chroot", "--network=host", "--layers"]
        options += [f"--build-arg={n}=docker-archive:{path}" for n, path in (("BASE", base), ("COMPILER", compiler))]
        mounts = [f"--secret=id=pip,src={pip_config}", *(f"--volume={path}:{path}:ro" for path in volumes)]
        call([*buildah, "build", *options, *mounts, f"--tag={PODSLA}", "--file=Containerfile", "."], cwd=REPOSITORY)
        call([*buildah, "push", PODSLA, f"docker-archive:{out}:{PODSLA}"])


def _pip_settings(folder: Path) -> tuple[Path, list[str]]:
    """Write this machine's pip settings, environment included, as one file; list the paths that they name."""
    listed = call([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    settings: dict[str, str] = {}
    for line in sorted(listed, key=lambda line: line.startswith(":env:")):  # the environment wins
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = str(ast.literal_eval(value))
    file = folder / "pip.conf"
    file.touch(mode=0o600)
    lines = [f"{key} = {' '.join(value.split())}\n" for key, value in settings.items()]
    file.write_text("[global]\n" + "".join(lines))
    words = {word for value in settings.values() for word in value.split()}
    return file, sorted(word for word in words if word.startswith("/") and Path(word).exists())


def cached(
    cache: Path, name: str, inputs: Iterable[Path], make: Callable[[Path], None], *, suffix: str = ".tar"
) -> Path:
    """Return what *make* makes of *inputs*, made unless it is there; one process at a time makes, the rest wait."""
    folder = cache / "images"
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{name}-{_digest(inputs)}{suffix}"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            seconds = COLD_S.get(name, 1)
            Console(stderr=True).print(f"making {name}, about {seconds} s; kept in {folder}", soft_wrap=True)
            part = folder / f"{name}.part"
            _remove(part)  # of a build that was killed
            make(part)
            part.rename(made)
        made.touch()
        for old in sorted(folder.glob(f"{name}-*{suffix}"), key=lambda path: path.stat().st_mtime)[:-KEPT_PER_IMAGE]:
            _remove(old)
    return made


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _digest(inputs: Iterable[Path]) -> str:
    digest = hashlib.sha256(FORM)
    for top in inputs:
        files = sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top]
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(f"{top.name}/{file.relative_to(top)}\0{file.stat().st_size}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _layer_of(binary: Path) -> bytes:
    """Make a layer of one program at the root."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo(binary.name)
        entry.size, entry.mode = binary.stat().st_size, 0o755
        with binary.open("rb") as content:
            tar.addfile(entry, content)
    return layer.getvalue()


def write_archive(out: Path, name: str, layer: bytes, config: Mapping[str, Any]) -> None:
    """Write an image of one layer in the form that `docker save` writes."""
    made = {"created": "1970-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "config": config}
    root = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    image = json.dumps({**made, "rootfs": root, "history": [{"created": made["created"]}]}).encode()
    config_name = f"{hashlib.sha256(image).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(out, "w") as tar:
        for path, content in (
            ("layer.tar", layer),
            (config_name, image),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def member(tar: tarfile.TarFile, name: str) -> bytes:
    """Read a file of an open tar."""
    content = tar.extractfile(name)
    if content is None:
        raise ClusterError(f"the archive has no file {name}")
    return content.read()


def call(command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """
    Run a tool to its end.

    Returns:
        What it said.

    Raises:
        ClusterError: It is missing or failed; its last lines are in the message.
    """
    try:
        running = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]} is missing: run tests/cluster/install-packages") from error
    try:
        output, _ = running.communicate(timeout=BUILD_DEADLINE_S)
    except BaseException as error:  # also an interrupt: a build leaves nothing running behind
        os.killpg(running.pid, signal.SIGKILL)
        if isinstance(error, subprocess.TimeoutExpired):
            raise ClusterError(f"{' '.join(command[:4])} … did not end within {BUILD_DEADLINE_S} s") from error
        raise
    if running.returncode:
        last = "\n".join(output.splitlines()[-20:])
        raise ClusterError(f"{' '.join(command[:4])} … ended with {running.returncode}; its last lines:\n{last}")
    return output

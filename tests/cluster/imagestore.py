"""
EDGE: how images get into a virtual machine without being unpacked there, which software emulation makes slow.

The images of the launcher come on a disk that was filled here; of later ones only the layers that are new are sent.
"""

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.cluster import binaries
from tests.cluster.archives import RECIPES, cached, call, member
from tests.cluster.nodeconfig import Node

_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"


def filled_disk(cache: Path, node: Node, archives: Sequence[Path]) -> Path:
    """Make a disk, labelled `store`, with *node*'s containerd folder, in which *archives* are unpacked."""

    def make(out: Path) -> None:
        programs = binaries.ensure(["containerd", "ctr", "containerd-shim-runc-v2", "runc"])
        with tempfile.TemporaryDirectory(prefix="podsla-", dir="/run") as run, tempfile.TemporaryDirectory() as config:
            data = out.with_name(f"{out.name}-data")  # on the cache's file system: /tmp may be one without overlays
            here = replace(node, config=Path(config), data=data, run=Path(run))
            (here.config / "containerd.toml").write_text(here.files()["containerd.toml"])
            (here.config / "bin").mkdir()
            for name, path in programs.items():
                (here.config / "bin" / name).symlink_to(path)
            shutil.rmtree(data, ignore_errors=True)
            script = ["unshare", "--mount", str(RECIPES / "store"), str(out), config, str(here.socket), str(data)]
            for number, archive in enumerate(archives):
                thin(archive, (), here.config / f"{number}.tar")
            call([*script, *(f"{config}/{number}.tar" for number in range(len(archives)))])
            shutil.rmtree(data)

    return cached(cache, "store", [RECIPES / "store", Path(__file__), *archives], make, suffix=".img")


def thin(archive: Path, present: Collection[str], out: Path) -> None:
    """
    Write the image in *archive*, a docker-archive tar, without the layers that the receiver has.

    Args:
        present: Digests of what its content store holds, as `ctr content list --quiet` prints them.
        out: The tar to write, in OCI's image layout.
    """
    with tarfile.open(archive) as tar, tarfile.open(out, "w") as written:
        listed, config, manifest = _read(tar)
        named = {"annotations": {"io.containerd.image.name": listed["RepoTags"][0]}}
        index = {"schemaVersion": 2, "manifests": [{**_described(_MANIFEST, manifest), **named}]}
        _add(written, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(written, "index.json", json.dumps(index).encode())
        for blob in (config, manifest):
            _add(written, _path(_digest(blob)), blob)
        for name, layer in zip(listed["Layers"], json.loads(manifest)["layers"], strict=True):
            if layer["digest"] not in present:
                entry = tar.getmember(name)
                content = tar.extractfile(entry)
                entry.name = _path(layer["digest"])
                written.addfile(entry, content)


def identity(archive: Path) -> tuple[str, str]:
    """The name of the image in *archive*, and the digest of its manifest: what containerd lists it by."""
    with tarfile.open(archive) as tar:
        listed, _, manifest = _read(tar)
    return listed["RepoTags"][0], _digest(manifest)


def _read(tar: tarfile.TarFile) -> tuple[dict[str, Any], bytes, bytes]:
    """Read what the archive says of its image, the image's configuration, and make its manifest."""
    listed: dict[str, Any] = json.loads(member(tar, "manifest.json"))[0]
    config = member(tar, listed["Config"])
    digests = json.loads(config)["rootfs"]["diff_ids"]  # layers are not compressed: their content is their blob
    layers = [
        {"mediaType": _LAYER, "digest": digest, "size": tar.getmember(name).size}
        for name, digest in zip(listed["Layers"], digests, strict=True)
    ]
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": _described(_CONFIG, config), "layers": layers}
    return listed, config, json.dumps(manifest).encode()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _described(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))

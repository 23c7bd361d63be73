"""EDGE: builds the images that pods of the tests run, and loads them into the real nodes of a cluster."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.cluster import binaries, host, vm
from tests.cluster.archives import AGNHOST, PAUSE, PODSLA, agnhost, build, pause, summary
from tests.cluster.profile import Profile
from tests.cluster.state import Cluster, ClusterError

__all__ = ["AGNHOST", "PAUSE", "PODSLA", "agnhost", "build", "load", "pause", "summary"]

_BUILDERS: Final[Mapping[str, Callable[[Path], Path]]] = {PODSLA: build, PAUSE: pause, AGNHOST: agnhost}


def load(cluster: Cluster, image: str) -> None:
    """
    Give an image to every real node of the cluster.

    Args:
        image: The path of a docker-archive tar, or the name of one of our own images, which is built if need be.

    Raises:
        ClusterError: The image is neither, or can't be built, or a node refuses it.
    """
    archive = _archive(image)
    if cluster.profile.host:
        host.import_image(cluster, archive)
    if cluster.profile.vm:
        vm.import_image(cluster, archive)


def prepare(profile: Profile) -> None:
    """Make what real nodes of the profile run, and is kept: images, and what a virtual machine boots from."""
    if profile.real:
        for image in _BUILDERS:
            _archive(image)
    if profile.vm:
        vm.prepare()


def _archive(image: str) -> Path:
    if Path(image).is_file():
        return Path(image).absolute()
    names = (image, f"docker.io/{image}", f"docker.io/library/{image}")
    builder = next((_BUILDERS[name] for name in names if name in _BUILDERS), None)
    if builder is None:
        raise ClusterError(f"image {image!r} is neither a file nor one of ours: {', '.join(_BUILDERS)}")
    return builder(binaries.cache_folder())

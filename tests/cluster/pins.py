"""What is built from which Go module, with which flags, and how long the first build takes. Builds nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.cluster.profile import Profile

_KUBERNETES: Final = "v1.37.0"
_VERSION: Final = "k8s.io/component-base/version.git"
_STRIP: Final = "-s -w"


@dataclass(frozen=True, slots=True)
class Binary:
    """
    A program to build.

    Attributes:
        name: Its file.
        package: The Go package of its main function.
        cold_s: Seconds of a first build on two cores, after those before it in `BINARIES`, which share packages.
    """

    name: str
    package: str
    cold_s: int


@dataclass(frozen=True, slots=True)
class Pin:
    """A Go module below `pins/` and what is built in it."""

    module: str
    binaries: tuple[Binary, ...]
    flags: tuple[str, ...] = ("-trimpath", "-ldflags", _STRIP)
    cgo: bool = False


def _kubernetes(*named: tuple[str, str, int]) -> tuple[Binary, ...]:
    return tuple(Binary(name, f"k8s.io/kubernetes/{folder}/{name}", cold_s) for folder, name, cold_s in named)


PINS: Final = (
    Pin(
        "kubernetes",
        _kubernetes(
            ("cmd", "kube-apiserver", 270),
            ("cmd", "kube-controller-manager", 90),
            ("cmd", "kube-scheduler", 10),
            ("cmd", "kubectl", 25),
            ("cmd", "kubelet", 25),
            ("cmd", "kube-proxy", 10),
            ("test/images", "agnhost", 5),
        ),
        (
            "-trimpath",
            "-ldflags",
            f"{_STRIP} -X {_VERSION}Version={_KUBERNETES} -X {_VERSION}Major=1 -X {_VERSION}Minor=37",
        ),
    ),
    Pin("etcd", (Binary("etcd", "go.etcd.io/etcd/server/v3", 20),)),
    Pin("kwok", (Binary("kwok", "sigs.k8s.io/kwok/cmd/kwok", 110),)),
    Pin(
        "containerd",
        tuple(
            Binary(name, f"github.com/containerd/containerd/v2/cmd/{name}", cold_s)
            for name, cold_s in (("containerd", 50), ("containerd-shim-runc-v2", 8), ("ctr", 5))
        ),
    ),
    Pin(
        "cni",
        tuple(
            Binary(path.partition("/")[2], f"github.com/containernetworking/plugins/plugins/{path}", 2)
            for path in ("main/bridge", "main/loopback", "ipam/host-local", "meta/portmap", "meta/bandwidth")
        ),
    ),
    Pin("karpenter", (Binary("karpenter", "sigs.k8s.io/karpenter/kwok", 135),)),
    Pin("kyverno", (Binary("kyverno", "github.com/kyverno/kyverno/cmd/kyverno", 300),)),  # no cluster's: a bench's
    Pin("cert-manager", (Binary("cert-manager", ".", 200),)),  # a test's
    # Without the tag every pod fails: "seccomp: config provided but seccomp not supported".
    Pin("runc", (Binary("runc", "github.com/opencontainers/runc", 13),), ("-trimpath", "-tags", "seccomp"), cgo=True),
)
STAGES: Final = "kwok-stages"  # a folder beside the binaries: how kwok plays nodes and pods
STAGE_FILES: Final = ("node/fast", "node/heartbeat-with-lease", "pod/fast")
KARPENTER_CRDS: Final = "karpenter-crds"  # likewise
KYVERNO_CRDS: Final = "kyverno-crds"
CERT_MANAGER_CRDS: Final = "cert-manager-crds"
CRD_FOLDERS: Final = {
    KARPENTER_CRDS: ("kwok/apis/crds", "pkg/apis/crds"),
    CERT_MANAGER_CRDS: ("deploy/crds",),
    KYVERNO_CRDS: tuple(
        f"config/crds/{group}" for group in ("kyverno", "policies.kyverno.io", "policyreport", "reports")
    ),
}
FOLDERS: Final = {
    STAGES: ("kwok", "sigs.k8s.io/kwok"),
    KARPENTER_CRDS: ("karpenter", "sigs.k8s.io/karpenter"),
    KYVERNO_CRDS: ("kyverno", "github.com/kyverno/kyverno"),
    CERT_MANAGER_CRDS: ("cert-manager", "github.com/cert-manager/cert-manager"),
}
"""What is copied out of a module: by its name, the pin and the Go module."""
BINARIES: Final = {binary.name: (pin, binary) for pin in PINS for binary in pin.binaries}
_CONTROL_PLANE: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
_RUNTIME: Final = ("containerd", "cni", "runc")
_REAL: Final = (
    *("kubelet", "kube-proxy", "agnhost"),
    *(binary.name for pin in PINS if pin.module in _RUNTIME for binary in pin.binaries),
)


def needed(profile: Profile) -> tuple[str, ...]:
    """What a cluster of this profile runs, in the order in which it is built."""
    wanted = {
        *_CONTROL_PLANE,
        *(("kwok", STAGES) if profile.kwok_nodes or profile.karpenter else ()),
        *(("karpenter", KARPENTER_CRDS) if profile.karpenter else ()),
        *(_REAL if profile.real else ()),
    }
    return tuple(name for name in (*BINARIES, *FOLDERS) if name in wanted)


def time_left_s(built: Sequence[tuple[int, float]], running: tuple[int, float], waiting: Iterable[int]) -> float:
    """
    Estimate how long the rest of a build takes.

    Args:
        built: Of each finished binary the known first-build seconds and the seconds that it took.
        running: The same of the one being built, with the seconds so far.
        waiting: The known seconds of those to come.
    """
    cold_s, so_far_s = running
    overdue = [running] if so_far_s > cold_s else []
    known_s, took_s = (sum(column) for column in zip((0, 0.0), *built, *overdue, strict=True))
    # Of small programs, linking and not compiling is what was seen.
    pace = took_s / known_s if overdue or known_s >= 30 else 1.0
    return max(cold_s * pace - so_far_s, 0.0) + sum(waiting) * pace

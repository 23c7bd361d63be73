"""
What brings the NVIDIA driver's libraries into a pod that borrows its GPUs, at its start and without a GPU. Pure.

They can't come later: mounts and the linker's cache are settled when a container is created. Three ways, by target:

- `env`: NVIDIA_VISIBLE_DEVICES=none, of which NVIDIA's runtime makes libraries and no GPU (`void`, or nothing, makes
  neither); it has to be the node's default runtime.
- `runtimeClass`: the same variables, and the RuntimeClass of that runtime.
- `cdi`: the CDI device nvidia.com/gpu=none, by the annotation that NRI plugins read: the kubelet names CDI devices to
  the runtime for device plugins and claims alone.

Source:
    NVIDIA Container Toolkit, "Specialized Configurations with Docker", for the variables; its pull request 1562 for
    `nvidia-ctk cdi generate --device=none`, and for `none`, which mode jit-cdi took for `all` before; its NRI plugin
    and containerd's device-injector, which both read cdi-devices.nri.io/pod.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from catalog.keys import GPU_PHASE_CONTAINER
from catalog.model import SlaClass
from catalog.pod import LIBRARY_VARIABLES, NOT_KNOWN, Container, Subject
from catalog.target import Libraries, Runtime, TargetGpu
from webhook.decision import ContainerWrite, Reason

VISIBLE, CAPABILITIES = LIBRARY_VARIABLES
VARIABLES: Final = ((VISIBLE, "none"), (CAPABILITIES, "compute,utility"))
CDI_KEY: Final = "cdi-devices.nri.io/pod"
CDI_DEVICES: Final = '["nvidia.com/gpu=none"]'
_NO_LIBRARIES: Final = ("", "void")


@dataclass(frozen=True, slots=True)
class Bringing:
    """
    What one pod gets for its libraries.

    Attributes:
        gpu: The target's; None: the pod borrows nothing.
    """

    subject: Subject
    gpu: TargetGpu | None

    @property
    def by(self) -> Libraries | None:
        """Which way; None: nothing is written."""
        return self.gpu.libraries if self.gpu is not None else None

    @property
    def runtime_class(self) -> str | None:
        """The RuntimeClass that the pod has to run on."""
        return self.gpu.runtime_class if self.gpu is not None and self.by is Libraries.RUNTIME_CLASS else None

    @property
    def _by_variables(self) -> bool:
        return self.by in (Libraries.ENV, Libraries.RUNTIME_CLASS)

    @property
    def _containers(self) -> Iterator[Container]:
        """Those that may get a GPU, where variables bring the libraries."""
        for container in self.subject.containers if self._by_variables else ():
            if container.name != GPU_PHASE_CONTAINER:
                yield container

    def variables(self) -> Iterator[ContainerWrite]:
        """Set on every container what it does not say itself: any of them may be the one that borrows."""
        for container in self._containers:
            own = dict(container.env)
            missing = tuple((name, text) for name, text in VARIABLES if name not in own)
            if missing:
                yield ContainerWrite(container.name, env=missing)

    def annotations(self) -> dict[str, str]:
        """Name the CDI device."""
        return {CDI_KEY: CDI_DEVICES} if self.by is Libraries.CDI else {}

    def conflict(self, sla_class: SlaClass, runtime: Runtime) -> tuple[Reason, str] | None:
        """Find what the pod or its class says that keeps the libraries out, or lets GPUs in that nobody lent."""
        needed, own = self.runtime_class, self.subject.runtime_class
        if needed is not None and (found := own or runtime.runtime_class) not in (None, needed):
            who = "the pod has" if own else f"class {sla_class.name!r} has"
            message = f"{who} runtimeClassName {found!r}, and the GPU driver's libraries come by {needed!r}; "
            cure = "remove it" if own else f"name a class without a runtime, or ask the owner of {sla_class.catalog!r}"
            return Reason.RUNTIME_CONFLICT, message + cure
        written = dict(self.subject.limits_written).get(CDI_KEY, CDI_DEVICES)
        if self.by is Libraries.CDI and written != CDI_DEVICES:
            message = f"annotation {CDI_KEY} is {written!r}, and a pod that borrows gets {CDI_DEVICES!r}"
            return Reason.GPU_CONFLICT, f"{message}: libraries, and no GPU of its own; remove the annotation"
        for container in self._containers:
            shown = dict(container.env).get(VISIBLE, "none")
            if shown not in ("none", *_NO_LIBRARIES):
                what = "a value that is not known here" if shown == NOT_KNOWN else repr(shown)
                message = f"container {container.name!r} sets {VISIBLE} to {what}, which opens GPUs that nobody lent it"
                return Reason.GPU_CONFLICT, f"{message}; remove the variable"
        return None

    def notices(self) -> Iterator[str]:
        """Say which containers keep the libraries out themselves."""
        for container in self._containers:
            if dict(container.env).get(VISIBLE) in _NO_LIBRARIES:
                yield f"container {container.name[:40]} sets {VISIBLE} to void or nothing: it gets no driver libraries"

"""Names of annotations, labels and resources: each written once, here."""

from typing import Final

DOMAIN: Final = "podsla.io/"

# What users write on a pod.
CLASS: Final = f"{DOMAIN}class"
GPU: Final = f"{DOMAIN}gpu"
GPU_PHASE: Final = f"{DOMAIN}gpu-phase"
MIN_PREFIX: Final = f"{DOMAIN}min-"

# What users write on a namespace.
DEFAULT_CLASS: Final = f"{DOMAIN}default-class"
ENFORCE_TEMPLATES: Final = f"{DOMAIN}enforce-templates"
WARM_GPUS: Final = f"{DOMAIN}warm-gpus"

# What users write on a SpecCatalog: classes, with commas between, that may go although pods run in them.
ALLOW_REMOVAL: Final = f"{DOMAIN}allow-removal"

# What we write on a pod.
RECORD: Final = f"{DOMAIN}record"
SIZE: Final = f"{DOMAIN}size"
GPU_PHASE_CONTAINER: Final = "podsla-gpu-phase"  # and the volume that it shares with the phase

# What we write on the ControllerRevisions that keep what was accepted.
CATALOG: Final = f"{DOMAIN}catalog"
REVISION: Final = f"{DOMAIN}revision"
TARGET: Final = f"{DOMAIN}target"
MERGED: Final = f"{DOMAIN}merged"

# What stands on a GPUAttachment, and on the pod that reserves its GPUs: the attachment's UID, or `warm`: of none yet.
FORCE_RELEASE: Final = f"{DOMAIN}force-release"
ATTACHMENT_FINALIZER: Final = f"{DOMAIN}gpu-attachment"
PLACEHOLDER: Final = f"{DOMAIN}placeholder"
WARM: Final = "warm"

# What we write on overlays that we keep for Karpenter.
OVERLAY: Final = f"{DOMAIN}overlay"

# What nodes carry.
NODE_SIZE: Final = f"{DOMAIN}node-size"
FAMILY: Final = f"{DOMAIN}family"
GENERATION: Final = f"{DOMAIN}generation"
GPU_SEATS: Final = f"{DOMAIN}gpu-seats"
QUARANTINED: Final = f"{DOMAIN}quarantined"  # a taint: nothing reserves a device there that is not known to be free
INSTANCE_TYPE: Final = "node.kubernetes.io/instance-type"

MIRROR_POD: Final = "kubernetes.io/config.mirror"
OPT_OUT: Final = "none"
GPU_ON_DEMAND: Final = "on-demand"

SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict"
DO_NOT_DISRUPT: Final = "karpenter.sh/do-not-disrupt"
ISTIO_INJECT: Final = "sidecar.istio.io/inject"
LINKERD_INJECT: Final = "linkerd.io/inject"

"""Collections of the API server that podsla reads or writes."""

from typing import Final

from kube.api import Resource

SPEC_CATALOGS: Final = Resource("podsla.io/v1beta1", "speccatalogs")
GPU_ATTACHMENTS: Final = Resource("podsla.io/v1beta1", "gpuattachments")

CONFIG_MAPS: Final = Resource("v1", "configmaps")
NAMESPACES: Final = Resource("v1", "namespaces")
NODES: Final = Resource("v1", "nodes")
PODS: Final = Resource("v1", "pods")
SECRETS: Final = Resource("v1", "secrets")
CONTROLLER_REVISIONS: Final = Resource("apps/v1", "controllerrevisions")
EVENTS: Final = Resource("events.k8s.io/v1", "events")
LEASES: Final = Resource("coordination.k8s.io/v1", "leases")
NODE_OVERLAYS: Final = Resource("karpenter.sh/v1alpha1", "nodeoverlays")
RUNTIME_CLASSES: Final = Resource("node.k8s.io/v1", "runtimeclasses")
DEVICE_CLASSES: Final = Resource("resource.k8s.io/v1", "deviceclasses")
RESOURCE_SLICES: Final = Resource("resource.k8s.io/v1", "resourceslices")
MUTATING_WEBHOOKS: Final = Resource("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations")
VALIDATING_WEBHOOKS: Final = Resource("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations")

RUNNING: Final = "status.phase!=Succeeded,status.phase!=Failed"  # a field selector: pods that are not over

"""What a doctor looks at, and what it may find: closed sets. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias

from catalog.lint import Severity

Object: TypeAlias = Mapping[str, Any]
MAX_NAMES: Final = 3  # objects that one message lists


class Reason(StrEnum):
    """What is wrong: the closed set; docs/reasons.md says of each what to do."""

    NOT_VISIBLE = "NotVisible"
    NOT_INSTALLED = "NotInstalled"
    KUBERNETES_TOO_OLD = "KubernetesTooOld"
    CRD_MISSING = "CRDMissing"
    CRD_NOT_SERVED = "CRDNotServed"
    WEBHOOK_MISSING = "WebhookMissing"
    WEBHOOK_FAILS_OPEN = "WebhookFailsOpen"
    WEBHOOK_PASSED_BY = "WebhookPassedBy"
    SYSTEM_NAMESPACE_SENT = "SystemNamespaceSent"
    POLICY_MISSING = "PolicyMissing"
    NO_CA_BUNDLE = "NoCABundle"
    CA_BUNDLE_DIFFERS = "CABundleDiffers"
    CERTIFICATE_MISSING = "CertificateMissing"
    CERTIFICATE_INVALID = "CertificateInvalid"
    CERTIFICATE_EXPIRED = "CertificateExpired"
    CERTIFICATE_EXPIRING = "CertificateExpiring"
    SERVICE_MISSING = "ServiceMissing"
    NO_ENDPOINTS = "NoEndpoints"
    REPLICAS_NOT_READY = "ReplicasNotReady"
    VERSION_SKEW = "VersionSkew"
    NO_LEADER = "NoLeader"
    NO_CATALOG = "NoCatalog"
    CATALOG_REFUSED = "CatalogRefused"
    CATALOG_NOT_JUDGED = "CatalogNotJudged"
    CATALOGS_MISFIT = "CatalogsMisfit"
    REVISION_MISSING = "RevisionMissing"
    TARGET_REFUSED = "TargetRefused"
    TARGET_NOT_JUDGED = "TargetNotJudged"
    UNKNOWN_NODE_TYPE = "UnknownNodeType"
    NODE_NOT_PUBLISHED = "NodeNotPublished"
    NODES_HELD = "NodesHeld"
    NODE_OVER_PROMISED = "NodeOverPromised"
    CLASS_REFUSES_ALL = "ClassRefusesAll"
    CLASS_FITS_NO_NODE = "ClassFitsNoNode"
    NAMESPACE_KEY_IGNORED = "NamespaceKeyIgnored"
    DEFAULT_CLASS_UNUSABLE = "DefaultClassUnusable"
    POD_NOT_SIZED = "PodNotSized"
    PODS_MISFIT = "PodsMisfit"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """
    One thing that is wrong.

    Attributes:
        severity: An error refuses pods or promises what is not kept, now or soon; a warning does not yet.
        subject: Kind/name, or how many of what.
        message: What is so, with both figures, and what to do.
    """

    severity: Severity
    reason: Reason
    subject: str
    message: str


def error(reason: Reason, subject: str, message: str) -> Finding:
    """Make an error."""
    return Finding(Severity.ERROR, reason, subject, message)


def warning(reason: Reason, subject: str, message: str) -> Finding:
    """Make a warning."""
    return Finding(Severity.WARNING, reason, subject, message)


def some(names: Sequence[str]) -> str:
    """List the first of some names, and how many more there are."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    Everything that is judged, as the API server had it; None or nothing where it is not there.

    Attributes:
        home: The namespace that podsla is installed in.
        now: In UTC, by the clock of whoever asks.
        server: The API server's version, as "v1.37.0".
        mutating: The configuration `podsla`, with validating; and templates: `podsla-templates`.
        ca: Data of the Secret `podsla-ca`, with leaf: of `podsla-webhook-tls`.
        slices: EndpointSlices of the Service.
        policy: The ValidatingAdmissionPolicy `podsla-sized-pods`.
        pods: All that are not over.
        hidden: What whoever asks may not see, as "secrets": it is not judged.
    """

    home: str
    now: datetime
    server: str
    mutating: Object | None = None
    validating: Object | None = None
    templates: Object | None = None
    ca: Mapping[str, str] | None = None
    leaf: Mapping[str, str] | None = None
    service: Object | None = None
    slices: Sequence[Object] = ()
    deployments: Sequence[Object] = ()
    lease: Object | None = None
    crd: Object | None = None
    policy: Object | None = None
    catalogs: Sequence[Object] = ()
    revisions: Sequence[Object] = ()
    target: Object | None = None
    runtime_classes: Sequence[Object] = ()
    nodes: Sequence[Object] = ()
    namespaces: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    hidden: frozenset[str] = frozenset()

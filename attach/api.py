"""
`GPUAttachment`: its schema, the one source of truth, and an object ↔ frozen values. Pure.

The spec is the user's, and all but `renewTime` and `release` is settled when the object is created. The status is the
controller's and the agent's: each writes its own fields of it, and on the version that it read.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, TypeAlias

from attach.entry import Policy
from attach.reasons import Reason
from catalog.keys import ATTACHMENT_FINALIZER, FORCE_RELEASE
from catalog.problems import InvalidError, Problem
from catalog.schema import API_VERSION, Rules, Schema, flag, many, one, text, validate, whole
from catalog.verdict import with_condition
from catalog.yamltext import Document

KIND: Final = "GPUAttachment"
MAX_COUNT: Final = 16
MAX_MODELS: Final = 16
MIN_LEASE_S: Final = 10
MAX_LEASE_S: Final = 7 * 24 * 3600
MAX_GRACE_S: Final = 3600
MAX_TTL_S: Final = 30 * 24 * 3600

TIME: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"

Object: TypeAlias = Mapping[str, Any]


class Type(StrEnum):
    """
    Types of conditions, in the order in which they stand in the status: the first that is True says the state.

    `FAILED` and `RELEASED` are the only ends, and nothing is held after either; `QUARANTINED` holds the device.
    """

    FAILED = "Failed"
    RELEASED = "Released"
    QUARANTINED = "Quarantined"
    OVERDUE = "Overdue"
    DRAINING = "Draining"
    ATTACHED = "Attached"
    RESERVED = "Reserved"


def parse_time(value: object) -> datetime:
    """Read a time as Kubernetes writes it."""
    written = str(value)
    try:
        if re.fullmatch(TIME, written, re.ASCII):
            return datetime.fromisoformat(written)
    except ValueError:  # a month 13
        pass
    raise ValueError(f"{value!r} is no time; write it as 2027-03-01T12:00:00Z")


def render_time(wall_s: float) -> str:
    """Write seconds since 1970 as Kubernetes does, to the second."""
    return f"{datetime.fromtimestamp(wall_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


SPEC: Final[Schema] = {
    "podName": text(required=True, regex=r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", maxlength=253),
    "podUID": text(regex=r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}", maxlength=63),
    "container": text(regex=r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", maxlength=63),
    "resource": text(
        regex=r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
        maxlength=317,
        default="nvidia.com/gpu",
    ),
    "count": whole(min=1, max=MAX_COUNT, default=1),
    "models": many(text(regex=r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", maxlength=63), MAX_MODELS, default=[]),
    "leaseSeconds": whole(min=MIN_LEASE_S, max=MAX_LEASE_S, default=900),
    "renewTime": {"type": "datetime", "coerce": parse_time},
    "release": flag(default=False),
    "gracePeriodSeconds": whole(min=0, max=MAX_GRACE_S, default=30),
    "detachPolicy": text(allowed=[policy.value for policy in Policy], default=Policy.WAIT.value),
    "ttlSecondsAfterFinished": whole(min=0, max=MAX_TTL_S, default=86400),
}
MUTABLE: Final = frozenset({"renewTime", "release"})

GPU_ATTACHMENT: Final = Rules(
    {
        "apiVersion": text(required=True, allowed=[API_VERSION]),
        "kind": text(required=True, allowed=[KIND]),
        "metadata": one({"name": text(required=True)}, required=True, allow_unknown=True),
        "spec": one(SPEC, required=True),
        "status": {"type": "dict"},
    }
)


@dataclass(frozen=True, slots=True)
class Spec:
    """
    What is asked.

    Attributes:
        pod_uid: "": whichever pod has the name when it is looked up first.
        container: "": the pod's usual one.
        models: Any of them; none: every model.
        renew_time_s: When the client last renewed its lease, since 1970 by its own clock; None: it did not yet.
        ttl_s: How long the object stays once it has ended.
    """

    pod_name: str
    pod_uid: str
    container: str
    resource: str
    count: int
    models: tuple[str, ...]
    lease_s: int
    renew_time_s: float | None
    release: bool
    grace_s: int
    policy: Policy
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Placeholder:
    """The pod that reserves; its UID is "" until it is known to have been created."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Status:
    """What became of it; "", () and None: not known yet."""

    node: str
    pod_uid: str
    container: str
    placeholder: Placeholder | None
    queue_position: int
    devices: tuple[str, ...]
    attached_s: float | None
    lease_expires_s: float | None
    held_s: int
    conditions: tuple[Object, ...]

    def condition(self, kind: Type) -> Object:
        """Find a condition; empty where there is none of this type."""
        return next((one for one in self.conditions if one.get("type") == kind), {})

    def has(self, kind: Type) -> bool:
        """Tell whether a condition is True."""
        return self.condition(kind).get("status") == "True"


@dataclass(frozen=True, slots=True)
class Attachment:
    """
    One `GPUAttachment` as it was read.

    Attributes:
        version: Its resourceVersion.
        finalized: It has our finalizer.
        owned: It has an owner.
        force: An administrator ends its quarantine without a check.
    """

    namespace: str
    name: str
    uid: str
    version: str
    generation: int
    created_s: float
    deleting: bool
    finalized: bool
    owned: bool
    force: bool
    spec: Spec
    status: Status

    @property
    def is_finished(self) -> bool:
        """Nothing is held, and nothing will be."""
        return self.status.has(Type.RELEASED) or self.status.has(Type.FAILED)

    @property
    def with_agent(self) -> bool:
        """The agent has said something of it: from then on nobody else says what becomes of it, until it has ended."""
        return any(self.status.has(kind) for kind in Type)

    @property
    def reserving(self) -> str:
        """The name of the pod that reserves for it, or will."""
        return self.status.placeholder.name if self.status.placeholder is not None else placeholder_name(self.uid)

    @property
    def awaits_warm(self) -> bool:
        """A warm placeholder was chosen for it, and is not known to be its own yet."""
        intent = self.status.placeholder
        return intent is not None and not intent.uid and intent.name != placeholder_name(self.uid)

    @property
    def finished_s(self) -> float | None:
        """When it ended, since 1970; None: it has not."""
        for kind in (Type.FAILED, Type.RELEASED):
            condition = self.status.condition(kind)
            if condition.get("status") == "True":
                return _seconds(condition.get("lastTransitionTime"))
        return None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def placeholder_name(uid: str) -> str:
    """Name the placeholder of an attachment: one name for each UID, so that it is never made twice."""
    return f"podsla-gpu-{sha256(uid.encode()).hexdigest()[:10]}"


def parse_attachment(thing: Object) -> Attachment:
    """
    Read an object of the API server, or of a file.

    Raises:
        InvalidError: It breaks the schema; every problem names its field.
    """
    fields = thing if isinstance(thing, dict) else dict(thing)
    metadata = fields.get("metadata") or {}
    where = f"gpuattachment {metadata.get('namespace', 'default')}/{metadata.get('name', '?')}"
    valid, problems = validate(Document({**fields, "spec": _defaulted(fields)}, where, {}), GPU_ATTACHMENT)
    if valid is None:
        raise InvalidError(problems or [Problem(where, 0, "", "cannot be read")])
    return Attachment(
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata["name"]),
        uid=str(metadata.get("uid", "")),
        version=str(metadata.get("resourceVersion", "")),
        generation=int(metadata.get("generation", 0)),
        created_s=_seconds(metadata.get("creationTimestamp")) or 0.0,
        deleting="deletionTimestamp" in metadata,
        finalized=ATTACHMENT_FINALIZER in (metadata.get("finalizers") or ()),
        owned=bool(metadata.get("ownerReferences")),
        force=(metadata.get("annotations") or {}).get(FORCE_RELEASE) == "true",
        spec=_spec(valid["spec"]),
        status=read_status(fields.get("status") or {}),
    )


def _defaulted(fields: Object) -> Any:
    spec = fields.get("spec")
    return spec if spec is not None else {}


def _spec(fields: Object) -> Spec:
    renewed = fields.get("renewTime")
    return Spec(
        pod_name=fields["podName"],
        pod_uid=fields.get("podUID", ""),
        container=fields.get("container", ""),
        resource=fields["resource"],
        count=fields["count"],
        models=tuple(fields["models"]),
        lease_s=fields["leaseSeconds"],
        renew_time_s=renewed.timestamp() if renewed is not None else None,
        release=fields["release"],
        grace_s=fields["gracePeriodSeconds"],
        policy=Policy(fields["detachPolicy"]),
        ttl_s=fields["ttlSecondsAfterFinished"],
    )


def read_status(fields: Object) -> Status:
    """Read a status, which controller and agent alone have written."""
    placeholder = fields.get("placeholder")
    return Status(
        node=fields.get("node", ""),
        pod_uid=fields.get("podUID", ""),
        container=fields.get("container", ""),
        placeholder=Placeholder(placeholder["name"], placeholder.get("uid", "")) if placeholder else None,
        queue_position=fields.get("queuePosition", 0),
        devices=tuple(device["uuid"] for device in fields.get("devices") or ()),
        attached_s=_seconds(fields.get("attachedAt")),
        lease_expires_s=_seconds(fields.get("leaseExpiresAt")),
        held_s=fields.get("heldSeconds", 0),
        conditions=tuple(fields.get("conditions") or ()),
    )


def _seconds(value: object) -> float | None:
    return parse_time(value).timestamp() if value else None


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as it is to be; its time is found out by whether its status changes."""

    kind: Type
    true: bool
    reason: Reason
    message: str


def merge_conditions(
    old: Sequence[Object], new: Iterable[Condition], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """
    Put conditions in the place of those of their types, and leave all others as they are.

    Args:
        generation: The edit that the new ones speak of.
        now: In UTC.
    """
    merged: Sequence[Any] = list(old)
    for condition in new:
        fields = {
            "type": condition.kind.value,
            "status": "True" if condition.true else "False",
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": generation,
        }
        merged = with_condition(merged, fields, now)
    order = {kind.value: place for place, kind in enumerate(Type)}
    return sorted((dict(one) for one in merged), key=lambda one: order.get(str(one.get("type")), len(order)))

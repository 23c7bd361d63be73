"""AdmissionReview: bytes → `Review`, and `Response` → bytes. Pure.

The object under review stays a mapping. Whatever cannot be answered raises `ReviewError`; everything else is answered
in the version that was asked, with the uid that was sent.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from webhook.decision import clip
from webhook.patch import Operation

GROUP: Final = "admission.k8s.io/"
VERSIONS: Final = ("v1", "v1beta1")
MAX_MESSAGE_CHARACTERS: Final = 4000
_EMPTY: Final[Mapping[str, Any]] = {}


class ReviewError(Exception):
    """No review can be answered: the HTTP status and a short text for whoever called."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code, self.message = status_code, message


@dataclass(frozen=True, slots=True)
class Review:
    """
    One request for admission.

    Attributes:
        version: Of the AdmissionReview: "v1" or "v1beta1".
        group: API group of the resource; "" for pods.
        resource: As in URLs ("pods"); "" where the caller left it out.
        object: As it shall be; empty on DELETE.
        old_object: As it is; empty on CREATE.
    """

    uid: str
    version: str = "v1"
    operation: str = ""
    namespace: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    kind: str = ""
    name: str = ""
    object: Mapping[str, Any] = field(default_factory=dict)
    old_object: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False

    def is_of_pod(self, subresource: str = "") -> bool:
        """Tell whether a pod is under review, or the named subresource of one."""
        named = self.resource == "pods" if self.resource else self.kind == "Pod"
        return named and self.group == "" and self.subresource == subresource


@dataclass(frozen=True, slots=True)
class Response:
    """
    What a review is answered.

    Attributes:
        code: HTTP code of a refusal, as the user's client shows it.
        reason: Why it was refused or left alone: one word of a closed set.
        sla_class, size, revision: What was decided, for the audit log; "" where there is none.
        again: The pod came with a record of ours: we were called again, or it is a copy.
    """

    allowed: bool = True
    patch: tuple[Operation, ...] = ()
    warnings: tuple[str, ...] = ()
    code: int = 403
    reason: str = ""
    message: str = ""
    sla_class: str = ""
    size: str = ""
    revision: str = ""
    again: bool = False


def parse_review(body: bytes) -> Review:
    """
    Read an AdmissionReview.

    Raises:
        ReviewError: There is nothing that could be answered.
    """
    try:
        envelope = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ReviewError(400, f"the body is not JSON (character {error.pos}); send an AdmissionReview") from None
    if not isinstance(envelope, dict):
        raise ReviewError(400, f"the body must be a JSON object, and is {_kind(envelope)}; send an AdmissionReview")
    version = _version(envelope)
    request = envelope.get("request")
    if not isinstance(request, dict):
        raise ReviewError(400, f"request must be a JSON object, and is {_kind(request)}")
    uid = request.get("uid")
    if not isinstance(uid, str) or not uid:
        raise ReviewError(400, f"request.uid must be text, and is {'empty' if uid == '' else _kind(uid)}")
    kind, resource = _mapping(request, "kind"), _mapping(request, "resource")
    found = _mapping(request, "object")
    return Review(
        uid=uid,
        version=version,
        operation=_text(request, "operation"),
        namespace=_text(request, "namespace") or _text(_metadata(found), "namespace"),
        group=_text(resource, "group") if resource else _text(kind, "group"),
        resource=_text(resource, "resource"),
        subresource=_text(request, "subResource"),
        kind=_text(kind, "kind"),
        name=_text(request, "name") or _text(_metadata(found), "name"),
        object=found,
        old_object=_mapping(request, "oldObject"),
        dry_run=request.get("dryRun") is True,
    )


def _version(envelope: Mapping[str, Any]) -> str:
    stated = envelope.get("apiVersion")
    version = stated.removeprefix(GROUP) if isinstance(stated, str) else ""
    if envelope.get("kind") != "AdmissionReview" or version not in VERSIONS or stated == version:
        what = f"{str(envelope.get('kind'))[:60]} of {str(stated)[:60]}"
        known = " or ".join(f"{GROUP}{v}" for v in VERSIONS)
        raise ReviewError(400, f"cannot answer {what}; send an AdmissionReview of {known}")
    return version


def _metadata(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = fields.get("metadata")
    return metadata if isinstance(metadata, dict) else _EMPTY


def _mapping(fields: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = fields.get(key)
    if value is None:
        return _EMPTY
    if not isinstance(value, dict):
        raise ReviewError(400, f"request.{key} must be a JSON object, and is {_kind(value)}")
    return value


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) else ""


def _kind(value: Any) -> str:
    """Name the JSON kind of a value."""
    if value is None:
        return "absent"
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds[type(value)]


def render_answer(review: Review, response: Response) -> dict[str, Any]:
    """Write the AdmissionReview that answers *review*."""
    answer: dict[str, Any] = {"uid": review.uid, "allowed": response.allowed}
    if response.allowed and response.patch:
        answer["patchType"] = "JSONPatch"
        answer["patch"] = b64encode(orjson.dumps(response.patch)).decode()
    if not response.allowed:
        message = response.message[:MAX_MESSAGE_CHARACTERS]
        answer["status"] = {"code": response.code, "reason": response.reason, "message": message}
    if response.warnings:
        answer["warnings"] = [clip(printable(warning)) for warning in response.warnings]
    audit = {f"podsla-{key}": text for key, text in audit_of(response) if text}
    if audit:
        answer["auditAnnotations"] = audit
    return {"apiVersion": GROUP + review.version, "kind": "AdmissionReview", "response": answer}


def dump_answer(review: Review, response: Response) -> bytes:
    """Write the answer as JSON."""
    return orjson.dumps(render_answer(review, response))


def audit_of(response: Response) -> tuple[tuple[str, str], ...]:
    """What the audit log and our own log say of a decision; the API server prefixes the webhook's name."""
    return (
        ("class", response.sla_class),
        ("size", response.size),
        ("revision", response.revision),
        ("reason", response.reason),
    )


def printable(text: str) -> str:
    """Replace control characters: the API server drops a warning that has any."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)

"""`/mutate`: what a pod that is created gets, as a patch. Pure."""

from datetime import date
from typing import Final, assert_never

from webhook.admit import Answer, Released, Serving, Sized, admit
from webhook.decide import Labels
from webhook.decision import Deny, Ignore, Reason
from webhook.review import Response, Review

NOT_OURS: Final = Response()
_FORBIDDEN: Final = 403
_UNPROCESSABLE: Final = 422


def mutate(review: Review, namespace_labels: Labels, serving: Serving, today: date) -> Response:
    """
    Answer a pod that is created; everything else passes untouched.

    Updates, deletions and subresources reach us only where the webhook is configured wrongly: a pod's size is decided
    once, when it is created.
    """
    if review.operation != "CREATE" or not review.is_of_pod():
        return NOT_OURS
    return respond(admit(review.object, namespace_labels, serving, today), serving)


def respond(answer: Answer, serving: Serving) -> Response:
    """Say what an answer means on the wire."""
    revision = serving.index.catalog.revision
    match answer:
        case Sized():
            return Response(
                patch=answer.patch,
                warnings=answer.warnings,
                sla_class=answer.place.sla_class.name,
                size=answer.place.choice.size.name,
                revision=revision,
                again=answer.again,
            )
        case Released():
            return Response(reason=answer.why, patch=answer.patch, again=True)
        case Ignore():
            return Response(reason=answer.why)
        case Deny():
            return refuse(answer.reason, answer.message, revision)
        case _:
            assert_never(answer)


def refuse(reason: Reason, message: str, revision: str) -> Response:
    """Refuse with a reason; a pod of the wrong form is unprocessable, everything else forbidden."""
    code = _UNPROCESSABLE if reason is Reason.INVALID_POD else _FORBIDDEN
    return Response(allowed=False, code=code, reason=reason, message=message, revision=revision)

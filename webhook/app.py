"""EDGE: Flask. Routes, limits, and what a caller reads when something is wrong; every decision is made elsewhere.

Flask takes longer for its request and response than a decision takes. A review that can be answered needs neither, so
a server may call what Flask would have called (`direct`), and hands everything else to Flask.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from flask import Flask, Request, request
from flask import Response as HttpResponse
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from catalog.keys import CLASS, DEFAULT_CLASS
from webhook.admit import Serving
from webhook.decide import Labels
from webhook.decision import Reason
from webhook.metrics import CONTENT_TYPE, REASONS, Recorder
from webhook.mutate import mutate, refuse
from webhook.review import Response, Review, ReviewError, dump_answer, parse_review
from webhook.templates import judge_template
from webhook.validate import validate

MAX_REVIEW_BYTES: Final = 7 << 20  # two objects of 3 MiB and the envelope
RETRY_AFTER_S: Final = 1  # the API server repeats a call that is answered 503 with it, within its own timeout
MAX_LOGGED_CHARACTERS: Final = 256
JSON: Final = "application/json"
TRACEPARENT: Final = "traceparent"
TEXT: Final = "text/plain; charset=utf-8"

Judge: TypeAlias = Callable[[Review, Labels, Serving, date], Response]
JUDGES: Final[Mapping[str, Judge]] = {"mutate": mutate, "validate": validate, "templates": judge_template}

DEFAULTED: Final = "mutate/defaulted"  # pods of namespaces with a default class are sent to a path of their own
_NOWHERE: Final[Labels] = {}
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-|$)")  # W3C Trace Context
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Environment:
    """
    Everything that the application asks of the outside.

    Attributes:
        serving: What is served now; None while there is no catalogue yet.
        namespace_labels: Labels of a namespace; None while it is not known yet, which is answered "try again".
        clock: Seconds, for durations only.
    """

    serving: Callable[[], Serving | None]
    namespace_labels: Callable[[str], Labels | None]
    recorder: Recorder
    today: Callable[[], date]
    clock: Callable[[], float]


class Reply(NamedTuple):
    """The answer to a review, and what counts and logs it, with the call's traceparent, once it is on its way."""

    text: bytes
    tell: Callable[[str], None]


class NotReadyError(Exception):
    """There is no answer yet; *kind* is the metric label."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


def create_app(environment: Environment) -> Flask:
    """Build the application over its ports."""
    app = Flask("podsla", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REVIEW_BYTES
    app.url_map.merge_slashes = False  # a redirect is no answer to a review
    app.extensions["recorder"] = environment.recorder  # for what is refused before it comes here
    answers = {endpoint: partial(answer, environment, endpoint, judge) for endpoint, judge in JUDGES.items()}
    answers[DEFAULTED] = partial(answer, environment, "mutate", mutate, defaulted=True)
    for endpoint, view in answers.items():
        _route(app, endpoint, partial(_review, view), "POST")
    app.extensions["answers"] = {f"/{endpoint}": view for endpoint, view in answers.items()}
    _route(app, "livez", lambda: _text(200, "ok"), "GET")
    _route(app, "readyz", partial(_readyz, environment), "GET")
    _route(app, "metrics", partial(_metrics, environment), "GET")
    app.register_error_handler(ReviewError, partial(_review_error, environment))
    app.register_error_handler(NotReadyError, partial(_not_ready, environment))
    app.register_error_handler(HTTPException, partial(_http_error, environment))
    app.register_error_handler(Exception, partial(_exception, environment))
    return app


def _route(app: Flask, endpoint: str, view: Callable[[], HttpResponse], method: str) -> None:
    app.add_url_rule(f"/{endpoint}", endpoint, view, methods=[method], provide_automatic_options=False)


def direct(app: Flask, method: str, path: str, content_type: str, body: bytes) -> Reply | None:
    """
    Answer a review as Flask would, byte for byte; None where Flask has to, since no review can be answered.

    Args:
        body: All of it, within `MAX_REVIEW_BYTES`.
    """
    view: Callable[[bytes], Reply] | None = app.extensions.get("answers", {}).get(path)
    if view is None or method != "POST" or content_type != JSON:
        return None
    try:
        return view(body)
    except Exception:  # Flask meets it too, and says what is wrong
        return None


def _review(view: Callable[[bytes], Reply]) -> HttpResponse:
    reply = view(_body(request))
    sent = HttpResponse(reply.text, content_type=JSON)
    sent.call_on_close(partial(reply.tell, request.headers.get(TRACEPARENT, "")))
    return sent


def answer(environment: Environment, endpoint: str, judge: Judge, body: bytes, *, defaulted: bool = False) -> Reply:
    """
    Answer one review: read it and judge it.

    Args:
        defaulted: It was sent because its namespace has a default class.

    Raises:
        ReviewError: There is nothing that could be answered.
        NotReadyError: There is no answer yet.
    """
    started = environment.clock()
    review = parse_review(body)
    try:
        response = _judged(environment, judge, review, defaulted=defaulted)
        text = dump_answer(review, response)
    except NotReadyError:
        raise
    except Exception as error:
        _log_failure(error, endpoint, review.uid)
        environment.recorder.failed("exception")
        outcome, response = "failed", _failed(endpoint, review, error)
        text = dump_answer(review, response)
    else:
        outcome = _outcome(response)
    duration_s = environment.clock() - started
    tell = partial(_tell, environment, endpoint, outcome, review, response, duration_s)
    return Reply(text, partial(tell, len(text) if response.patch else 0))


def _tell(
    environment: Environment,
    endpoint: str,
    outcome: str,
    review: Review,
    response: Response,
    duration_s: float,
    patched_bytes: int,
    traceparent: str,
) -> None:
    environment.recorder.changed(patched_bytes, again=response.again)
    refused_class = _refused_class(environment, review) if outcome == "refused" else ""
    environment.recorder.answered(endpoint, outcome, response.reason, duration_s, refused_class)
    if _log.isEnabledFor(logging.INFO):
        _log_decision(endpoint, outcome, review, response, duration_s, traceparent)


def _body(sent: Request) -> bytes:
    if sent.mimetype != JSON:
        raise UnsupportedMediaType
    return sent.get_data(cache=False)


def _judged(environment: Environment, judge: Judge, review: Review, *, defaulted: bool) -> Response:
    serving = environment.serving()
    if serving is None:
        raise NotReadyError("not_ready", "no catalogue is served yet; try again")
    labels = environment.namespace_labels(review.namespace) if review.namespace else _NOWHERE
    if labels is None:
        message = f"namespace {review.namespace[:MAX_LOGGED_CHARACTERS]!r} is not known here yet; try again"
        raise NotReadyError("unknown_namespace", message)
    if defaulted and DEFAULT_CLASS not in labels:  # what is known here is older than what the API server knows
        message = f"the default class of namespace {review.namespace[:MAX_LOGGED_CHARACTERS]!r} is not known here yet"
        raise NotReadyError("unknown_default", f"{message}; try again")
    try:
        return judge(review, labels, serving, environment.today())
    except RecursionError:  # JSON nests deeper than Python calls; no real object comes near
        return refuse(Reason.INVALID_POD, "the object nests too deep to be read", serving.index.catalog.revision)


def _outcome(response: Response) -> str:
    if not response.allowed:
        return "refused"
    if response.size:
        return "sized"
    if response.reason in REASONS:
        return "warned"  # a pod template whose pods will be refused
    return "ignored" if response.reason else "allowed"


def _refused_class(environment: Environment, review: Review) -> str:
    """Name the class that a refused pod asks for, if it is one that is served: nobody else may make up a label."""
    serving, metadata = environment.serving(), review.object.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    default = (environment.namespace_labels(review.namespace) or {}).get(DEFAULT_CLASS)
    name = annotations.get(CLASS, default) if isinstance(annotations, dict) else default
    served = serving is not None and isinstance(name, str) and name in serving.index.catalog.classes
    return str(name) if served else ""


def _failed(endpoint: str, review: Review, error: Exception) -> Response:
    """Deny where we do not know; a pod template passes, since its pods will be judged again."""
    message = f"podsla failed on this review ({type(error).__name__}), which is a fault of podsla, not of the object"
    where = f"look for uid {review.uid} in the log of podsla webhook"
    if endpoint == "templates":
        return Response(warnings=(f"podsla failed ({type(error).__name__}) and said nothing of these pods; {where}",))
    return Response(allowed=False, code=500, reason=Reason.INTERNAL_ERROR, message=f"{message}; {where}")


def _log_decision(
    endpoint: str, outcome: str, review: Review, response: Response, duration_s: float, traceparent: str
) -> None:
    """Log what was decided; `trace_id` is that of the API server's own spans, where it said which."""
    trace = _TRACE.match(traceparent)
    fields = {
        "uid": review.uid[:MAX_LOGGED_CHARACTERS],
        "endpoint": endpoint,
        "outcome": outcome,
        "namespace": review.namespace[:MAX_LOGGED_CHARACTERS],
        "name": review.name[:MAX_LOGGED_CHARACTERS],
        "class": response.sla_class,
        "size": response.size,
        "reason": response.reason,
        "dry_run": review.dry_run,
        "duration_us": round(duration_s * 1e6),
        "trace_id": trace and trace[1],
    }
    _log.info("decided", extra={"fields": {key: value for key, value in fields.items() if value}})


def _log_failure(error: BaseException, endpoint: str, uid: str) -> None:
    """Log where it failed, never with what: an exception's text and its variables may hold parts of the pod."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else ""
    fields = {"uid": uid[:MAX_LOGGED_CHARACTERS], "endpoint": endpoint, "exception": type(error).__name__, "at": where}
    _log.error("failed", extra={"fields": fields})


def _readyz(environment: Environment) -> HttpResponse:
    if environment.serving() is None:
        return _text(503, "no catalogue is served yet", {"Retry-After": str(RETRY_AFTER_S)})
    return _text(200, "ok")


def _metrics(environment: Environment) -> HttpResponse:
    serving = environment.serving()
    return HttpResponse(environment.recorder.expose(serving.index if serving else None), content_type=CONTENT_TYPE)


def _text(code: int, message: str, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return HttpResponse(f"{message}\n", code, headers, content_type=TEXT)


def _review_error(environment: Environment, error: ReviewError) -> HttpResponse:
    environment.recorder.failed("bad_review")
    return _text(error.status_code, error.message)


def _not_ready(environment: Environment, error: NotReadyError) -> HttpResponse:
    environment.recorder.failed(error.kind)
    return _text(503, error.message, {"Retry-After": str(RETRY_AFTER_S)})


_PATHS: Final = ", ".join(f"/{name}" for name in (*JUDGES, DEFAULTED, "livez", "readyz", "metrics"))
_HTTP_ERRORS: Final[Mapping[int, tuple[str, str]]] = {
    404: ("path", f"there is nothing at this path; there are {_PATHS}"),
    405: ("method", "this path does not take that method"),
    413: ("too_large", f"the body is larger than {MAX_REVIEW_BYTES >> 20} MiB"),
    415: ("content_type", f"the Content-Type must be {JSON}"),
}


def _http_error(environment: Environment, error: HTTPException) -> HttpResponse:
    code = error.code or 500
    kind, message = _HTTP_ERRORS.get(code, ("bad_review", error.name))
    environment.recorder.failed(kind)
    methods: Any = getattr(error, "valid_methods", None)
    return _text(code, message, {"Allow": ", ".join(sorted(methods))} if methods else None)


def _exception(environment: Environment, error: Exception) -> HttpResponse:
    environment.recorder.failed("exception")
    _log_failure(error, request.path[:MAX_LOGGED_CHARACTERS], "")
    return _text(500, "podsla failed; its log says where")

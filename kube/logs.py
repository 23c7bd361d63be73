"""EDGE: our log, as JSON lines on standard output."""

import logging
import sys
from datetime import UTC, datetime
from traceback import extract_tb
from typing import Final

import orjson

OURS: Final = ("catalog", "controller", "kube", "nodes", "webhook")


class JsonLines(logging.Formatter):
    """One JSON object a line: when, how grave, a constant message, and the fields that the caller gave."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": when, "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info and record.exc_info[2]:  # where it failed, never with what: values may be secret
            line["at"] = [
                f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in extract_tb(record.exc_info[2])
            ]
        return orjson.dumps(line | getattr(record, "fields", {}), default=str).decode()


def log_to_stdout() -> None:
    """Send our own log, and nobody else's, to standard output as JSON lines."""
    logging._srcfile = None  # no line says where it was logged, so nobody looks it up
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    for name in OURS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False

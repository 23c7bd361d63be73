"""EDGE: what every HTTP server of the tests does alike: it answers JSON, and says nothing in the log."""

import json
from http.server import BaseHTTPRequestHandler
from typing import Any


class JsonHandler(BaseHTTPRequestHandler):
    """What is alike; a handler names its base beside it, by which the linter knows why methods are called do_GET."""

    def answer(self, code: int, body: Any) -> None:
        """Answer with a body of JSON."""
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

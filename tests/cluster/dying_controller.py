"""
EDGE: lets a controller in its pod die after each of its writes about attachments: mounted there as sitecustomize.py.

The controller is the one that is shipped, and knows nothing of it. One that has just made a placeholder stays away for
longer than its lease, so that another leads in the middle of an attach.
"""

import os
import re
import threading
import time
from pathlib import Path
from typing import Any, Final

from kube.api import Api

WRITES: Final = re.compile(r"/(gpuattachments|pods)(/|$)")
AWAY: Final = Path("/away/order")
AWAY_S: Final = 20.0  # the lease holds for 15 s

_call: Final = Api.call
_dying: Final = threading.Lock()


def call(self: Api, method: str, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Do it; and die, if that was such a write."""
    if method == "GET" or not WRITES.search(path):
        return _call(self, method, path, *args, **kwargs)
    with _dying:
        answer = _call(self, method, path, *args, **kwargs)
        print(f"dies after {method} {path}", flush=True)
        if (method, path.endswith("/pods")) == ("POST", True):
            AWAY.touch()
        os._exit(1)
        return answer


Api.call = call  # type: ignore[method-assign]
if AWAY.exists():
    AWAY.unlink()
    time.sleep(AWAY_S)

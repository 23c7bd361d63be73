"""EDGE: both clocks, and which boot this is."""

import time
from pathlib import Path
from typing import Final

from attach.entry import Now

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> Now:
        """Read both."""
        return Now(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))

    def boot_id(self) -> str:
        """Read what is another after every boot."""
        return _BOOT_ID.read_text().strip()

"""
What leaves an edge of attach when a step fails.

AttachError
├── Gone            the container, its cgroup or its process went away meanwhile
├── Refused         it must not be done: a path that leads elsewhere, the root cgroup, a program that has maps
└── Unknown         it could not be found out; never read as "no"
"""

from typing import ClassVar

from attach.reasons import Reason


class AttachError(Exception):
    """
    A step failed.

    Attributes:
        reason: One CamelCase word of a closed set; also the metric label.
        may_retry: Whether the same step can succeed later.
    """

    may_retry: ClassVar[bool] = True

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Gone(AttachError):  # noqa: N818 - says what is so, as FileNotFound would
    """The container, its cgroup or its process went away meanwhile."""

    may_retry = False


class Refused(AttachError):  # noqa: N818
    """It must not be done, now or later."""

    may_retry = False


class Unknown(AttachError):  # noqa: N818
    """It could not be found out; the device counts as busy, the access as open."""

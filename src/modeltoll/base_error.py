"""The base class of the exceptions of Modeltoll. ``modeltoll.errors`` has the tree of all of them."""

from __future__ import annotations

from typing import ClassVar

__all__ = ["ModeltollError"]


class ModeltollError(Exception):
    """Base class. ``str(error)`` is safe to show to a caller; ``private`` is for the operator's log only.

    ``retry_after``: seconds after which a retry may succeed; None where that is unknown or a retry cannot help.
    """

    status: int = 500  # HTTP status of the gateway's answer
    problem: ClassVar[str] = ""  # last part of the problem type URN (RFC 9457), for errors that clients distinguish
    retry_after: int | None = None

    def __init__(self, public: str, *, private: str = "") -> None:
        super().__init__(public)
        self.private = private

"""The exceptions that the client raises. ``modeltoll.errors`` exports them, and has the tree of all exceptions."""

from __future__ import annotations

from modeltoll.base_error import ModeltollError

__all__ = ["SealBroken", "SolveStopped", "TollError", "TollMalformed", "TollTooDear"]


class TollError(ModeltollError):
    """The client did not pay a toll."""


class TollMalformed(TollError):
    """Not a toll that this client can parse, or its parameters are out of range. Nothing was solved."""


class TollTooDear(TollError):
    """The toll is above the client's limit. Nothing was solved.

    ``seconds``: the expected wait. ``limit``: the client's limit. Both in seconds on one reference core.
    """

    def __init__(self, public: str, *, seconds: float, limit: float) -> None:
        super().__init__(public)
        self.seconds = seconds
        self.limit = limit


class SolveStopped(TollError):
    """Solving was cancelled, ran past its deadline, or lacked memory, threads or processes."""


class SealBroken(TollError):
    """The solution does not open the sealed answer: the server sent a puzzle that does not belong to the answer."""

"""The one error tree.

ModeltollError
├── SettingsError               settings that cannot be used; every fault at once
├── CalibrationError            honest rows, teachers or tariffs that cannot be used
│   └── ArrayFileError          a file of arrays that cannot be read
├── EvidenceError               bytes from outside that cannot be measured
│   ├── RequestError            the caller's fault (400)
│   └── AnswerError             the upstream's fault (502)
├── Refusal                     the gateway will not serve this request
│   ├── RouteRefused            not a listed route (404)
│   ├── CallerRefused           unknown or missing key (401)
│   ├── AllowanceSpent          no more rows or work for this caller today (403)
│   ├── BodyTooLarge            (413)
│   ├── Overloaded              too many requests are inside (503)
│   │   └── UpstreamBusy        the queue in front of the model server is full, or too slow
│   └── TokenRefused            forged, truncated, foreign, expired or not solved (403)
│       └── TokenExpired        (410)
├── UpstreamError               the model server is down or broke off (502)
│   └── UpstreamTimeout         (504)
├── LedgerError                 the ledger does not answer (503)
└── TollError                   the client's side
    ├── TollMalformed           not a toll that this client can read
    ├── TollTooDear             above the caller's own limit; nothing was solved
    ├── SolveStopped            cancelled, or past its deadline
    └── SealBroken              the solution does not open the seal
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AllowanceSpent",
    "AnswerError",
    "ArrayFileError",
    "BodyTooLarge",
    "CalibrationError",
    "CallerRefused",
    "EvidenceError",
    "LedgerError",
    "ModeltollError",
    "Overloaded",
    "Refusal",
    "RequestError",
    "RouteRefused",
    "SealBroken",
    "SettingsError",
    "SolveStopped",
    "TokenExpired",
    "TokenRefused",
    "TollError",
    "TollMalformed",
    "TollTooDear",
    "UpstreamBusy",
    "UpstreamError",
    "UpstreamTimeout",
]


class ModeltollError(Exception):
    """Base of all. ``str()`` is safe to show to a caller; ``private`` is for the operator's log only.

    ``retry_after`` is in how many seconds a caller may try again, None where that is not known or would not help.
    """

    status: ClassVar[int] = 500  # what a gateway answers with
    problem: ClassVar[str] = ""  # its name among the problems that clients may want to tell apart
    retry_after: int | None = None

    def __init__(self, public: str, *, private: str = "") -> None:
        super().__init__(public)
        self.private = private


class SettingsError(ModeltollError):
    """Settings that cannot be used. ``faults`` holds one sentence per fault, each naming the setting and the mend."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class CalibrationError(ModeltollError):
    """Honest rows, private data, teachers or a tariff file that cannot be used."""


class ArrayFileError(CalibrationError):
    """A file of arrays that cannot be read; the message names the file and says why."""


class EvidenceError(ModeltollError):
    """Bytes from outside that cannot be measured; the answer to them is never released."""


class RequestError(EvidenceError):
    """The caller sent something that is not a request of this protocol."""

    status = 400


class AnswerError(EvidenceError):
    """The upstream answered something that cannot be measured."""

    status = 502


class Refusal(ModeltollError):
    """The gateway will not serve this request."""

    status = 403


class RouteRefused(Refusal):
    """Not a listed route."""

    status = 404


class CallerRefused(Refusal):
    """Unknown or missing API key."""

    status = 401


class AllowanceSpent(Refusal):
    """The caller's allowance of this day does not cover the request.

    Not 429, which client libraries try again by themselves, after seconds: this one lasts until the day is over.
    """

    problem = "allowance"

    def __init__(self, public: str, *, retry_after: int) -> None:
        super().__init__(public)
        self.retry_after = retry_after


class BodyTooLarge(Refusal):
    """The request's body is above the limit."""

    status = 413


class Overloaded(Refusal):
    """Too many requests are inside already; client libraries may try again by themselves, a moment later."""

    status = 503
    retry_after = 1


class UpstreamBusy(Overloaded):
    """The model server has no time for the request: too many wait for it, or the wait was too long."""


class TokenRefused(Refusal):
    """The token is forged, truncated, foreign, or its puzzle is not solved; which of these is not said."""


class TokenExpired(TokenRefused):
    """The token was good once."""

    status = 410


class UpstreamError(ModeltollError):
    """The model server is down, broke off, or refused the connection."""

    status = 502


class UpstreamTimeout(UpstreamError):
    """The model server did not answer in time."""

    status = 504


class LedgerError(ModeltollError):
    """The ledger does not answer, cannot be written, or was made by a version that is not understood."""

    status = 503


class TollError(ModeltollError):
    """A toll that the client did not pay."""


class TollMalformed(TollError):
    """Not a toll that this client can read, or one that asks for absurd things; nothing was solved."""


class TollTooDear(TollError):
    """The toll is above the caller's own limit; nothing was solved.

    ``seconds`` is the toll's expected wait, ``limit`` what the caller allows, both on one reference core.
    """

    def __init__(self, public: str, *, seconds: float, limit: float) -> None:
        super().__init__(public)
        self.seconds = seconds
        self.limit = limit


class SolveStopped(TollError):
    """The solver was cancelled or ran into its deadline."""


class SealBroken(TollError):
    """The solution does not open the seal: the server published a puzzle that does not fit its answer."""

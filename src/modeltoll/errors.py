"""The exceptions of Modeltoll.

ModeltollError
├── SettingsError               unusable settings; lists every error found
├── CalibrationError            unusable honest rows, private data, teachers or tariff file
│   └── ArrayFileError          unreadable file of arrays
├── EvidenceError               a request or an answer that cannot be measured
│   ├── RequestError            malformed request (400)
│   │   └── UnknownModel        request for a model that is not served here (404)
│   └── AnswerError             malformed answer of the upstream (502)
│       ├── AnswerUnusable      answer of success that cannot be taken, though the upstream has worked for it (502)
│       │   └── AnswerTooLarge  larger than the limit (502)
│       └── StreamBroken        the upstream ended its stream with an error (502)
├── Refusal                     the gateway does not serve this request (403)
│   ├── RouteRefused            route not listed (404)
│   ├── CallerRefused           missing or unknown key (401)
│   ├── AllowanceSpent          daily quota of rows or work used up (403)
│   ├── BodyTooLarge            body above the size limit (413)
│   ├── BodyTooSlow             body arrived below the least rate (408)
│   ├── ContentTypeRefused      body of a content type that is not served (415)
│   ├── Overloaded              too many requests in progress (503)
│   │   ├── CallerBusy          too many requests or bytes of this caller in progress (429)
│   │   ├── UpstreamBusy        queue for the upstream full, or wait too long (503)
│   │   └── KeysAwaited         the keys that verify a token are being fetched (503)
│   └── TokenRefused            token forged, truncated, of another caller or key, or not solved (403)
│       └── TokenExpired        token past its expiry (410)
├── UpstreamError               upstream unreachable, or connection lost (502)
│   ├── UpstreamTimeout         upstream too slow (504)
│   └── UpstreamRefused         upstream refused the request (its own status)
├── LedgerError                 ledger unreachable, not writable or of an unknown version (503)
├── CallerGone                  caller closed the connection before the answer (499, which nobody receives)
└── TollError                   raised by the client; there is no answer
    ├── TollMalformed           not a toll that this client can parse
    ├── TollTooDear             above the client's limit; nothing was solved
    ├── SolveStopped            cancelled, or past the deadline
    └── SealBroken              the solution does not open the sealed answer

The number in brackets is the HTTP status that the gateway answers with. The base class is in ``base_error``, those that the
client raises are in ``toll_errors``.
"""

from __future__ import annotations

from modeltoll.base_error import ModeltollError
from modeltoll.toll_errors import SealBroken, SolveStopped, TollError, TollMalformed, TollTooDear

__all__ = [
    "AllowanceSpent",
    "AnswerError",
    "AnswerTooLarge",
    "AnswerUnusable",
    "ArrayFileError",
    "BodyTooLarge",
    "BodyTooSlow",
    "CalibrationError",
    "CallerBusy",
    "CallerGone",
    "CallerRefused",
    "ContentTypeRefused",
    "EvidenceError",
    "KeysAwaited",
    "LedgerError",
    "ModeltollError",
    "Overloaded",
    "Refusal",
    "RequestError",
    "RouteRefused",
    "SealBroken",
    "SettingsError",
    "SolveStopped",
    "StreamBroken",
    "TokenExpired",
    "TokenRefused",
    "TollError",
    "TollMalformed",
    "TollTooDear",
    "UnknownModel",
    "UpstreamBusy",
    "UpstreamError",
    "UpstreamRefused",
    "UpstreamTimeout",
]


class SettingsError(ModeltollError):
    """Unusable settings. ``faults``: one sentence per error, which names the setting and says how to correct it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class CalibrationError(ModeltollError):
    """Honest rows, private data, teachers or a tariff file cannot be used."""


class ArrayFileError(CalibrationError):
    """A file of arrays cannot be read. The message names the file and the reason."""


class EvidenceError(ModeltollError):
    """A request or an answer cannot be measured. The answer is not released."""


class RequestError(EvidenceError):
    """The caller sent no valid request of this protocol."""

    status = 400


class UnknownModel(RequestError):
    """The body of the request names a model that is not served here."""

    status = 404


class AnswerError(EvidenceError):
    """The upstream's answer cannot be measured."""

    status = 502


class AnswerUnusable(AnswerError):
    """The upstream has answered with success, and its answer cannot be taken or written for the caller.

    The upstream has worked for it: what was reserved for the request is not given back.
    """


class AnswerTooLarge(AnswerUnusable):
    """The upstream's answer is larger than the limit."""


class StreamBroken(AnswerError):
    """The upstream ended its stream with an error. ``body`` is the error as it wrote it, or empty.

    The body may repeat what the model has written: it is not for callers whose answer is priced.
    """

    def __init__(self, public: str, *, body: bytes = b"", private: str = "") -> None:
        super().__init__(public, private=private)
        self.body = body


class Refusal(ModeltollError):
    """The gateway does not serve this request."""

    status = 403


class RouteRefused(Refusal):
    """The route is not listed in the settings."""

    status = 404


class CallerRefused(Refusal):
    """The API key is missing or unknown."""

    status = 401


class AllowanceSpent(Refusal):
    """What is left of the caller's daily quota does not cover the request.

    The status is 403, not 429: client libraries retry a 429 after seconds, but the quota lasts until midnight UTC.
    """

    problem = "allowance"

    def __init__(self, public: str, *, retry_after: int) -> None:
        super().__init__(public)
        self.retry_after = retry_after


class BodyTooLarge(Refusal):
    """The request's body is above the size limit."""

    status = 413


class BodyTooSlow(Refusal):
    """The request's body arrived below the least rate. The connection is closed."""

    status = 408


class ContentTypeRefused(Refusal):
    """The request's body is of a content type that is not served here.

    Web pages of other origins can send some content types without asking; none of those is served.
    """

    status = 415


class Overloaded(Refusal):
    """Too many requests are in progress. Client libraries may retry after a second."""

    status = 503
    retry_after = 1


class CallerBusy(Overloaded):
    """This caller alone has too many requests, or too many bytes of bodies, in progress.

    The status is 429, not 503: the gateway is well, and a load balancer must not take it out of service.
    """

    status = 429


class UpstreamBusy(Overloaded):
    """The queue for the upstream is full, or the request waited in it for too long."""


class KeysAwaited(Overloaded):
    """No key at hand verifies the caller's token, and the keys are being fetched. A retry may succeed."""


class TokenRefused(Refusal):
    """The token is forged, truncated, of another caller or key, or its puzzle is not solved.

    The message does not say which, so that it tells a forger nothing.
    """


class TokenExpired(TokenRefused):
    """The token was valid until it expired."""

    status = 410


class UpstreamError(ModeltollError):
    """The upstream is down, refused the connection or closed it early."""

    status = 502


class UpstreamTimeout(UpstreamError):
    """The upstream did not answer in time."""

    status = 504


class UpstreamRefused(UpstreamError):
    """The upstream refused the request, or is busy, and says so with a status that is the caller's to know.

    ``status``: 4xx, 503 or 504. ``body``: the error in the serving protocol's shape, without anything of an answer.
    ``headers``: those of the refusal that go with it, such as ``retry-after``, in small letters.
    """

    def __init__(
        self, public: str, *, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = (), private: str = ""
    ) -> None:
        super().__init__(public, private=private)
        self.status = status
        self.body = body
        self.headers = headers


class CallerGone(ModeltollError):
    """The caller closed the connection before the answer. What was reserved for the request stays reserved."""

    status = 499


class LedgerError(ModeltollError):
    """The ledger does not answer, cannot be written, or has a version that this release does not know."""

    status = 503
    retry_after = 1

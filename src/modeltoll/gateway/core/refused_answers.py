"""What becomes of an answer whose status is not 200: which statuses reach the caller, with which body and headers.

An error of the model server must not become a way past the price. So its body is never passed on: it is written anew in
the protocol's shape, with a bounded text in which fractions are masked, and with short identifiers for its type and code.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError, AnswerUnusable, UpstreamRefused
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.records import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeltoll.errors import StreamBroken
    from modeltoll.gateway.protocols.protocol import ServingProtocol

__all__ = ["DEFAULT_REFUSALS", "RefusalTerms", "RefusedAnswers"]

_log = logging.getLogger("modeltoll.gateway")

_OK = 200
_CALLERS = frozenset((400, 404, 409, 413, 415, 422, 429, 499, 503, 504))  # statuses that are for the caller
_CHALLENGES = frozenset((401, 403))  # for the caller where an application asks its own callers for credentials
_OPERATORS = frozenset((401, 402, 403, 405, 407))
_REDIRECTS = range(300, 400)
_SAME_AS = {529: 503, 410: 404}  # statuses for which clients know a common one
_MOST_ERROR_BYTES = 64 << 10  # of a body that is searched for a text
_TEXT_CHARACTERS = 300
_FRACTION = re.compile(r"\d*\.\d{3,}(?:[eE][+-]?\d+)?|\d+(?:\.\d*)?[eE][+-]?\d+")
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_.\[\]-]{0,63}")
_MOST_SECONDS = 86_400
_HINTS = {
    401: "set upstream.api_key, or correct it",
    402: "the account at the model server is used up",
    403: "what upstream.api_key or upstream.headers hold is not allowed to ask for this model",
    405: "the model server does not take POST at this path; see models.*.protocol",
    407: "a proxy on the way to the model server asks for credentials",
}


@dataclass(frozen=True, slots=True)
class RefusalTerms:
    """``texts``: whether the texts of the model server's errors reach the caller.

    ``own_application``: the model server is the application around the gateway, which sees its callers' credentials.
    """

    texts: bool = True
    own_application: bool = False


DEFAULT_REFUSALS = RefusalTerms()


class RefusedAnswers:
    """The refusals of one model's server. ``clock`` gives seconds since the epoch, for dates in ``Retry-After``."""

    def __init__(self, protocol: ServingProtocol, terms: RefusalTerms, clock: Callable[[], float]) -> None:
        self._protocol = protocol
        self._terms = terms
        self._clock = clock
        self._reported: int | None = None

    def check(self, answer: Answer, path: str) -> Answer:
        """The answer, if its status is 200 and it is not compressed. ``path`` is for the log.

        Raises:
            UpstreamRefused: the status is for the caller. AnswerError: it is not; what the caller learns is 502.
        """
        status = answer.status
        if status == _OK:
            self._reported = None
            if coding := dict(answer.headers).get("content-encoding"):
                raise AnswerUnusable(f"the model server's answer is compressed ({coding}), though it was not asked for")
            return answer
        if status in _CALLERS or status in _SAME_AS or (self._terms.own_application and status in _CHALLENGES):
            raise self._refusal(answer, _SAME_AS.get(status, status), path)
        self.check_passing(answer, path)
        if 400 <= status < 500 and status != 408:  # no client knows more of these than that the request is at fault
            raise self._refusal(answer, 400, path)
        raise AnswerError("the model server failed", private=f"status {status} from {path}")

    def check_passing(self, answer: Answer, path: str) -> Answer:
        """The answer, unless its status is the operator's to know.

        Raises:
            AnswerError: it is; what the caller learns is 502.
        """
        status = answer.status
        if status in _OPERATORS and not (self._terms.own_application and status in _CHALLENGES):
            self._report(status, path)
            raise AnswerError("the model server cannot be asked", private=f"status {status} from {path}")
        if status in _REDIRECTS:
            where = dict(answer.headers).get("location", "nowhere")
            raise AnswerError(
                "the model server redirects, and redirects are not followed",
                private=f"status {status} from {path} to {where}; see upstream.url",
            )
        return answer

    def of_stream(self, error: StreamBroken) -> UpstreamRefused:
        """The error with which the server ended a stream, for a caller whose answer is not priced."""
        answer = Answer(error.status, JSON, error.body)
        text = self._text(answer) or str(error)
        return UpstreamRefused(text, status=error.status, body=self._body(answer, text), private=error.private)

    def _report(self, status: int, path: str) -> None:
        """Tell the operator once, until an answer comes."""
        if status != self._reported:
            self._reported = status
            _log.error("the model server answers %s with %d: %s", path, status, _HINTS[status])

    def _refusal(self, answer: Answer, status: int, path: str) -> UpstreamRefused:
        text = self._text(answer) or f"the model server refused the request with status {answer.status}"
        return UpstreamRefused(
            text,
            status=status,
            body=self._body(answer, text),
            headers=self._headers(answer),
            private=f"status {answer.status} from {path}",
        )

    def _text(self, answer: Answer) -> str:
        """The server's own text, shortened and without fractions; empty where it has none."""
        if not self._terms.texts or len(answer.body) > _MOST_ERROR_BYTES:
            return ""
        text = self._protocol.error_text(answer).strip()
        printable = "".join(character if character.isprintable() else " " for character in text)
        return _FRACTION.sub("#", printable)[:_TEXT_CHARACTERS]

    def _body(self, answer: Answer, text: str) -> bytes:
        """An error in the protocol's shape, with what the server's own has of its identifiers."""
        body = self._protocol.error(text)
        if not self._terms.texts or len(answer.body) > _MOST_ERROR_BYTES:
            return body
        try:
            shape, found = msgspec.json.decode(body), msgspec.json.decode(answer.body)
        except (ValueError, RecursionError):  # msgspec.DecodeError is a ValueError
            return body
        return msgspec.json.encode(_merged(shape, found, text))

    def _headers(self, answer: Answer) -> tuple[tuple[str, str], ...]:
        """The headers that go with the refusal; when to try again is written in one form."""
        kept = []
        for name, value in answer.headers:
            if name == "retry-after":
                seconds = _seconds(value, self._clock())
                kept += [(name, str(seconds))] if seconds is not None else []
            elif name == "retry-after-ms":
                kept += [(name, value)] if re.fullmatch(r"\d{1,8}(\.\d{1,3})?", value) else []
            elif name == "x-should-retry":
                kept += [(name, value)] if value in ("true", "false") else []
            elif name == "www-authenticate":
                kept += [(name, value)] if answer.status in _CHALLENGES else []
            elif name not in ("location", "content-encoding"):  # the body is written anew
                kept.append((name, value))
        return tuple(kept)


def _merged(shape: Any, found: Any, text: str) -> Any:
    """``shape``, with the identifiers and status codes that ``found`` has in the same places; its texts stay."""
    if isinstance(shape, dict):
        members = found if isinstance(found, dict) else {}
        return {name: _merged(value, members.get(name), text) for name, value in shape.items()}
    if shape == text or not (shape is None or isinstance(shape, str)):
        return shape
    if isinstance(found, str) and _IDENTIFIER.fullmatch(found):
        return found
    return found if type(found) is int and 400 <= found < 600 else shape


def _seconds(value: str, now: float) -> int | None:
    """The whole seconds of a ``Retry-After``, at most a day; None where it cannot be read."""
    if re.fullmatch(r"\d{1,9}", value):
        return min(int(value), _MOST_SECONDS)
    try:
        wait = parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(0, round(wait)), _MOST_SECONDS)

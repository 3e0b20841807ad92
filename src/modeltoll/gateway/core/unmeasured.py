"""Requests that shadow mode answers without measuring them: why, and their line of the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modeltoll.errors import AnswerError, LedgerError, ModeltollError, RequestError, UnknownModel
from modeltoll.gateway.core.request import SHADOW, GateResult
from modeltoll.records import REASON_CHARACTERS, LogEntry, Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeltoll.gateway.protocols.protocol import ParsedRequest
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.records import Answer, Caller

__all__ = [
    "ANSWER",
    "CONTENT_TYPE",
    "FAILURE",
    "REQUEST",
    "STATUS",
    "VERSION",
    "Unmeasured",
    "reason_of",
    "stripped_if_possible",
]

log = logging.getLogger("modeltoll.gateway")

# Why a request is not measured; the label of a metric, so that they are few.
REQUEST = "request"  # it cannot be read, or a measure cannot read its inputs
CONTENT_TYPE = "content-type"  # its body is of another content type than the protocol's
VERSION = "version"  # its path names a version of the model that is not listed
ANSWER = "answer"  # the answer is not what the settings declare, or a measure cannot read it
STATUS = "status"  # the answer has a status of success other than 200
FAILURE = "failure"  # a measure or a protocol failed
_OK = 200
_SUCCESS = range(200, 300)


def reason_of(error: Exception) -> str:
    """Why a request is not measured, as ``LogEntry.reason`` has it, from the error that says so."""
    if isinstance(error, RequestError):
        return f"{REQUEST}: {error}"
    if isinstance(error, AnswerError):
        return f"{ANSWER}: {error}" + (f" ({error.private})" if error.private else "")
    return f"{FAILURE}: {error}" if isinstance(error, ModeltollError) else f"{FAILURE}: {type(error).__name__}"


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """What the gate of a model does with requests that cannot be measured.

    In ``enforce`` mode nothing of their answers is released. In ``shadow`` mode the answer goes out as it came, and the log
    says why it was not measured. ``clock`` gives seconds since the epoch.
    """

    model: str
    mode: str
    ledger: Ledger
    clock: Callable[[], float]
    _failed: set[str] = field(default_factory=set)  # the failures whose traceback was logged

    def reason(self, error: Exception) -> str:
        """The reason why shadow mode does not measure a request.

        Raises:
            What ``error`` is: the mode is another one, or the request is for another model.
        """
        if self.mode != SHADOW or isinstance(error, UnknownModel):
            raise error
        reason = reason_of(error)
        if not isinstance(error, ModeltollError) and reason not in self._failed:
            self._failed.add(reason)
            log.error("%s: a request could not be measured", self.model, exc_info=error)
        return reason

    def answered_otherwise(self, answer: Answer) -> str:
        """The reason for an answer of success that is no prediction, or is compressed in a way that is not known here.

        Empty for any other, and in ``enforce`` mode.
        """
        if self.mode != SHADOW or answer.status not in _SUCCESS:
            return ""
        if answer.status != _OK:
            return f"{STATUS}: {answer.status}"
        coding = dict(answer.headers).get("content-encoding")
        return f"{ANSWER}: it is compressed with {coding}" if coding else ""

    async def result(self, caller: Caller, answer: Answer, rows: int, reason: str) -> GateResult:
        """The result with the answer as it is, and its line in the log. ``rows``: 0 where they are not known."""
        reason = reason.encode("utf-8", "replace").decode().replace("\0", "?")[:REASON_CHARACTERS]
        work = Work(0.0, rows, 0.0)
        entry = LogEntry(self.clock(), self.model, rows, (), (), (), work, SHADOW, reason=reason)
        in_ledger = True
        try:
            await self.ledger.bill(caller, entry)
        except LedgerError:
            in_ledger = False
        return GateResult(work, SHADOW, answer, None, in_ledger, answer.headers, reason)


def stripped_if_possible(parsed: ParsedRequest, answer: Answer) -> Answer:
    """The answer without what its caller did not ask for; as it is where the protocol cannot read it."""
    try:
        return answer if parsed.strip is None else parsed.strip(answer)
    except Exception:  # noqa: BLE001  whatever it is, the answer goes out
        return answer

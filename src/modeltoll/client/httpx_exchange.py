"""The exchange of one toll in messages of httpx or httpx2, whose names are the same.

The request's class shows which of the two is in use, so neither is imported here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio

from modeltoll.client.decompression import decompressed
from modeltoll.client.event_streams import (
    EVENTS_BEFORE_OTHERS,
    FURTHER_SILENCE,
    asks_for_events,
    events_of,
    is_event_stream,
)
from modeltoll.client.http_messages import announce, is_forwarded, is_kept, opened_headers
from modeltoll.client.purse import Purse
from modeltoll.client.receipts import Settlement
from modeltoll.client.settling import POST_SECONDS
from modeltoll.client.toll_call import TollCall
from modeltoll.client.toll_flow import RedeemStep, ResendStep, Step
from modeltoll.client.toll_session import TollSession
from modeltoll.records import Answer
from modeltoll.toll_records import Solution

if TYPE_CHECKING:
    import httpx

__all__ = ["HttpxExchange", "library_of", "settle_request", "toll_call"]

_LIBRARIES = ("httpx", "httpx2")
_COPIED_EXTENSIONS = ("timeout", "sni_hostname", "trace")  # request extensions; "target" would change the URL
_TIMEOUT = dict.fromkeys(("connect", "read", "write", "pool"), POST_SECONDS)


def library_of(request: httpx.Request) -> ModuleType:
    """The library of the request's class or of one of its base classes: httpx or httpx2."""
    roots = (kind.__module__.partition(".")[0] for kind in type(request).__mro__)
    return sys.modules[next(root for root in roots if root in _LIBRARIES)]


def toll_call(request: httpx.Request, purse: Purse, owner: object) -> TollCall:
    """The call of a request, which gets the purse's ``Toll-Accept`` unless it has one."""
    announce(request.headers, purse.accept_header)
    repeatable = isinstance(request.stream, library_of(request).ByteStream)
    body: Any = request.stream if repeatable else ()  # ``request.content`` of a redirected request cannot be read
    if asks_for_events(request.headers.get("accept", ""), b"".join(body)):
        _lengthen_read_timeout(request)
    return TollCall(purse, str(request.url), request.headers, repeatable=repeatable, owner=owner)


def _lengthen_read_timeout(request: httpx.Request) -> None:
    """Let the gateway be silent while it collects a stream whose events would have come one by one."""
    timeouts = request.extensions.get("timeout", {})
    if timeouts.get("read") is not None:
        lengthened = timeouts | {"read": timeouts["read"] + FURTHER_SILENCE}
        request.extensions = request.extensions | {"timeout": lengthened}


def settle_request(library: ModuleType, settlement: Settlement) -> httpx.Request:
    """The request that posts receipts: with the credentials of their account, and without cookies."""
    request: httpx.Request = library.Request(
        "POST",
        settlement.url,
        headers=settlement.headers,
        content=settlement.body,
        extensions={"timeout": _TIMEOUT},
    )
    return request


def _redeem_request(original: httpx.Request, step: RedeemStep) -> httpx.Request:
    """The redeem request, to the origin of the original request and with its credentials, to which the token is bound."""
    headers = [(name, value) for name, value in original.headers.raw if is_forwarded(name)]
    request: httpx.Request = library_of(original).Request(
        "POST",
        original.url.copy_with(raw_path=step.path.encode()),
        headers=[*headers, (b"Content-Type", b"application/json")],
        content=step.body,
        extensions={name: original.extensions[name] for name in _COPIED_EXTENSIONS if name in original.extensions},
    )
    return request


@cache
def _event_stream_type(library: Any) -> Any:
    """The class of the library's streams that replay an event stream, one chunk per event."""

    class EventStream(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc]  # either library
        def __init__(self, body: bytes, pace: float) -> None:
            self._body, self._pace = body, pace

        def __iter__(self) -> Iterator[bytes]:
            for number, event in enumerate(events_of(self._body)):
                if number and self._pace:
                    time.sleep(self._pace)
                yield event

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for number, event in enumerate(events_of(self._body)):
                if number and (self._pace or number % EVENTS_BEFORE_OTHERS == 0):
                    await anyio.sleep(self._pace)
                yield event

    return EventStream


def _opened_response(library: ModuleType, original: httpx.Response, answer: Answer, pace: float) -> httpx.Response:
    """A response with the opened answer; headers of the 402 that do not describe its body are kept."""
    stream = library.ByteStream(answer.body)
    if is_event_stream(answer):
        stream = _event_stream_type(library)(answer.body, pace)
    headers = [(name, value) for name, value in original.headers.raw if is_kept(name)]
    headers += [(name.encode("ascii"), value.encode("ascii")) for name, value in opened_headers((), answer)]
    response: httpx.Response = library.Response(
        answer.status,
        headers=headers,
        stream=stream,
        extensions={name: value for name, value in original.extensions.items() if name != "reason_phrase"},
    )
    return response


def _unread_response(library: ModuleType, original: httpx.Response, raw: bytes) -> httpx.Response:
    """A response equal to one that was read, with its body ``raw`` to be read again."""
    response: httpx.Response = library.Response(
        original.status_code, headers=original.headers, stream=library.ByteStream(raw), extensions=original.extensions
    )
    return response


class HttpxExchange:
    """One request whose response is a toll: the state that the sync and the async driver share.

    ``step`` is what the driver must do next, or None at the end; then ``response`` is the caller's response.
    ``raw`` is the body of the first response, still encoded. The driver calls ``close`` however the exchange ends.
    """

    def __init__(self, request: httpx.Request, response: httpx.Response, raw: bytes, call: TollCall) -> None:
        self.call = call
        self._request = request
        self._library = library_of(request)
        self._original = response
        self.response = _unread_response(self._library, response, raw)
        self._session = TollSession(call, _decoded(response, raw))

    @property
    def step(self) -> Step | None:
        return self._session.step

    def close(self) -> None:
        """See ``TollSession.close``."""
        self._session.close()

    def end_wait(self) -> None:
        """Say that a ``WaitStep`` is over."""
        self._session.end_wait()

    def submit_result(self, result: Answer | Solution) -> None:
        """Give the result of a ``SolveStep``."""
        self._session.submit_result(result)
        if self._session.answer is not None:
            pace = self.call.purse.replay_pace
            self.response = _opened_response(self._library, self._original, self._session.answer, pace)

    def request_of(self, step: RedeemStep | ResendStep) -> httpx.Request:
        """The request that the driver sends for a step."""
        return self._request if isinstance(step, ResendStep) else _redeem_request(self._request, step)

    def submit_response(self, response: httpx.Response, raw: bytes | None = None) -> None:
        """Give the response to that request; ``raw`` is its body if the driver read it."""
        self._original = self.response = response
        if raw is None:
            self._session.submit_response(response.status_code)
            return
        self.response = _unread_response(self._library, response, raw)
        self._session.submit_response(response.status_code, _decoded(response, raw))


def _decoded(response: httpx.Response, raw: bytes) -> bytes:
    return decompressed(raw, response.headers.get("content-encoding", ""))

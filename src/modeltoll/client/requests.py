"""A transport adapter for requests that pays tolls.

Use it as ``session.mount("https://", TollAdapter(max_seconds=30))``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from http.client import responses as phrases
from io import BytesIO
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from requests import PreparedRequest, Request, Response
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ConnectionError, SSLError  # noqa: A004
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3 import exceptions as urllib3_errors

from modeltoll.client.decompression import decompressed
from modeltoll.client.event_streams import FURTHER_SILENCE, asks_for_events, events_of, is_event_stream
from modeltoll.client.http_messages import BoundedBody, announce, is_forwarded, opened_headers
from modeltoll.client.purse import Purse
from modeltoll.client.receipts import Settlement
from modeltoll.client.settling import POST_SECONDS, Settler
from modeltoll.client.toll_call import TollCall
from modeltoll.client.toll_flow import POLL_SECONDS, RedeemStep, ResendStep, SolveStep, WaitStep, may_be_toll
from modeltoll.client.toll_session import TollSession
from modeltoll.records import Answer

__all__ = ["TollAdapter"]

_Send: TypeAlias = Callable[[PreparedRequest], Response]
_Options: TypeAlias = tuple[Any, ...]  # timeout, verify, cert, proxies
_BLOCK = 1 << 16
_MAX_ORIGINS = 1_000  # whose options are kept


class TollAdapter(BaseAdapter):
    """An adapter that pays tolls.

    Responses other than tolls are passed on unchanged, streams as streams. Requests get the header ``Toll-Accept``,
    unless they have one. The timeouts of requests apply to the network only; the purse limits the work.

    Args:
        max_seconds: the largest toll to pay, in expected seconds on one reference core; above it, ``TollTooDear``.
        purse: further limits; overrides ``max_seconds``.
        adapter: the inner adapter, which sends the requests and sets retries and pools; by default ``HTTPAdapter()``.

    Raises (from the session's calls):
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or its answer cannot be opened.
    """

    def __init__(
        self, max_seconds: float = 30.0, *, purse: Purse | None = None, adapter: BaseAdapter | None = None
    ) -> None:
        super().__init__()
        self.purse = purse or Purse(max_seconds)
        self._inner = adapter or HTTPAdapter()
        self._options: dict[str, _Options] = {}  # of the last toll of each origin
        self._settler = Settler(self.purse.receipts, self._post)

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Send the request; if the response is a toll, pay it and return the opened answer."""

        announce(request.headers, self.purse.accept_header)
        repeatable = request.body is None or isinstance(request.body, str | bytes)
        if asks_for_events(str(request.headers.get("Accept", "")), request.body if repeatable else None):
            timeout = _lengthened(timeout)
        options = timeout, verify, cert, proxies

        def send(message: PreparedRequest) -> Response:
            return self._inner.send(message, stream, *options)

        call = TollCall(self.purse, str(request.url), request.headers, repeatable=repeatable, owner=self._settler.owner)
        response = _send_with_receipts(call, request, send)
        if not may_be_toll(response.status_code, response.headers):
            return response
        with closing(TollSession(call, _read_again(response))) as session:
            try:
                response = _pay(session, call, response, send)
            finally:
                self._remember(call.account.origin, options)
                self._settler.arm()
        return (
            response if session.answer is None else _opened_response(response, session.answer, self.purse.replay_pace)
        )

    def _remember(self, origin: str, options: _Options) -> None:
        """Keep the options with which receipts are posted to an origin."""
        if len(self._options) >= _MAX_ORIGINS:
            self._options.clear()
        self._options[origin] = options

    def _post(self, settlement: Settlement) -> int:
        _, verify, cert, proxies = self._options.get(settlement.account.origin, (None, True, None, None))
        request = Request("POST", settlement.url, settlement.headers, data=settlement.body).prepare()
        response = self._inner.send(request, False, POST_SECONDS, verify, cert, proxies)
        response.close()
        return response.status_code

    def close(self) -> None:
        """Post the receipts that are left, and close the inner adapter."""
        self._settler.close()
        self._inner.close()


def _send_with_receipts(call: TollCall, request: PreparedRequest, send: _Send) -> Response:
    with call.receipts_in(request.headers) as delivery:
        response = send(request)
        delivery.confirm(response.status_code, response.headers)
    return response


def _pay(session: TollSession, call: TollCall, response: Response, send: _Send) -> Response:
    """Carry out the steps of the toll in a response; returns the last response."""
    request = response.request
    while (step := session.step) is not None:
        if isinstance(step, SolveStep):
            session.submit_result(step.run(None))
            continue
        if isinstance(step, WaitStep):
            while not step.ready():
                time.sleep(POLL_SECONDS)
            session.end_wait()
            continue
        if isinstance(step, ResendStep):
            response = _send_with_receipts(call, request, send)
        else:
            response = send(_redeem_request(request, step))
            response.request, response.url = request, str(request.url)
        read = step.reads(response.status_code, response.headers)
        session.submit_response(response.status_code, _read_again(response) if read else b"")
    return response


def _redeem_request(original: PreparedRequest, step: RedeemStep) -> PreparedRequest:
    """The redeem request, to the origin of the original request and with its credentials."""
    request = original.copy()
    request.method = "POST"
    request.url = urlsplit(str(original.url))._replace(path=step.path, query="", fragment="").geturl()
    request.headers = CaseInsensitiveDict(
        (name, value) for name, value in original.headers.items() if is_forwarded(name)
    )
    request.headers["Content-Type"] = "application/json"
    request.headers["Content-Length"] = str(len(step.body))
    request.body = step.body
    return request


@contextmanager
def _as_requests_error() -> Iterator[None]:
    """Raise errors of urllib3 as the errors that requests itself raises for them."""
    try:
        yield
    except urllib3_errors.ProtocolError as error:
        raise ChunkedEncodingError(error) from error
    except urllib3_errors.ReadTimeoutError as error:
        raise ConnectionError(error) from error
    except urllib3_errors.SSLError as error:
        raise SSLError(error) from error


def _read(response: Response) -> bytes:
    """The body, still encoded; the connection returns to its pool."""
    body = BoundedBody()
    whole = False
    try:
        body.check_declared_size(response.headers.get("content-length", ""))
        with _as_requests_error():
            for chunk in response.raw.stream(_BLOCK, decode_content=False):
                body.add(chunk)
        whole = True
    finally:
        if not whole:
            response.close()
    return body.content()


def _read_again(response: Response) -> bytes:
    """The body without its content encoding, which networks may add. The response can be read again, as it was."""
    raw = _read(response)
    _replace_body(response, raw, response.raw.headers.items())
    return decompressed(raw, response.headers.get("content-encoding", ""))


def _replace_body(
    response: Response, body: bytes, headers: Iterable[tuple[str, str]], pace: float | None = None
) -> None:
    """Replace the body and the headers of a response that was read. With a ``pace`` it is an event stream to replay."""
    raw_response: Any = response.raw
    kind: Any = HTTPResponse if pace is None else partial(_ReplayedResponse, pace)
    response.raw = kind(
        BytesIO(body),
        HTTPHeaderDict(headers),
        response.status_code,
        version=raw_response.version,
        reason=response.reason,
        preload_content=False,
        original_response=raw_response._original_response,  # noqa: SLF001  requests reads cookies from it
        request_method=response.request.method,
    )
    response.headers = CaseInsensitiveDict(response.raw.headers)
    response.encoding = get_encoding_from_headers(response.headers)


class _ReplayedResponse(HTTPResponse):
    """An opened event stream. ``stream``, which requests reads, gives one event after the other."""

    def __init__(self, pace: float, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._pace = pace

    def stream(self, amt: int | None = 2**16, decode_content: bool | None = None) -> Generator[bytes]:
        """What was not read yet: chunks of at most ``amt`` bytes, each of one event."""
        for number, event in enumerate(events_of(self.read(decode_content=decode_content))):
            if number and self._pace:
                time.sleep(self._pace)
            step = amt or len(event)
            for start in range(0, len(event), step):
                yield event[start : start + step]


def _opened_response(response: Response, answer: Answer, pace: float) -> Response:
    """The response changed to the opened answer; headers of the 402 that do not describe its body are kept."""
    response.status_code = answer.status
    response.reason = phrases.get(answer.status, "")
    headers = opened_headers(response.raw.headers.items(), answer)
    _replace_body(response, answer.body, headers, pace if is_event_stream(answer) else None)
    return response


def _lengthened(timeout: Any) -> Any:
    """The timeouts with more time to read: the gateway collects a stream whose events would have come one by one."""
    if isinstance(timeout, int | float):
        return timeout, timeout + FURTHER_SILENCE
    if isinstance(timeout, tuple) and timeout[1] is not None:
        return timeout[0], timeout[1] + FURTHER_SILENCE
    return timeout

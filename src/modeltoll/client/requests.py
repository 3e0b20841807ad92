"""An adapter for requests that pays tolls without the caller noticing.

session.mount("https://", TollAdapter(max_seconds=30))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.client import responses as phrases
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ConnectionError, ContentDecodingError, SSLError  # noqa: A004
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3 import exceptions as urllib3_errors

from modeltoll.client.http_messages import BoundedBody, is_forwarded, opened_headers
from modeltoll.client.purse import Purse
from modeltoll.client.toll_flow import RedeemStep, SolveStep, is_final_status, may_be_toll
from modeltoll.client.toll_session import TollSession
from modeltoll.records import Answer
from modeltoll.wire import ACCEPT_HEADER, STATUS

__all__ = ["TollAdapter"]

_BLOCK = 1 << 14  # compressed bytes at a time: a bomb is noticed before it fills the memory


class TollAdapter(BaseAdapter):
    """An adapter that pays tolls.

    What is no toll comes through as the server sent it, streamed where it was streamed; the request carries one more
    header, ``Toll-Accept``, unless it has one already. The time-outs of requests are for the network; the work has its
    own limits in the purse.

    Args:
        max_seconds: the dearest toll to pay, in expected seconds on one core (``TollTooDear`` above it).
        purse: other limits; overrides ``max_seconds``.
        adapter: what sends requests; by default an ``HTTPAdapter()``. Retries and pools are set there.

    Raises (from the session's calls):
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or bought nothing.
    """

    def __init__(
        self, max_seconds: float = 30.0, *, purse: Purse | None = None, adapter: BaseAdapter | None = None
    ) -> None:
        super().__init__()
        self.purse = purse or Purse(max_seconds)
        self._inner = adapter or HTTPAdapter()

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Send, pay, open."""

        def ask(message: PreparedRequest) -> Response:
            return self._inner.send(message, stream, timeout, verify, cert, proxies)

        request.headers.setdefault(ACCEPT_HEADER, self.purse.wishes)
        response = ask(request)
        if not may_be_toll(response.status_code, response.headers):
            return response
        raw = _read(response)
        _copied(response, raw, response.raw.headers.items())
        steps = TollSession(self.purse, _decoded(response, raw))
        while (step := steps.step) is not None:
            if isinstance(step, SolveStep):
                steps.earned(step.run(None))
                continue
            response = ask(_redeeming(request, step))
            response.request, response.url = request, str(request.url)
            body = b""
            if response.status_code == STATUS:
                body = _decoded(response, _read(response))
            elif not is_final_status(response.status_code):
                response.close()
            steps.redeemed(response.status_code, body)
        return response if steps.answer is None else _with_plain_headers(response, steps.answer)

    def close(self) -> None:
        """Close the adapter inside."""
        self._inner.close()


def _redeeming(original: PreparedRequest, redemption: RedeemStep) -> PreparedRequest:
    """The request for what the original bought, to the same origin, with the same credentials."""
    request = original.copy()
    request.method = "POST"
    request.url = urlsplit(str(original.url))._replace(path=redemption.path, query="", fragment="").geturl()
    request.headers = CaseInsensitiveDict(
        (name, value) for name, value in original.headers.items() if is_forwarded(name)
    )
    request.headers["Content-Type"] = "application/json"
    request.headers["Content-Length"] = str(len(redemption.body))
    request.body = redemption.body
    return request


@contextmanager
def _as_requests_error() -> Iterator[None]:
    """What reading a body raises is what requests itself would raise."""
    try:
        yield
    except urllib3_errors.ProtocolError as error:
        raise ChunkedEncodingError(error) from error
    except urllib3_errors.DecodeError as error:
        raise ContentDecodingError(error) from error
    except urllib3_errors.ReadTimeoutError as error:
        raise ConnectionError(error) from error
    except urllib3_errors.SSLError as error:
        raise SSLError(error) from error


def _read(response: Response) -> bytes:
    """The body as it came; the connection goes back to its pool."""
    body = BoundedBody()
    whole = False
    try:
        body.expect(response.headers.get("content-length", ""))
        with _as_requests_error():
            for chunk in response.raw.stream(_BLOCK, decode_content=False):
                body.add(chunk)
        whole = True
    finally:
        if not whole:
            response.close()
    return body.joined()


def _decoded(response: Response, raw: bytes) -> bytes:
    """The body without the compression that somebody on the way may have put on it."""
    encoding = response.headers.get("content-encoding")
    if encoding is None or not raw:
        return raw
    body = BoundedBody()
    packed = HTTPResponse(BytesIO(raw), {"content-encoding": encoding}, 200, preload_content=False)
    with _as_requests_error():
        for chunk in packed.stream(_BLOCK, decode_content=True):
            body.add(chunk)
    return body.joined()


def _copied(response: Response, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
    """Put a body, and headers, into a response that was read."""
    came: Any = response.raw
    response.raw = HTTPResponse(
        BytesIO(body),
        HTTPHeaderDict(headers),
        response.status_code,
        version=came.version,
        reason=response.reason,
        preload_content=False,
        original_response=came._original_response,  # noqa: SLF001  where requests looks for cookies
        request_method=response.request.method,
    )
    response.headers = CaseInsensitiveDict(response.raw.headers)
    response.encoding = get_encoding_from_headers(response.headers)


def _with_plain_headers(response: Response, answer: Answer) -> Response:
    """The response with the answer in it, and with the other headers of the 402 that it came in."""
    response.status_code = answer.status
    response.reason = phrases.get(answer.status, "")
    _copied(response, answer.body, opened_headers(response.raw.headers.items(), answer))
    return response

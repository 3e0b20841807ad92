"""A transport adapter for requests that pays tolls.

Use it as ``session.mount("https://", TollAdapter(max_seconds=30))``.
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

_BLOCK = 1 << 14  # compressed bytes per step, so that a decompression bomb is found before it fills the memory


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

        def send(message: PreparedRequest) -> Response:
            return self._inner.send(message, stream, timeout, verify, cert, proxies)

        request.headers.setdefault(ACCEPT_HEADER, self.purse.accept_header)
        response = send(request)
        if not may_be_toll(response.status_code, response.headers):
            return response
        raw = _read(response)
        _replace_body(response, raw, response.raw.headers.items())
        session = TollSession(self.purse, _decompressed(response, raw))
        while (step := session.step) is not None:
            if isinstance(step, SolveStep):
                session.submit_result(step.run(None))
                continue
            response = send(_redeem_request(request, step))
            response.request, response.url = request, str(request.url)
            body = b""
            if response.status_code == STATUS:
                body = _decompressed(response, _read(response))
            elif not is_final_status(response.status_code):
                response.close()
            session.submit_redemption(response.status_code, body)
        return response if session.answer is None else _opened_response(response, session.answer)

    def close(self) -> None:
        """Close the inner adapter."""
        self._inner.close()


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
    except urllib3_errors.DecodeError as error:
        raise ContentDecodingError(error) from error
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


def _decompressed(response: Response, raw: bytes) -> bytes:
    """The body without its content encoding, which proxies may add."""
    encoding = response.headers.get("content-encoding")
    if encoding is None or not raw:
        return raw
    body = BoundedBody()
    compressed = HTTPResponse(BytesIO(raw), {"content-encoding": encoding}, 200, preload_content=False)
    with _as_requests_error():
        for chunk in compressed.stream(_BLOCK, decode_content=True):
            body.add(chunk)
    return body.content()


def _replace_body(response: Response, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
    """Replace the body and the headers of a response that was read."""
    raw_response: Any = response.raw
    response.raw = HTTPResponse(
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


def _opened_response(response: Response, answer: Answer) -> Response:
    """The response changed to the opened answer; headers of the 402 that do not describe its body are kept."""
    response.status_code = answer.status
    response.reason = phrases.get(answer.status, "")
    _replace_body(response, answer.body, opened_headers(response.raw.headers.items(), answer))
    return response

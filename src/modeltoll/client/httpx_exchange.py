"""The exchange of one toll in messages of httpx or httpx2, whose names are the same.

The request's class shows which of the two is in use, so neither is imported here.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from modeltoll.client.http_messages import BoundedBody, is_forwarded, is_kept, opened_headers
from modeltoll.client.purse import Purse
from modeltoll.client.toll_flow import RedeemStep, SolveStep
from modeltoll.client.toll_session import TollSession
from modeltoll.records import Answer, Solution
from modeltoll.wire import ACCEPT_HEADER, STATUS

if TYPE_CHECKING:
    import httpx

__all__ = ["HttpxExchange", "library_of", "with_accept_header"]

_LIBRARIES = ("httpx", "httpx2")
_ACCEPT = ACCEPT_HEADER.lower().encode()

_COPIED_EXTENSIONS = ("timeout", "sni_hostname", "trace")  # request extensions; "target" would change the URL
_BLOCK = 1 << 14  # compressed bytes per step, so that a decompression bomb is found before it fills the memory


def library_of(request: httpx.Request) -> ModuleType:
    """The library of the request's class or of one of its base classes: httpx or httpx2."""
    roots = (kind.__module__.partition(".")[0] for kind in type(request).__mro__)
    return sys.modules[next(root for root in roots if root in _LIBRARIES)]


def with_accept_header(request: httpx.Request, purse: Purse) -> httpx.Request:
    """The same request with the purse's ``Toll-Accept``, unless it has one."""
    if _ACCEPT not in [name.lower() for name, _ in request.headers.raw]:  # faster than ``request.headers``
        request.headers[ACCEPT_HEADER] = purse.accept_header
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


def _opened_response(library: ModuleType, original: httpx.Response, answer: Answer) -> httpx.Response:
    """A response with the opened answer; headers of the 402 that do not describe its body are kept."""
    headers = [(name, value) for name, value in original.headers.raw if is_kept(name)]
    headers += [(name.encode("ascii"), value.encode("ascii")) for name, value in opened_headers((), answer)]
    response: httpx.Response = library.Response(
        answer.status,
        headers=headers,
        stream=library.ByteStream(answer.body),
        extensions={name: value for name, value in original.extensions.items() if name != "reason_phrase"},
    )
    return response


def _unread_response(library: ModuleType, original: httpx.Response, raw: bytes) -> httpx.Response:
    """A response equal to one that was read, with its body ``raw`` to be read again."""
    response: httpx.Response = library.Response(
        original.status_code, headers=original.headers, stream=library.ByteStream(raw), extensions=original.extensions
    )
    return response


def _decompressed(library: ModuleType, original: httpx.Response, raw: bytes) -> bytes:
    """The body without its content encoding, which proxies may add.

    Raises:
        TollMalformed: larger than any toll.
    """
    encoding = original.headers.get("content-encoding")
    if encoding is None:
        return raw
    blocks = (raw[start : start + _BLOCK] for start in range(0, len(raw), _BLOCK))
    body = BoundedBody()
    for chunk in library.Response(200, headers={"content-encoding": encoding}, content=blocks).iter_bytes():
        body.add(chunk)
    return body.content()


class HttpxExchange:
    """One request whose response may be a toll: the state that the sync and the async driver share.

    ``step`` is what the driver must do next, or None at the end; then ``response`` is the caller's response.
    ``raw`` is the body of the first response, still encoded.
    """

    def __init__(self, request: httpx.Request, response: httpx.Response, raw: bytes, purse: Purse) -> None:
        self._request = request
        self._library = library_of(request)
        self._original = response
        self.response = _unread_response(self._library, response, raw)
        self._session = TollSession(purse, _decompressed(self._library, response, raw))

    @property
    def step(self) -> SolveStep | RedeemStep | None:
        return self._session.step

    def submit_result(self, result: Answer | Solution) -> None:
        """Give the result of a ``SolveStep``."""
        self._session.submit_result(result)
        if self._session.answer is not None:
            self.response = _opened_response(self._library, self._original, self._session.answer)

    def redeem_request(self, step: RedeemStep) -> httpx.Request:
        """The request for a ``RedeemStep``."""
        return _redeem_request(self._request, step)

    def submit_redemption(self, response: httpx.Response, raw: bytes = b"") -> None:
        """Give the response to the redeem request; ``raw`` is its body unless the status is final."""
        self._original = self.response = response
        body = _decompressed(self._library, response, raw) if response.status_code == STATUS else b""
        self._session.submit_redemption(response.status_code, body)

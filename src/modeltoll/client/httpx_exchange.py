"""One request's way through a toll, in the messages of httpx and httpx2, whose names are the same.

Which of the two is in use is seen from the request, so neither is imported here.
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
_WISHES = ACCEPT_HEADER.lower().encode()

_TAKEN_OVER = ("timeout", "sni_hostname", "trace")  # request extensions; "target" would lead elsewhere
_BLOCK = 1 << 14  # compressed bytes at a time: a bomb is noticed before it fills the memory


def library_of(request: httpx.Request) -> ModuleType:
    """The library that made the request: httpx or httpx2, also where its class was derived from."""
    roots = (kind.__module__.partition(".")[0] for kind in type(request).__mro__)
    return sys.modules[next(root for root in roots if root in _LIBRARIES)]


def with_accept_header(request: httpx.Request, purse: Purse) -> httpx.Request:
    """The same request, which now says what the purse pays with, unless its maker said it himself."""
    if _WISHES not in [name.lower() for name, _ in request.headers.raw]:  # faster than to ask the headers themselves
        request.headers[ACCEPT_HEADER] = purse.wishes
    return request


def _redeeming(original: httpx.Request, redemption: RedeemStep) -> httpx.Request:
    """The request for what the original bought.

    It goes where the original went, with the same credentials, since the token is its caller's alone.
    """
    headers = [(name, value) for name, value in original.headers.raw if is_forwarded(name)]
    request: httpx.Request = library_of(original).Request(
        "POST",
        original.url.copy_with(raw_path=redemption.path.encode()),
        headers=[*headers, (b"Content-Type", b"application/json")],
        content=redemption.body,
        extensions={name: original.extensions[name] for name in _TAKEN_OVER if name in original.extensions},
    )
    return request


def _rebuilt(library: ModuleType, came: httpx.Response, answer: Answer) -> httpx.Response:
    """A response that carries the answer, with the other headers of the 402 that it came in."""
    headers = [(name, value) for name, value in came.headers.raw if is_kept(name)]
    headers += [(name.encode("ascii"), value.encode("ascii")) for name, value in opened_headers((), answer)]
    response: httpx.Response = library.Response(
        answer.status,
        headers=headers,
        stream=library.ByteStream(answer.body),
        extensions={name: value for name, value in came.extensions.items() if name != "reason_phrase"},
    )
    return response


def _replayed(library: ModuleType, came: httpx.Response, raw: bytes) -> httpx.Response:
    """A response that was read, as it was before."""
    response: httpx.Response = library.Response(
        came.status_code, headers=came.headers, stream=library.ByteStream(raw), extensions=came.extensions
    )
    return response


def _decoded(library: ModuleType, came: httpx.Response, raw: bytes) -> bytes:
    """The body without the compression that somebody on the way may have put on it.

    Raises:
        TollMalformed: larger than any toll.
    """
    encoding = came.headers.get("content-encoding")
    if encoding is None:
        return raw
    blocks = (raw[start : start + _BLOCK] for start in range(0, len(raw), _BLOCK))
    body = BoundedBody()
    for chunk in library.Response(200, headers={"content-encoding": encoding}, content=blocks).iter_bytes():
        body.add(chunk)
    return body.joined()


class HttpxExchange:
    """The way of one request that was answered with what may be a toll: what the sync and the async driver share.

    ``step`` is what the driver must do next, None at the end; there, ``response`` is what the caller gets.
    ``raw`` is the response's body as it came.
    """

    def __init__(self, request: httpx.Request, response: httpx.Response, raw: bytes, purse: Purse) -> None:
        self._request = request
        self._library = library_of(request)
        self._asked = response
        self.response = _replayed(self._library, response, raw)
        self._steps = TollSession(purse, _decoded(self._library, response, raw))

    @property
    def step(self) -> SolveStep | RedeemStep | None:
        return self._steps.step

    def earned(self, got: Answer | Solution) -> None:
        """Hand in what the labour brought."""
        self._steps.earned(got)
        if self._steps.answer is not None:
            self.response = _rebuilt(self._library, self._asked, self._steps.answer)

    def redeeming(self, redemption: RedeemStep) -> httpx.Request:
        """The request that a redemption asks for."""
        return _redeeming(self._request, redemption)

    def redeemed(self, response: httpx.Response, raw: bytes = b"") -> None:
        """Hand in what came of it; of what does not hand over also the body, as it came."""
        self._asked = self.response = response
        body = _decoded(self._library, response, raw) if response.status_code == STATUS else b""
        self._steps.redeemed(response.status_code, body)

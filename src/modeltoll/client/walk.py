"""One request's way through its flow, in the messages of httpx and httpx2, whose names are the same.

Which of the two is in use is seen from the request, so neither is imported here.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from modeltoll.client.purse import Errand, Labour, Purse, Reply, toll_flow
from modeltoll.errors import TollMalformed
from modeltoll.records import Answer, Solution
from modeltoll.wire import MAX_TOLL_BYTES

if TYPE_CHECKING:
    import httpx

__all__ = ["Bounded", "Walk", "library_of"]

_LIBRARIES = ("httpx", "httpx2")

# What a redemption does not take over from the request whose answer it fetches.
_OF_THE_BODY = frozenset((b"content-encoding", b"content-length", b"content-type", b"transfer-encoding"))
_OF_THE_REQUEST = _OF_THE_BODY | {b"expect", b"range"}
_TAKEN_OVER = ("timeout", "sni_hostname", "trace")  # request extensions; "target" would lead elsewhere
# What an opened answer does not take over from the 402 that it came in.
_OF_THE_TOLL = _OF_THE_BODY | {b"cache-control", b"etag", b"trailer", b"www-authenticate"}
_BLOCK = 1 << 14  # compressed bytes at a time: a bomb is noticed before it fills the memory


def library_of(request: httpx.Request) -> ModuleType:
    """The library that made the request: httpx or httpx2, also where its class was derived from."""
    roots = (kind.__module__.partition(".")[0] for kind in type(request).__mro__)
    return sys.modules[next(root for root in roots if root in _LIBRARIES)]


def _prepared(original: httpx.Request, errand: Errand) -> httpx.Request:
    """The request that an errand asks for: the original with more headers, or a redemption at the same origin.

    A redemption goes where the original went, with the same credentials, since the token is its caller's alone.
    """
    if errand.path is None:
        for name, value in errand.headers:
            original.headers.setdefault(name, value)
        return original
    kept = [(name, value) for name, value in original.headers.raw if name.lower() not in _OF_THE_REQUEST]
    request: httpx.Request = library_of(original).Request(
        "POST",
        original.url.copy_with(raw_path=errand.path.encode()),
        headers=[*kept, *((name.encode(), value.encode()) for name, value in errand.headers)],
        content=errand.body,
        extensions={name: original.extensions[name] for name in _TAKEN_OVER if name in original.extensions},
    )
    return request


def _rebuilt(library: ModuleType, came: httpx.Response, answer: Answer) -> httpx.Response:
    """A response that carries the answer, with the other headers of the 402 that it came in."""
    headers = [(name, value) for name, value in came.headers.raw if name.lower() not in _OF_THE_TOLL]
    headers.append((b"Content-Length", b"%d" % len(answer.body)))
    if answer.content_type:
        headers.append((b"Content-Type", answer.content_type.encode("ascii")))
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
    body = Bounded()
    for chunk in library.Response(200, headers={"content-encoding": encoding}, content=blocks).iter_bytes():
        body.add(chunk)
    return body.joined()


class Bounded:
    """Collects a body that must not grow beyond what a toll may take."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._left = MAX_TOLL_BYTES

    def expect(self, response: httpx.Response) -> None:
        """Refuse at once what says of itself that it is too large."""
        size = response.headers.get("content-length", "")
        if size.isdecimal() and int(size[:20]) > self._left:
            self._refuse()

    def add(self, chunk: bytes) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            self._refuse()
        self._chunks.append(chunk)

    def joined(self) -> bytes:
        return b"".join(self._chunks)

    @staticmethod
    def _refuse() -> None:
        raise TollMalformed(f"the toll is larger than {MAX_TOLL_BYTES} bytes")


class Walk:
    """One request's way through its flow: what the sync and the async driver share.

    ``step`` is what the driver must do next, None at the end; there, ``response`` is what the caller gets.
    """

    def __init__(self, request: httpx.Request, purse: Purse) -> None:
        self._request = request
        self._flow = toll_flow(purse)
        self._came: httpx.Response
        self._raw: bytes | None = None
        self.response: httpx.Response
        self.step: Errand | Labour | None = next(self._flow)

    def outgoing(self, errand: Errand) -> httpx.Request:
        """The request that the errand asks for."""
        return _prepared(self._request, errand)

    def arrived(self, response: httpx.Response, raw: bytes | None) -> None:
        """Take in a response, with its raw body where the errand wanted it."""
        self._came, self._raw = response, raw
        body = b"" if raw is None else _decoded(library_of(self._request), response, raw)
        self.earned(Reply(response.status_code, body))

    def earned(self, got: Reply | Answer | Solution) -> None:
        """Hand the flow what it waits for."""
        try:
            self.step = self._flow.send(got)
        except StopIteration as end:
            self.step, self.response = None, self._final(end.value)

    def _final(self, answer: Answer | None) -> httpx.Response:
        if answer is not None:
            return _rebuilt(library_of(self._request), self._came, answer)
        if self._raw is not None:
            return _replayed(library_of(self._request), self._came, self._raw)
        return self._came

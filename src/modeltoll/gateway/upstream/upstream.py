"""The interface of a model server, as the gateway uses it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from modeltoll.errors import AnswerError, AnswerUnusable
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.threads import LARGE_BYTES, off_loop
from modeltoll.record_init import quick_init
from modeltoll.records import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ["NO_HEAD", "AnswerStream", "RequestHead", "Upstream", "UpstreamWrapper", "convert_answer", "streamed_whole"]

T = TypeVar("T")


@quick_init
@dataclass(frozen=True, slots=True)
class RequestHead:
    """What of a request's URL and headers goes to the model server.

    ``query`` is percent-encoded, without its question mark. ``headers`` are pairs of a name in small letters and a value,
    which say nothing to the model (identifiers of traces). ``read_headers`` are pairs that the model may read: they, like
    the query, are part of every row's fingerprint.
    """

    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    read_headers: tuple[tuple[str, str], ...] = ()

    @property
    def all_headers(self) -> dict[str, str]:
        """The headers of both kinds."""
        return dict((*self.headers, *self.read_headers))


NO_HEAD = RequestHead()


@quick_init
@dataclass(frozen=True, slots=True, eq=False)
class AnswerStream:
    """An answer whose body comes in ``chunks``, none of them empty; otherwise as ``Answer``. It is iterated over once.

    The iteration raises what ``Upstream.predict`` raises of a body; ``UpstreamTimeout``: no chunk came in time.
    """

    status: int
    content_type: str
    headers: tuple[tuple[str, str], ...]
    chunks: AsyncIterator[bytes]

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks."""
        return self.chunks

    async def whole(self) -> Answer:
        """The answer, once all of it has come."""
        body = b"".join([chunk async for chunk in self.chunks])
        return Answer(self.status, self.content_type, body, self.headers)

    @classmethod
    def of(cls, answer: Answer) -> AnswerStream:
        """An answer that is here already, as one chunk."""
        return cls(answer.status, answer.content_type, answer.headers, _one_chunk(answer.body))


@asynccontextmanager
async def streamed_whole(answer: Awaitable[Answer]) -> AsyncIterator[AnswerStream]:
    """``Upstream.stream`` of a server that answers as a whole."""
    yield AnswerStream.of(await answer)


async def convert_answer(function: Callable[..., T], answer: Answer, *arguments: Any) -> T:
    """What ``function(answer, *arguments)`` returns, for an answer of success; it is called in another thread where the answer is large.

    Raises:
        AnswerUnusable: the function raised ``AnswerError``. The model server has worked all the same.
    """
    try:
        return await off_loop(len(answer.body) > LARGE_BYTES, function, answer, *arguments)
    except AnswerError as error:
        raise AnswerUnusable(str(error), private=error.private) from None


async def _one_chunk(body: bytes) -> AsyncIterator[bytes]:
    if body:
        yield body


class Upstream(Protocol):
    """The server that runs the model."""

    async def open(self) -> None:
        """Prepare connections; called once before any request."""

    async def close(self) -> None:
        """Close all connections."""

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """Post a request body to a path and return the server's answer, whatever its status.

        ``Answer.headers`` are those of the answer that may be passed on, and its ``content-encoding`` where it is compressed
        in a way that is not known here.
        Content types are those of ``wire.with_binary_length``.

        Raises:
            UpstreamError: the server is down or did not complete its response (``UpstreamTimeout``: it did not answer in time).
            AnswerUnusable: the answer is larger than the limit, not compressed as it says, of a content type that cannot be
                passed on, or cannot be written as the caller's protocol has it.
        """

    def stream(
        self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD
    ) -> AbstractAsyncContextManager[AnswerStream]:
        """As ``predict``, for an answer that is read while it comes. Leaving the context ends the request.

        The limit of time holds until the head of the answer comes, and then for each chunk.
        """

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """Get a path; otherwise as ``predict``."""


class UpstreamWrapper:
    """An upstream that asks another one, with which it is opened and closed. A subclass changes some of the calls."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def open(self) -> None:
        """See ``Upstream.open``."""
        await self._upstream.open()

    async def close(self) -> None:
        """See ``Upstream.close``."""
        await self._upstream.close()

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``."""
        return await self._upstream.predict(path, body, content_type, head)

    def stream(
        self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD
    ) -> AbstractAsyncContextManager[AnswerStream]:
        """See ``Upstream.stream``."""
        return self._upstream.stream(path, body, content_type, head)

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.fetch``."""
        return await self._upstream.fetch(path, head)

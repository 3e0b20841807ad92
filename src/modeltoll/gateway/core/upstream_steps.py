"""The steps of a gate that the model server does: an answer, whole or collected from its stream, or its events as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from modeltoll.errors import AnswerError, AnswerTooLarge, CallerGone, ModeltollError, StreamBroken
from modeltoll.gateway.core.request import SHADOW
from modeltoll.gateway.protocols.event_stream import is_event_stream, without_comments
from modeltoll.gateway.threads import LARGE_BYTES, off_loop
from modeltoll.record_init import quick_init
from modeltoll.records import Answer

if TYPE_CHECKING:
    from modeltoll.gateway.core.refused_answers import RefusedAnswers
    from modeltoll.gateway.core.request import GateRequest, GateResult
    from modeltoll.gateway.core.unmeasured import Unmeasured
    from modeltoll.gateway.protocols.protocol import ParsedRequest, StreamReader
    from modeltoll.gateway.upstream.upstream import AnswerStream, Upstream

__all__ = ["NOTHING", "Answered", "LiveAnswer", "UnreadStream", "UpstreamSteps", "is_live"]

_OK = 200
NOTHING = Answer(_OK, "", b"")  # in place of an answer that went out as it came, or that cannot be read
_NOT_UNDERSTOOD = (400, 404, 422)  # statuses for members that a server does not know


@quick_init
@dataclass(frozen=True, slots=True)
class Answered:
    """What the model server has answered. The measures read ``measured``.

    ``released`` is what the caller gets of a stream; None: ``measured``, without what the caller did not ask for.
    ``fault``: why ``measured``, which is empty then, cannot be measured.
    """

    measured: Answer
    released: Answer | None = None
    fault: AnswerError | None = None


class UnreadStream:
    """The reader of a stream that nobody measures: everything is passed on as it comes."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def feed(self, chunk: bytes) -> bytes:
        """See ``StreamReader.feed``."""
        return chunk

    def finish(self) -> Answer:
        """See ``StreamReader.finish``."""
        raise AnswerError(self.reason)


class LiveAnswer:
    """An answer whose events go out as they come, with status 200.

    ``events`` is iterated over once, to its end. ``result``, of which the answer's body is not part, is there when it has
    ended, or the caller has left; None where nothing was billed.
    """

    def __init__(
        self,
        stream: AnswerStream,
        opened: AsyncExitStack,
        reader: StreamReader,
        conclude: Callable[[Callable[[], Awaitable[Answer]]], Awaitable[GateResult]],
    ) -> None:
        """``opened`` holds the context of ``stream``. ``conclude`` measures and bills the whole answer, which it calls for."""
        self.content_type, self.headers = stream.content_type, stream.headers
        self.result: GateResult | None = None
        self._stream, self._opened, self._reader, self._conclude = stream, opened, reader, conclude
        self._bytes = 0

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Whole events. A caller who leaves may be reported by ``athrow(CallerGone)``; what they have seen is measured.

        Raises:
            What ended the stream before its time, and what ``conclude`` raises.
        """
        try:
            async with self._opened:
                async for chunk in self._stream:
                    self._bytes += len(chunk)
                    if events := self._reader.feed(chunk):
                        yield events
        except CallerGone:
            with suppress(ModeltollError):
                self.result = await self._conclude(partial(self._whole, caller_has_left=True))
            raise
        self.result = await self._conclude(self._whole)

    async def close(self) -> None:
        """End the stream where ``events`` was never begun."""
        await self._opened.aclose()

    async def _whole(self, *, caller_has_left: bool = False) -> Answer:
        try:
            return await off_loop(self._bytes > LARGE_BYTES, self._reader.finish)
        except StreamBroken:
            raise
        except AnswerError:
            if caller_has_left and not isinstance(self._reader, UnreadStream):
                raise AnswerError("the caller left before the end of the stream") from None
            raise


class UpstreamSteps:
    """Asks one model's server. ``most_bytes`` bounds what is released of a stream."""

    def __init__(self, upstream: Upstream, unmeasured: Unmeasured, refused: RefusedAnswers, most_bytes: int) -> None:
        self.upstream = upstream
        self._unmeasured = unmeasured
        self._refused = refused
        self._most_bytes = most_bytes

    async def ask(self, request: GateRequest, parsed: ParsedRequest) -> Answered:
        """The server's whole answer. A stream is collected; nothing of it goes out meanwhile.

        Raises:
            As ``RefusedAnswers.check``; ``StreamBroken``: the stream ended with an error.
        """
        if parsed.stream is None:
            path, content_type, head = request.path, request.content_type, request.head
            body = parsed.forward or request.body
            answer = await self.upstream.predict(path, body, content_type, head)
            if self._must_ask_again(parsed.forward, answer.status):
                answer = await self.upstream.predict(path, request.body, content_type, head)
            return Answered(self.checked(answer, request.path))
        async with self.opened(request, parsed.forward) as (stream, _):
            if not is_live(stream):
                return Answered(self.checked(await stream.whole(), request.path))
            return await self._collect(request, stream, parsed.stream())

    @asynccontextmanager
    async def opened(
        self, request: GateRequest, forward: bytes | None
    ) -> AsyncIterator[tuple[AnswerStream, AsyncExitStack]]:
        """The server's answer to ``forward``, else to the request itself, and what holds its context open."""
        path, content_type, head = request.path, request.content_type, request.head
        async with AsyncExitStack() as contexts:
            stream = await contexts.enter_async_context(
                self.upstream.stream(path, forward or request.body, content_type, head)
            )
            if self._must_ask_again(forward, stream.status):
                await contexts.aclose()
                stream = await contexts.enter_async_context(
                    self.upstream.stream(path, request.body, content_type, head)
                )
            yield stream, contexts

    def checked(self, answer: Answer, path: str) -> Answer:
        """The answer, if it may be released or, in shadow mode, is one of success; raises as ``RefusedAnswers.check``."""
        return answer if self._unmeasured.answered_otherwise(answer) else self._refused.check(answer, path)

    def _must_ask_again(self, forward: bytes | None, status: int) -> bool:
        """Whether to send the request alone, without what the measures would have read."""
        return forward is not None and status in _NOT_UNDERSTOOD and self._unmeasured.mode == SHADOW

    async def _collect(self, request: GateRequest, stream: AnswerStream, reader: StreamReader) -> Answered:
        collected: list[bytes] = []
        size = read = 0
        async for chunk in stream:
            read += len(chunk)
            events = without_comments(reader.feed(chunk))
            if events and not size:
                request.on_first_event()
            collected.append(events)
            size += len(events)
            if size > self._most_bytes:
                raise AnswerTooLarge(f"the model server's stream is larger than {self._most_bytes} bytes")
        released = Answer(_OK, stream.content_type, b"".join(collected), stream.headers)
        try:
            return Answered(await off_loop(read > LARGE_BYTES, reader.finish), released)
        except StreamBroken:
            raise
        except AnswerError as fault:
            return Answered(NOTHING, released, fault)


def is_live(stream: AnswerStream) -> bool:
    """Whether the server answers with events that can be read."""
    is_compressed = any(name == "content-encoding" for name, _ in stream.headers)
    return stream.status == _OK and is_event_stream(stream.content_type) and not is_compressed

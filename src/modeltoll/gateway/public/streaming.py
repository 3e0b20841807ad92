"""Sends streams: events as they come, and the head of a toll before the stream that it seals has ended."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll import wire
from modeltoll.errors import CallerGone, ModeltollError, UpstreamRefused
from modeltoll.gateway.protocols.event_stream import without_comments, write_comment, write_event
from modeltoll.gateway.protocols.protocol import JSON

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from starlette.types import Message, Send

    from modeltoll.gateway.core.request import GateResult
    from modeltoll.gateway.core.upstream_steps import LiveAnswer
    from modeltoll.gateway.protocols.protocol import ServingProtocol

__all__ = ["EarlyHead", "LiveSender"]

_OK = 200
_SEND_SECONDS = 60.0  # for which a caller may take nothing of what is sent
_UNBUFFERED = {"x-accel-buffering": "no", "cache-control": "no-store"}  # proxies are to pass on what comes


class EarlyHead:
    """The head of a 402, and white space before its body, while a priced stream is collected.

    So no limit for idle connections strikes. Nothing is sent until ``period`` seconds after the first event. The head goes out
    at the next whole multiple of a quarter of ``period`` after the request, and white space every ``period`` from there: the time
    and the number of the bytes tell in which quarter the first event came, and else no more than the end of the response does.
    """

    def __init__(self, send: Send, realm: str, period: float) -> None:
        self._send = send
        self._realm = realm.replace("\\", "").replace('"', "")
        self._period = period
        self._begin = asyncio.get_running_loop().time()
        self._stopped: asyncio.Event | None = None
        self._is_over = False
        self._sending: asyncio.Task[None] | None = None
        self.is_out = False

    def first_event(self) -> None:
        """The first event has come. It changes nothing once this was stopped."""
        if self._sending is None and not self._is_over:
            self._stopped = asyncio.Event()
            self._sending = asyncio.get_running_loop().create_task(self._send_white_space())

    async def stop(self) -> bool:
        """Send nothing more; whether the head is out."""
        self._is_over = True
        if self._sending is not None and self._stopped is not None:
            self._stopped.set()
            await asyncio.wait((self._sending,))
            if not self._sending.cancelled():
                self._sending.exception()  # the connection failed, and says so again when the rest is sent
        return self.is_out

    def cancel(self) -> None:
        """Send nothing more, whatever has become of it."""
        self._is_over = True
        if self._sending is not None:
            self._sending.cancel()

    async def end(self, body: bytes) -> None:
        """Send the body behind the white space."""
        await self._send({"type": "http.response.body", "body": body})

    async def _send_white_space(self) -> None:
        quarter, waited = self._period / 4, asyncio.get_running_loop().time() - self._begin
        when = self._begin + (math.ceil(waited / quarter) + 4) * quarter
        while not await self._stopped_before(when):
            when += self._period
            if not self.is_out:
                self.is_out = True
                await self._send({"type": "http.response.start", "status": wire.STATUS, "headers": self._headers()})
            await self._send({"type": "http.response.body", "body": b" ", "more_body": True})

    async def _stopped_before(self, when: float) -> bool:
        assert self._stopped is not None  # the first event has come
        try:
            async with asyncio.timeout_at(when):
                return await self._stopped.wait()
        except TimeoutError:
            return False

    def _headers(self) -> list[tuple[bytes, bytes]]:
        challenge = f'Payment realm="{self._realm}", method="pow", intent="charge"'
        return _encoded({wire.AUTHENTICATE_HEADER: challenge, "content-type": JSON} | _UNBUFFERED)


@dataclass(frozen=True, slots=True)
class LiveSender:
    """Sends a stream that nobody pays for. ``receipt`` makes the text of a result's receipt; ``on_first_event`` is called once."""

    send: Send
    protocol: ServingProtocol
    receipt: Callable[[GateResult], str]
    on_first_event: Callable[[], None]

    async def send_all(self, live: LiveAnswer) -> None:
        """Send the events, and a receipt as a comment; an error in the middle as an event in the protocol's shape.

        Raises:
            ModeltollError: what ended the stream; the caller has been told. CallerGone: they have left.
        """
        events = live.events()
        try:
            head = dict(live.headers) | wire.content_headers(live.content_type) | _UNBUFFERED
            await self._take_in_time({"type": "http.response.start", "status": _OK, "headers": _encoded(head)})
        except BaseException:
            await live.close()
            raise
        async with aclosing(events):
            await self._send_events(events)
        assert live.result is not None  # the stream has ended
        await self._end(write_comment(f"{wire.RECEIPT_HEADER}: {self.receipt(live.result)}"))

    async def _send_events(self, events: AsyncGenerator[bytes, None]) -> None:
        first_event_came = False
        try:
            async for chunk in events:
                if not first_event_came and without_comments(chunk):
                    first_event_came = True
                    self.on_first_event()
                try:
                    await self._take_in_time({"type": "http.response.body", "body": chunk, "more_body": True})
                except CallerGone as gone:
                    await events.athrow(gone)  # which raises it again, once what they have seen is measured
        except CallerGone:
            raise
        except Exception as error:
            await self._end(write_event(self._error(error)))
            raise

    def _error(self, error: Exception) -> bytes:
        if isinstance(error, UpstreamRefused):
            return error.body
        return self.protocol.error(str(error) if isinstance(error, ModeltollError) else "the gateway failed")

    async def _end(self, last: bytes) -> None:
        await self._take_in_time({"type": "http.response.body", "body": last})

    async def _take_in_time(self, message: Message) -> None:
        """Send a message; a caller who takes none for too long has gone."""
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await self.send(message)
        except OSError as error:  # TimeoutError is one
            raise CallerGone("the caller takes nothing more") from error


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]

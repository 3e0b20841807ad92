"""Closes connections that do not send a complete request in time, or send a head without end.

Each would hold a file descriptor, or memory.

The body of a request that is handled has a least rate instead; see ``public/parsing.py``. The rest of a body that was
refused is read and discarded, so that its sender can read the refusal, but not for long.
"""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = [
    "CLOSE",
    "DISCARD_SECONDS",
    "FIRST_BYTE_SECONDS",
    "HEAD_SECONDS",
    "MAX_HEAD_BYTES",
    "HeadTimeoutProtocol",
    "raise_file_limit",
]

FIRST_BYTE_SECONDS = 30.0  # from the connection to the first byte of a request; proxies open some in advance
HEAD_SECONDS = 10.0  # from the first byte of a request to the last one of its head
MAX_HEAD_BYTES = 64 << 10  # of a request's line and headers, and of the trailers behind a body
_MAX_PIPELINED = 16  # requests that wait for an earlier one; with more, the connection is not read
DISCARD_SECONDS = 30.0  # for the rest of a request's body after its response


CLOSE = (b"connection", b"close")  # a header
_UPGRADE = re.compile(rb"(\r\n)upgrade:", re.IGNORECASE)
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HeadTimeoutProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with limits of time and size for the head of a request, and for a body that nobody reads.

    The parser keeps headers in memory until they are complete; so a head may be larger than ``MAX_HEAD_BYTES`` by one read
    of the socket, and no more.
    """

    _timer: asyncio.TimerHandle | None = None
    _before_newest: Sequence[RequestResponseCycle] = ()  # requests without a complete response, but for the newest
    _in_head = True  # whether the next bytes belong to a head, as far as is known
    _head_bytes = 0  # that came since the last head or piece of a body was complete

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived: close the connection where they belong to a head that is too large."""
        self._head_bytes += len(data)
        super().data_received(_without_upgrade(data) if self._in_head else data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            cycle: RequestResponseCycle | None = self.cycle  # None before the first request
            if cycle is None or cycle.response_complete:
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        """A piece of a body has arrived."""
        self._head_bytes = 0
        super().on_body(body)

    def connection_made(self, transport: Any) -> None:
        """A connection was opened: start the timer."""
        super().connection_made(transport)
        self._start_timer(FIRST_BYTE_SECONDS)

    def on_message_begin(self) -> None:
        """The first byte of a request has arrived: start the timer again."""
        super().on_message_begin()
        self._start_timer(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """The head is complete: stop the timer."""
        self._stop_timer()
        self._head_bytes, self._in_head = 0, False
        before: RequestResponseCycle | None = self.cycle
        super().on_headers_complete()
        if before is not None and before is not self.cycle and not before.response_complete:
            self._note_pipelined(before)

    def on_message_complete(self) -> None:
        """The body is complete: stop the timer, which runs where the response was faster."""
        super().on_message_complete()
        self._head_bytes, self._in_head = 0, True
        self._stop_timer()

    def on_response_complete(self) -> None:
        """The response is complete: start the timer if the request is not."""
        super().on_response_complete()
        cycle = self.cycle  # the newest one, which is still being handled where requests were pipelined
        if cycle.response_complete and cycle.more_body and not self.transport.is_closing():
            self._start_timer(DISCARD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection was closed: stop the timer."""
        self._stop_timer()
        for cycle in self._before_newest:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def _note_pipelined(self, before: RequestResponseCycle) -> None:
        """A request came before the response to the one before it.

        uvicorn tells the newest request alone that the connection was closed, and stops reading, so that it does not notice.
        """
        self._before_newest = [cycle for cycle in (*self._before_newest, before) if not cycle.response_complete]
        if len(self.pipeline) <= _MAX_PIPELINED:
            self.flow.resume_reading()

    def close_after_response(self) -> None:
        """Close the connection after the response to the request that is being handled, if there is one, and say so in it."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _without_upgrade(data: bytes) -> bytes:
    """The bytes of a head without an offer of another protocol, under another name.

    Java's client offers ``h2c`` with each request. A server may ignore that (RFC 9110), but the parser drops the body.
    """
    if b"upgrade:" not in data.lower():
        return data
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(rb"\1x-upgrade:", head) + end + rest


def raise_file_limit() -> None:
    """Raise this process's limit of open files to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

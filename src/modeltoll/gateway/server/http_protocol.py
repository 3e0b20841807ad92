"""Connections that say nothing, or say it a byte at a time, are hung up on: they would cost a file descriptor each."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_SECONDS", "HeadTimeoutProtocol", "raise_file_limit"]

HEAD_SECONDS = 30.0  # for the head of a request, from the connection or from its first byte; a body has its own time


class HeadTimeoutProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it, with an end to waiting for the head of a request."""

    _until: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Somebody is there, and has so long to say what he wants."""
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._waited()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """He has gone."""
        self._waited()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waited()
        self._until = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _waited(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None


def raise_file_limit() -> None:
    """Let this process have as many file descriptors as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

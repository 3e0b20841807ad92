"""Tells whether a request may be sent again: only where a reused connection was closed before any byte came back.

A server may close an idle connection at the moment at which the next request is written to it. A request that fails so
was not answered; it is sent once more, on a connection of its own.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

__all__ = ["Attempt", "NotingConnector", "attempt"]


@dataclass(slots=True)
class Attempt:
    """One attempt to get a response: whether its connection had been used before, and whether a byte came back."""

    reused: bool = False
    answered: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether the request may be sent again, after its connection was closed."""
        return self.reused and not self.answered


attempt: ContextVar[Attempt] = ContextVar("modeltoll_upstream_attempt")


class _NotingHandler(ResponseHandler):
    """A connection that notes in the attempt what happens to it."""

    _requests = 0
    _attempt: Attempt | None = None

    def set_response_params(self, *args: Any, **options: Any) -> None:
        """A request is about to be written."""
        self._attempt = attempt.get(None)
        if self._attempt is not None:
            self._attempt.reused = self._requests > 0
        self._requests += 1
        super().set_response_params(*args, **options)

    def data_received(self, data: bytes) -> None:
        """Bytes of a response came."""
        if self._attempt is not None:
            self._attempt.answered = True
        super().data_received(data)


class NotingConnector(aiohttp.TCPConnector):
    """A pool of such connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_NotingHandler, loop=self._loop)  # type: ignore[assignment]  # a subclass

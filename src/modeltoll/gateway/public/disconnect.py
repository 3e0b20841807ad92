"""Notices that a caller hangs up while its request is handled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from modeltoll.gateway.upstream.hang_up import caller_present

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["UNWATCHED_SECONDS", "watching_caller"]

UNWATCHED_SECONDS = 0.02  # from the last byte of a request; most answers come before, and need no task that watches


class watching_caller:  # noqa: N801  it is used as a function: with watching_caller(request)
    """While the block lasts, a hang-up ends the request to the model server. The request's body has been read.

    A hang-up is noticed when it happens, but not before ``UNWATCHED_SECONDS`` from the beginning of the block.
    """

    __slots__ = ("_gone", "_loop", "_present", "_request", "_task", "_timer")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._present = caller_present(self._gone)
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._timer = self._loop.call_later(UNWATCHED_SECONDS, self._watch)
        self._present.__enter__()

    def __exit__(self, *_: object) -> None:
        self._present.__exit__()
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _watch(self) -> None:
        self._task = self._loop.create_task(self._hang_up())

    async def _hang_up(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._gone.set_result(None)

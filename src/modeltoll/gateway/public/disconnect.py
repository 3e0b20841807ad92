"""Notices that a caller hangs up while its request is handled."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modeltoll.gateway.upstream.hang_up import caller_present

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

__all__ = ["UNWATCHED_SECONDS", "watching_caller"]

UNWATCHED_SECONDS = 0.02  # from the last byte of a request; most answers come before, and need no task that watches


@contextmanager
def watching_caller(request: Request) -> Iterator[None]:
    """While the block lasts, a hang-up ends the request to the model server. The request's body has been read.

    A hang-up is noticed when it happens, but not before ``UNWATCHED_SECONDS`` from the beginning of the block.
    """
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    watching: list[asyncio.Task[None]] = []
    timer = loop.call_later(UNWATCHED_SECONDS, lambda: watching.append(loop.create_task(_hang_up(request, gone))))
    try:
        with caller_present(gone):
            yield
    finally:
        timer.cancel()
        for task in watching:
            task.cancel()


async def _hang_up(request: Request, gone: asyncio.Future[None]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    gone.set_result(None)

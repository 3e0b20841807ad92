"""Notices that a caller hangs up while its request is handled."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from modeltoll.gateway.upstream.hang_up import caller_present

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

__all__ = ["watching_caller"]


@asynccontextmanager
async def watching_caller(request: Request) -> AsyncIterator[None]:
    """While the block lasts, a hang-up ends the request to the model server. The request's body has been read."""
    gone = asyncio.ensure_future(_hang_up(request))
    try:
        with caller_present(gone):
            yield
    finally:
        gone.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

"""Reads the message of a call within limits.

gRPC hands a message over when it is complete: neither its size nor its speed is known before. So few messages are read at
the same time, of which one caller has a share, and each must arrive within a fixed time.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.errors import BodyTooLarge, BodyTooSlow, RequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from modeltoll.gateway.grpc.call import GrpcCall
    from modeltoll.gateway.public.ingress import IngressPolicy
    from modeltoll.gateway.public.shared_capacity import CapacityHolding

__all__ = ["MessageReader"]


@dataclass(slots=True)
class _Turns:
    """The messages that one caller may send at the same time, and how many calls of it have or await a turn."""

    free: asyncio.Semaphore
    calls: int = 0


class MessageReader:
    """Reads messages. Those that are read at the same time have together at most the policy's ``max_bodies`` bytes.

    ``seconds``: from the beginning of a call to the end of its message.
    """

    def __init__(self, policy: IngressPolicy, seconds: float) -> None:
        whole = max(1, policy.max_bodies // policy.max_body)
        self._seconds = seconds
        self._free = asyncio.Semaphore(whole)
        self._share = max(1, int(whole * policy.caller_share))
        self._of_callers: dict[str, _Turns] = {}

    async def read(self, call: GrpcCall, caller: str, limit: int, holding: CapacityHolding) -> bytes:
        """The message of a call; its bytes are added to ``holding``.

        Raises:
            BodyTooLarge: it has more than ``limit`` bytes. BodyTooSlow: it did not arrive in time. RequestError: there is
                none. Overloaded, CallerBusy: it does not fit into what ``holding`` may take.
        """
        try:
            async with asyncio.timeout(self._seconds), self._turn(caller):
                body = await call.read()
        except TimeoutError:
            raise BodyTooSlow(f"the call's message did not arrive within {self._seconds:g} s") from None
        if body is None:
            raise RequestError("the call has no message")
        if len(body) > limit:
            raise BodyTooLarge(f"the call's message is larger than {limit} bytes")
        holding.add(len(body))
        return body

    @asynccontextmanager
    async def _turn(self, caller: str) -> AsyncIterator[None]:
        turns = self._of_callers.setdefault(caller, _Turns(asyncio.Semaphore(self._share)))
        turns.calls += 1
        try:
            async with turns.free, self._free:
                yield
        finally:
            turns.calls -= 1
            if not turns.calls:
                del self._of_callers[caller]

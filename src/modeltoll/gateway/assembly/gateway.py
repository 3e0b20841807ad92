"""A gateway as it was put together, and the ground that it stands on, which outlives a change of settings."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import ASGIApp

    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.file_watch import FileWatch
    from modeltoll.gateway.observability.metrics import GatewayMetrics
    from modeltoll.gateway.observability.request_log import RequestRecorder
    from modeltoll.gateway.settings.load import Settings
    from modeltoll.gateway.state import ServerState
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.puzzle.precomputed import PrecomputedPool
    from modeltoll.puzzle.seal import KeyRing

__all__ = ["Gateway", "SharedResources"]


@dataclass(frozen=True, slots=True)
class SharedResources:
    """What stays while settings change: what is remembered, what was counted, who is told, and how the gateway stands."""

    ledger: Ledger
    telemetry: GatewayMetrics
    witness: RequestRecorder
    standing: ServerState

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the ledger and write the audit log and the traces, while the block lasts."""
        async with AsyncExitStack() as stack:
            for told in (self.witness.tracing, self.witness.audit):
                if told is not None:
                    stack.enter_context(told.kept())
            await self.ledger.open()
            stack.push_async_callback(self.ledger.close)
            yield


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway, ready to be opened. ``notices`` are what its operator should read at start.

    ``ring`` holds the keys that seal tokens: those of the settings, or drawn for this gateway alone.
    """

    settings: Settings
    ground: SharedResources
    ring: KeyRing
    public: ASGIApp
    admin: ASGIApp
    gates: Mapping[str, Gate]
    upstream: Upstream
    notices: tuple[str, ...]
    stock: PrecomputedPool | None = None
    watches: tuple[FileWatch, ...] = ()

    @property
    def ledger(self) -> Ledger:
        """What is remembered of callers."""
        return self.ground.ledger

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the ground and staff the gateway while the block lasts."""
        async with self.ground.opened(), self.staffed():
            yield

    @asynccontextmanager
    async def staffed(self) -> AsyncIterator[None]:
        """Open the model server's client, keep the stock of puzzles full and the keys up to date."""
        async with AsyncExitStack() as stack:
            await self.upstream.open()
            stack.push_async_callback(self.upstream.close)
            if self.stock:
                stack.enter_context(self.stock.refilling())
            for watch in self.watches:
                await stack.enter_async_context(watch.kept())
            yield

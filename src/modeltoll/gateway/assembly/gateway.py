"""A built gateway, and the resources that it shares with the gateways that a reload builds."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modeltoll.gateway.core.settlement import DeferredReceipts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import ASGIApp

    from modeltoll.gateway.callers.key_set_url import KeySetUrl
    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.file_watch import Watch
    from modeltoll.gateway.grpc.application import GrpcApplication
    from modeltoll.gateway.observability.metrics import GatewayMetrics
    from modeltoll.gateway.observability.request_log import RequestRecorder
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.state import ServerState
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.puzzle.precomputed import PrecomputedPool
    from modeltoll.puzzle.seal import KeyRing

__all__ = ["Gateway", "SharedResources"]


@dataclass(frozen=True, slots=True)
class SharedResources:
    """What stays the same over reloads of the settings: the ledger, the metrics, the request recorder, the state.

    ``deferred_receipts`` came while the ledger did not answer.
    ``workers``: the processes that serve together, of which this is one.
    """

    ledger: Ledger
    metrics: GatewayMetrics
    recorder: RequestRecorder
    state: ServerState
    workers: int = 1
    deferred_receipts: DeferredReceipts = field(default_factory=DeferredReceipts)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Open the ledger, and write the audit log and the traces, while the block lasts."""
        async with AsyncExitStack() as stack:
            for sink in (self.recorder.tracer, self.recorder.audit):
                if sink is not None:
                    stack.enter_context(sink.running())
            await self.ledger.open()
            stack.push_async_callback(self.ledger.close)
            yield


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway, ready to be opened. ``warnings`` are for its operator to read at start.

    ``grpc`` handles calls over gRPC, where the settings have an address for them.
    ``key_ring`` holds the keys that encrypt tokens: those of the settings, or random ones of this process. ``key_set``: the keys of
    callers' JSON Web Tokens, where they are at a URL.
    """

    settings: Settings
    shared: SharedResources
    key_ring: KeyRing
    public: ASGIApp
    admin: ASGIApp
    gates: Mapping[str, Gate]
    upstream: Upstream
    warnings: tuple[str, ...]
    precomputed: PrecomputedPool | None = None
    watches: tuple[Watch, ...] = ()
    key_set: KeySetUrl | None = None
    grpc: GrpcApplication | None = None

    @property
    def ledger(self) -> Ledger:
        """The shared ledger."""
        return self.shared.ledger

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Open the shared resources and run the gateway while the block lasts."""
        async with self.shared.open(), self.running():
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the model server's client, precompute puzzles and read again what changes, while the block lasts."""
        async with AsyncExitStack() as stack:
            await self.upstream.open()
            stack.push_async_callback(self.upstream.close)
            if self.precomputed:
                stack.enter_context(self.precomputed.refilling())
            for watch in self.watches:
                await stack.enter_async_context(watch.running())
            yield

"""The operator's side: health and metrics, on a port of its own."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modeltoll.errors import LedgerError, ModeltollError
from modeltoll.gateway.state import ServerState
from modeltoll.records import READINESS_PROBE

if TYPE_CHECKING:
    from modeltoll.gateway.observability.metrics import GatewayMetrics
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.ledger.ledger import Ledger

__all__ = ["admin_application"]

_PATIENCE = 2.0  # seconds that a model server or a ledger may take to say that it is ready


class _Handlers:
    def __init__(
        self, upstream: Upstream, ready_path: str, ledger: Ledger, metrics: GatewayMetrics, state: ServerState
    ) -> None:
        self._upstream = upstream
        self._ready_path = ready_path
        self._ledger = ledger
        self._metrics = metrics
        self._state = state

    async def livez(self, request: Request) -> Response:
        """The process answers."""
        del request
        return JSONResponse({"live": True})

    async def readyz(self, request: Request) -> Response:
        """Model server and ledger answer; which of them does not is said, why is not. Who leaves is not ready."""
        del request
        if self._state.draining:
            return JSONResponse({"ready": False, "leaving": True}, status_code=503)
        upstream, ledger = await asyncio.gather(self._upstream_ready(), self._ledger_ready())
        ready = {"upstream": upstream, "ledger": ledger}
        return JSONResponse({"ready": all(ready.values()), **ready}, status_code=200 if all(ready.values()) else 503)

    async def _upstream_ready(self) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE):
                return (await self._upstream.fetch(self._ready_path)).status == 200
        except (ModeltollError, TimeoutError):
            return False

    async def _ledger_ready(self) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._ledger.account(READINESS_PROBE, "none", time.time())
        except (LedgerError, TimeoutError):
            return False
        return True

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        del request
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def admin_application(
    upstream: Upstream,
    ready_path: str,
    ledger: Ledger,
    metrics: GatewayMetrics,
    state: ServerState | None = None,
) -> Starlette:
    """Health and metrics; ``ready_path`` is where the model server is asked whether it is ready."""
    handlers = _Handlers(upstream, ready_path, ledger, metrics, state or ServerState())
    return Starlette(
        routes=[
            Route("/livez", handlers.livez),
            Route("/readyz", handlers.readyz),
            Route("/metrics", handlers.metrics),
        ]
    )

"""Liveness, readiness and metrics on the admin address."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modeltoll.errors import LedgerError, ModeltollError
from modeltoll.gateway.state import ServerState

if TYPE_CHECKING:
    from modeltoll.gateway.observability.metrics import GatewayMetrics
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.ledger.ledger import Ledger

__all__ = ["admin_application"]

_TIMEOUT = 2.0  # seconds that the model server and the ledger have to answer a readiness probe


class _Handlers:
    def __init__(
        self, upstream: Upstream, ready_path: str, ledger: Ledger, gateway_metrics: GatewayMetrics, state: ServerState
    ) -> None:
        self._upstream = upstream
        self._ready_path = ready_path
        self._ledger = ledger
        self._metrics = gateway_metrics
        self._state = state

    async def livez(self, request: Request) -> Response:
        """200 while the process runs."""
        del request
        return JSONResponse({"live": True})

    async def readyz(self, request: Request) -> Response:
        """200 if the model server answers, the ledger can be written and the gateway is not shutting down, else 503.

        The body names what is not ready, without the reason.
        """
        del request
        if self._state.draining:
            return JSONResponse({"ready": False, "leaving": True}, status_code=503)
        upstream, ledger = await asyncio.gather(self._upstream_ready(), self._ledger_ready())
        ready = {"upstream": upstream, "ledger": ledger}
        return JSONResponse({"ready": all(ready.values()), **ready}, status_code=200 if all(ready.values()) else 503)

    async def _upstream_ready(self) -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT):
                return (await self._upstream.fetch(self._ready_path)).status == 200
        except (ModeltollError, TimeoutError):
            return False

    async def _ledger_ready(self) -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._ledger.check_writable()
        except (LedgerError, TimeoutError):
            return False
        return True

    async def metrics(self, request: Request) -> Response:
        """The metrics in Prometheus' text format."""
        del request
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def admin_application(
    upstream: Upstream,
    ready_path: str,
    ledger: Ledger,
    gateway_metrics: GatewayMetrics,
    state: ServerState | None = None,
) -> Starlette:
    """The application for health and metrics; ``ready_path`` is the model server's readiness path."""
    handlers = _Handlers(upstream, ready_path, ledger, gateway_metrics, state or ServerState())
    return Starlette(
        routes=[
            Route("/livez", handlers.livez),
            Route("/readyz", handlers.readyz),
            Route("/metrics", handlers.metrics),
        ]
    )

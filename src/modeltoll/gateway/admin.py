"""The operator's side: health and metrics, on a port of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modeltoll.errors import LedgerError, ModeltollError
from modeltoll.records import Caller

if TYPE_CHECKING:
    from modeltoll.gateway.telemetry import Telemetry
    from modeltoll.gateway.upstream import Upstream
    from modeltoll.ledger.ledger import Ledger

__all__ = ["admin_application"]

_READY_PATH = "/v2/health/ready"
_NOBODY = Caller("readiness")


class _Handlers:
    def __init__(self, upstream: Upstream, ledger: Ledger, telemetry: Telemetry) -> None:
        self._upstream = upstream
        self._ledger = ledger
        self._telemetry = telemetry

    async def livez(self, request: Request) -> Response:
        """The process answers."""
        del request
        return JSONResponse({"live": True})

    async def readyz(self, request: Request) -> Response:
        """Model server and ledger answer; which of them does not is said, why is not."""
        del request
        ready = {"upstream": await self._upstream_ready(), "ledger": await self._ledger_ready()}
        return JSONResponse({"ready": all(ready.values()), **ready}, status_code=200 if all(ready.values()) else 503)

    async def _upstream_ready(self) -> bool:
        try:
            return (await self._upstream.fetch(_READY_PATH)).status == 200
        except ModeltollError:
            return False

    async def _ledger_ready(self) -> bool:
        try:
            await self._ledger.account(_NOBODY, "none", time.time())
        except LedgerError:
            return False
        return True

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        del request
        return Response(self._telemetry.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


def admin_application(upstream: Upstream, ledger: Ledger, telemetry: Telemetry) -> Starlette:
    """Health and metrics."""
    handlers = _Handlers(upstream, ledger, telemetry)
    return Starlette(
        routes=[
            Route("/livez", handlers.livez),
            Route("/readyz", handlers.readyz),
            Route("/metrics", handlers.metrics),
        ]
    )

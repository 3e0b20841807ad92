"""The headers that an application's own CORS middleware adds, for the gateway's responses in that application.

Where that middleware is around the gateway, it adds them itself. Where it is inside, it sees no toll and no refusal, and a
browser would hide both from the page.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware

from modeltoll.gateway.public.application_routes import applications_inside

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope, Send

__all__ = ["cors_of", "with_cors"]


def cors_of(app: ASGIApp) -> CORSMiddleware | None:
    """The CORS middleware of Starlette that is around this application or around one inside it."""
    return next((inner for inner in applications_inside(app) if isinstance(inner, CORSMiddleware)), None)


def with_cors(cors: CORSMiddleware, scope: Scope, send: Send) -> Send:
    """Sends a response with the headers that ``cors`` adds to the responses to this request."""
    return partial(cors.send, send=send, request_headers=Headers(scope=scope))

"""Authentication of the admin address: the admin token, or without one, requests to a loopback name."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from modeltoll.gateway.settings.operation import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["OPEN_PATHS", "AdminAuth"]

OPEN_PATHS = ("/livez", "/readyz", "/metrics")  # probes and scrapers have no token; these paths show no callers
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_SAME_SITE = ("same-origin", "none")


class AdminAuth:
    """ASGI middleware that admits operators only.

    With a ``token``, requests must carry it as ``Authorization: Bearer TOKEN``, or as the password of HTTP Basic with any
    user name; it is compared in constant time. Without one (None; the address is a loopback one then), the ``Host`` header
    must be a loopback name, which prevents DNS rebinding. Cross-site requests with an unsafe method are refused in any
    case. ``OPEN_PATHS`` need no authentication.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = None if token is None else _digest(token.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as an ASGI application."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            refusal = self._refusal(Headers(scope=scope), scope["method"])
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, method: str) -> JSONResponse | None:
        if self._token is not None and not hmac.compare_digest(_presented_token(headers), self._token):
            challenge = {"www-authenticate": 'Basic realm="modeltoll", charset="UTF-8"', "cache-control": "no-store"}
            return JSONResponse(
                {"error": "the admin token is needed: send it as Authorization: Bearer TOKEN"}, 401, challenge
            )
        if self._token is None and not is_loopback(_with_port(headers.get("host", ""))):
            message = "without admin_token only requests to a loopback name such as localhost are served"
            return JSONResponse({"error": message}, 403)
        if method not in _SAFE_METHODS and headers.get("sec-fetch-site", "none") not in _SAME_SITE:
            return JSONResponse({"error": "cross-site requests may not change anything"}, 403)
        return None


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _presented_token(headers: Headers) -> bytes:
    """The hash of the token in a request; of the empty string without one."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _digest(value.strip().encode())
    if scheme.lower() == "basic":
        try:
            return _digest(base64.b64decode(value.strip(), validate=True).partition(b":")[2])
        except (binascii.Error, ValueError):
            pass
    return _digest(b"")


def _with_port(host: str) -> str:
    """A ``Host`` header as ``HOST:PORT``."""
    return host if host.rpartition("]")[2].count(":") == 1 else f"{host}:80"

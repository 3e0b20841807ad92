"""Who may operate the gateway: whoever shows the token, or where none is set, whoever sits at this machine."""

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

__all__ = ["OPEN", "AdminAuth"]

OPEN = ("/livez", "/readyz", "/metrics")  # they name nobody, and those who ask for them have no token
_READING = ("GET", "HEAD", "OPTIONS")
_OWN = ("same-origin", "none")


class AdminAuth:
    """An application for operators. ``token`` is None where it is heard on this machine alone.

    The token comes as ``Authorization: Bearer TOKEN``, or from a browser as the password of HTTP Basic, whatever the user
    name. Which part of it was wrong is not said, and cannot be told from the time that the refusal takes. Without a token
    the request must be sent to a loopback name, so that no web page can reach through a browser with a name of its own
    (DNS rebinding). A page of another site changes nothing here in any case.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = None if token is None else _digest(token.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["path"] not in OPEN:
            refusal = self._refusal(Headers(scope=scope), scope["method"])
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, method: str) -> JSONResponse | None:
        if self._token is not None and not hmac.compare_digest(_presented_token(headers), self._token):
            asked = {"www-authenticate": 'Basic realm="modeltoll", charset="UTF-8"', "cache-control": "no-store"}
            return JSONResponse({"error": "the operator's token is needed"}, 401, asked)
        if self._token is None and not is_loopback(_with_port(headers.get("host", ""))):
            said = "without admin_token this is for loopback names such as localhost alone"
            return JSONResponse({"error": said}, 403)
        if method not in _READING and headers.get("sec-fetch-site", "none") not in _OWN:
            return JSONResponse({"error": "pages of other sites change nothing here"}, 403)
        return None


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _presented_token(headers: Headers) -> bytes:
    """The hash of the token that a request shows; of nothing, where it shows none."""
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

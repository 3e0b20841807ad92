"""Serves an application below a path that a proxy in front leaves in the requests that it passes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["BelowPrefix"]


class BelowPrefix:
    """The application below ``prefix``, such as ``/ml``. Paths without it are served too: some proxies remove it."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["path"].startswith(f"{self._prefix}/"):
            scope = dict(scope) | {"root_path": self._prefix}
        await self._app(scope, receive, send)

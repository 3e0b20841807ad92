"""Routes requests to their handlers, and turns errors into responses, without the layers of a framework.

Starlette's requests and responses are used, and its patterns of paths. Its application is not: it passes each request, and each
message of its response, through three further layers, which take time on every request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Router, compile_path

from modeltoll.errors import ModeltollError, RouteRefused
from modeltoll.gateway.public.parsing import route_path

if TYPE_CHECKING:
    import re

    from starlette.types import Message, Receive, Scope, Send

__all__ = ["ErrorHandler", "Handler", "PublicRequest", "PublicRouter", "Route"]

Handler: TypeAlias = Callable[[Request, "Send"], Awaitable[Response | None]]
ErrorHandler: TypeAlias = Callable[[Request, Exception], Response]

_UNKNOWN = "this route is not served here"


class _IndexedHeaders(Headers):
    """Headers that are decoded once. Starlette's go through all headers at each look-up, of which a request has some twenty."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        self._values: dict[str, list[str]] = {}
        for name, value in self._list:
            self._values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))

    def getlist(self, key: str) -> list[str]:
        return self._values.get(key.lower(), [])

    def get(self, key: str, default: Any = None) -> Any:
        # That of a mapping raises an error for each header that is missing.
        values = self._values.get(key.lower())
        return default if values is None else values[0]

    def __getitem__(self, key: str) -> str:
        return self._values[key.lower()][0]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._values


class PublicRequest(Request):
    """A request whose headers are decoded once."""

    @cached_property
    def headers(self) -> Headers:
        """The headers, as ``Request.headers``."""
        return _IndexedHeaders(self.scope)


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """Requests of one method (``HEAD`` is ``GET``) to the paths of a template, as Starlette writes it, and their handler.

    The handler may send its response itself, and returns None then.
    """

    method: str
    template: str
    handler: Handler

    @property
    def pattern(self) -> re.Pattern[str]:
        """The regular expression that matches the paths."""
        return compile_path(self.template)[0]


class PublicRouter:
    """An ASGI application that hands each request to the first of its routes that matches. Any other request is refused.

    ``on_error`` makes the response to an error. An error that is a fault of the gateway is raised again after the response, for
    the server's log.
    """

    def __init__(self, routes: Sequence[Route], on_error: ErrorHandler) -> None:
        self._routes = [(route.method, route.pattern, route.handler) for route in routes]
        self._on_error = on_error
        self._others = Router()  # for what is no HTTP: Starlette's router completes the lifespan, and closes WebSockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._others(scope, receive, send)
            return
        request, has_begun = PublicRequest(scope, receive, send), False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            response = await self._handler(request)(request, send_and_note)
        except Exception as error:
            if has_begun:
                raise
            response = self._on_error(request, error)
            if not isinstance(error, ModeltollError | ClientDisconnect):
                await response(scope, receive, send)
                raise
        if response is not None:
            await response(scope, receive, send)

    def _handler(self, request: Request) -> Handler:
        """The handler of a request, in whose scope the parameters of its path are from here on.

        Raises:
            RouteRefused: there is none.
        """
        scope = request.scope
        path, method = route_path(scope), "GET" if scope["method"] == "HEAD" else scope["method"]
        for served, pattern, handler in self._routes:
            found = pattern.fullmatch(path) if method == served else None
            if found is not None:
                scope["path_params"] = {**scope.get("path_params", {}), **found.groupdict()}
                return handler
        raise RouteRefused(_UNKNOWN)

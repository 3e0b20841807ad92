"""ASGI middleware that runs the gateway inside the application that serves the model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response

from modeltoll.errors import SettingsError
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.assembly.lifetime import LoopLifetime
from modeltoll.gateway.public.application_cors import cors_of, with_cors
from modeltoll.gateway.public.application_routes import (
    OWN_PATHS,
    ApplicationRoutes,
    mark_guarded,
    root_path_of,
)
from modeltoll.gateway.public.parsing import written_path
from modeltoll.gateway.settings.gateway import Settings
from modeltoll.gateway.settings.load import load_settings
from modeltoll.gateway.settings.upstream import TRACE_HEADERS
from modeltoll.gateway.upstream.application import ApplicationUpstream, CallerRequest, is_gateway_call

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["TollMiddleware"]

_log = logging.getLogger("modeltoll.gateway")

_METHOD_NOT_ALLOWED = 405  # the router's own answer, for which no endpoint has run
_POLICY_VIOLATION = 1008  # code with which a WebSocket is closed


class TollMiddleware:
    """A gateway as middleware, for FastAPI, Starlette, Ray Serve and other ASGI applications.

    Use: ``app.add_middleware(TollMiddleware, settings="modeltoll.yaml")``. Predictions at the paths of the settings' models
    go through the gateway; all other requests go to the application unchanged. Paths are those that the application's
    router sees, below a root path or a mount. What reaches the endpoint of a model in any other way gets 404, and
    WebSockets to it are closed. In the settings, ``upstream.url`` is ``app``; ``listen`` and ``admin`` are ignored. The
    ledger is opened with the application's lifespan, or, without a lifespan, with the first request; it is closed with the
    lifespan, or else with the event loop.

    What the application does after its response (background tasks) runs after the answer, and fails without spoiling it.
    Where a ``CORSMiddleware`` of Starlette is inside of this middleware, tolls and refusals get its headers as well.

    Other frameworks than Starlette and FastAPI do not show which endpoint a request reaches. For these say
    ``exact_paths=True`` if the application serves each model at its path and nowhere else: then every method at that
    path goes to the gateway, and other spellings of it get 404. ``other_methods`` are then those at that path that the
    application answers without the model, such as a form's ``GET``, or ``OPTIONS``.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings | Path | str,
        *,
        exact_paths: bool = False,
        other_methods: Collection[str] = (),
    ) -> None:
        """Read the settings and build the gateway.

        Raises:
            SettingsError: names every part of the settings that cannot be used.
            ValueError: ``other_methods`` holds ``POST``, which is the method of predictions.
        """
        self._other_methods = frozenset(method.upper() for method in other_methods)
        if "POST" in self._other_methods:
            raise ValueError("POST is the method of predictions, and none of the other methods")
        loaded = settings if isinstance(settings, Settings) else load_settings(Path(settings))
        self._app = app
        limits = loaded.upstream
        max_body = int(limits.max_answer_mib * (1 << 20))
        read = tuple(name for name in limits.request_headers if name not in TRACE_HEADERS)
        upstream = ApplicationUpstream(app, max_body, self._learn, limits.timeout_seconds, limits.answer_headers, read)
        self._gateway = build_gateway(loaded, upstream)
        self._routes = ApplicationRoutes(app, self._gateway.gates, exact_paths=exact_paths)
        self._tolled_methods = {"POST", "OPTIONS"} if loaded.cors.origins else {"POST"}
        self._cors = None if loaded.cors.origins else cors_of(app)
        self._lifetime = LoopLifetime(self._gateway.open)
        self._warnings = self._gateway.warnings  # for the operator to read at the start, once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI.

        Raises:
            SettingsError: the application does not serve the models where the settings say, or does not show it.
        """
        if scope["type"] == "lifespan":
            scope = dict(scope)
            await self._app(scope, receive, self._with_lifespan(scope, send))
            return
        path = self._routes.path(scope)
        if is_gateway_call(scope) and self._is_tolled(scope, path):
            raise SettingsError(
                [f"TollMiddleware is added twice to an application that serves {path}: remove one of the two"]
            )
        if mark_guarded(scope, is_guarded=self._is_tolled(scope, path)):
            return
        await self._open(scope)
        if self._is_tolled(scope, path):
            await self._toll(scope, path, receive, send)
        elif self._is_refused(scope, path):
            await _refuse(scope, receive, send)
        else:
            await self._app(scope, receive, self._unless_model(scope, path, send))

    def _is_tolled(self, scope: Scope, path: str) -> bool:
        """Whether a request goes to the gateway."""
        if scope["type"] != "http":
            return False
        if path in OWN_PATHS:
            return True
        if not self._routes.is_model_path(path):
            return False
        if self._routes.exact_paths and scope["method"] not in self._other_methods:
            return True
        return scope["method"] in self._tolled_methods

    def _is_refused(self, scope: Scope, path: str) -> bool:
        """Whether a request may reach a model past the gateway, for all that can be told before it is routed."""
        if scope["type"] == "websocket" and (path in OWN_PATHS or self._routes.is_model_path(path)):
            return True
        is_other_method = scope["type"] == "http" and scope["method"] in self._other_methods
        if is_other_method and self._routes.is_model_path(path):
            return False
        return self._routes.exact_paths and self._routes.is_other_spelling(path)

    async def _toll(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        """Handle a request in the gateway, which sees ``path`` and nothing of the routes around it.

        Raises what the application has raised in place of its response or after it. The response is out by then.
        """
        scope.setdefault("state", {})
        routed = dict(scope) | {"root_path": root_path_of(self._app, scope)}
        written = written_path(scope, path)
        own = dict(scope) | {"path": path, "raw_path": written.encode("latin-1"), "root_path": "", "path_params": {}}
        if self._cors is not None:
            send = with_cors(self._cors, scope, send)
        request = CallerRequest(routed)
        try:
            with request.current():
                await self._gateway.public(own, receive, send)
            scope.update(request.reached)
            await request.finish()
        except BaseException:
            request.cancel()
            raise

    def _unless_model(self, scope: Scope, path: str, send: Send) -> Send:
        """Sends the application's response, or 404 in place of one that the endpoint of a model has made."""
        refused = False

        async def send_or_refuse(message: Message) -> None:
            nonlocal refused
            if refused:
                return
            begins = message["type"] in ("http.response.start", "websocket.accept")
            if begins and message.get("status") != _METHOD_NOT_ALLOWED and self._routes.may_be_model(scope, path):
                refused = True
                _log.warning(
                    "a request reached a model past the gateway, and was refused: list its path in the settings"
                )
                await _refuse(scope, _no_message, send)
                return
            await send(message)

        return send_or_refuse

    def _learn(self, scope: Scope) -> None:
        self._routes.learn(scope)

    def _with_lifespan(self, scope: Scope, send: Send) -> Send:
        """Open the gateway before the application reports its start, close it before the application reports its stop."""

        async def open_or_close_and_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._open(scope)
            elif message["type"].startswith("lifespan.shutdown"):
                await self.close()
            await send(message)

        return open_or_close_and_send

    async def _open(self, scope: Scope) -> None:
        if not self._lifetime.is_open:
            await self._routes.find(root_path_of(self._app, scope))
            for warning in self._warnings:
                _log.warning("%s", warning)
            self._warnings = ()
            await self._lifetime.open()

    async def close(self) -> None:
        """Close the ledger, before the event loop does."""
        await self._lifetime.close()


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a request as one to a route that does not exist."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
    else:
        await Response("Not Found", status_code=404, media_type="text/plain")(scope, receive, send)


async def _no_message() -> Message:
    return {"type": "http.disconnect"}

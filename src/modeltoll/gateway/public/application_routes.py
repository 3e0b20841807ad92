"""Which requests to an application are for the model: asked of the application's own router, not guessed.

Starlette and FastAPI write the endpoint that a request reached into its scope. Before the first request, one request for
each model is sent to the application, whose caller hangs up before its body. It is routed as any other; no body can be
read, so that no model runs. The endpoint that it reaches is the model's.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from functools import partial
from inspect import isclass, isroutine
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from starlette._utils import get_route_path
from starlette.applications import Starlette
from starlette.routing import compile_path

from modeltoll import wire
from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from starlette.types import ASGIApp, Message, Scope

    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.core.request import ServedModel

__all__ = ["OWN_PATHS", "ApplicationRoutes", "applications_inside", "mark_guarded", "root_path_of"]

OWN_PATHS = (wire.REDEEM_PATH, wire.SETTLE_PATH)  # the gateway's, which no application has
_PROBE_SECONDS = 5.0
_PROBE = "modeltoll.probe"  # key in the scope of a request that finds an endpoint
_GUARDED = "guarded"  # its value there, where another gateway guards the path
_MOST_LAYERS = 100  # of middleware
_HOW = "write the path at which the router below TollMiddleware serves the model, or add TollMiddleware to the application that has this route"
_UNSEEN = (
    "the application does not say which of its endpoints a request reaches (it is not made with Starlette or FastAPI, or a "
    "middleware inside of TollMiddleware answers or copies the request): add TollMiddleware before that middleware; or, if the "
    "application serves the model at exactly this path and no other, add it with exact_paths=True"
)


def applications_inside(app: ASGIApp) -> Iterator[ASGIApp]:
    """An application, the one that it wraps, if it is a middleware, and so on; middleware keeps it as ``app``."""
    inner: Any = app
    for _ in range(_MOST_LAYERS):
        if not callable(inner):
            return
        yield inner
        inner = getattr(inner, "app", None)


def root_path_of(app: ASGIApp, scope: Scope) -> str:
    """The root path that the application's router will see: its own (``FastAPI(root_path=)``), else the server's."""
    own = (getattr(inner, "root_path", "") for inner in applications_inside(app) if isinstance(inner, Starlette))
    return next(filter(None, own), str(scope.get("root_path", "")))


def mark_guarded(scope: Scope, *, is_guarded: bool) -> bool:
    """Whether a request is the one that finds a model's endpoint, from another gateway; notes if this one guards the path."""
    if _PROBE in scope and is_guarded:
        scope[_PROBE] = _GUARDED
        return True
    return False


class ApplicationRoutes:
    """The paths and the endpoints of the models in an application.

    ``exact_paths``: the operator states that the application serves the models at exactly their paths; then a path that
    is another spelling of such a path is refused.
    """

    def __init__(self, app: ASGIApp, gates: Mapping[str, Gate], *, exact_paths: bool) -> None:
        self._app = app
        self.exact_paths = exact_paths
        self._models = {name: gate.config.served_model for name, gate in gates.items()}
        templates = {path for model in self._models.values() for path in _paths(model)}
        self._patterns = [compile_path(template)[0] for template in sorted(templates)]
        self._spellings = [_spelling_pattern(template) for template in sorted({*templates, *OWN_PATHS})]
        self._ends = [_spelling_pattern(_end(template)) for template in sorted(templates)]
        self._endpoints: list[Any] = []
        self._is_found = False  # whether the endpoint of each model is known

    def path(self, scope: Scope) -> str:
        """The path of a request as the application's router will match it."""
        return get_route_path({**scope, "root_path": root_path_of(self._app, scope)})

    def is_model_path(self, path: str) -> bool:
        """Whether this is the path of a model; also of one that is not listed."""
        return any(pattern.match(path) for pattern in self._patterns)

    def is_other_spelling(self, path: str) -> bool:
        """Whether some router might take this path for a model's path."""
        return any(pattern.search(_plain(path)) for pattern in self._spellings)

    def is_model_endpoint(self, scope: Scope) -> bool:
        """Whether the request of this scope has reached the endpoint of a model."""
        endpoint = scope.get("endpoint")
        return endpoint is not None and any(endpoint is known or endpoint == known for known in self._endpoints)

    def may_be_model(self, scope: Scope, path: str) -> bool:
        """Whether the request of this scope has reached the endpoint of a model, or may have, for all that can be seen.

        It may have where it went to a mounted application that does not show its own endpoint, such as one behind a
        middleware that copies the scope, and the path ends as that of a model: its beginning may be another mount's.
        """
        endpoint = scope.get("endpoint")
        seen = endpoint is None or isroutine(endpoint) or isclass(endpoint) or isinstance(endpoint, partial)
        return self.is_model_endpoint(scope) or (
            not seen and any(pattern.search(_plain(path)) for pattern in self._ends)
        )

    def learn(self, scope: Scope) -> None:
        """Note the endpoint that a prediction has reached."""
        if scope.get("endpoint") is not None and not self.is_model_endpoint(scope):
            self._endpoints.append(scope["endpoint"])

    async def find(self, root_path: str) -> None:
        """Ask the application, below this root path, which endpoints serve the models.

        Raises:
            SettingsError: names each model that the application does not serve at its path, or does not say where.
        """
        if self.exact_paths or self._is_found:
            return
        faults = [
            fault
            for name, model in self._models.items()
            for fault in await self._find(name, root_path, model.infer_path)
        ]
        if faults:
            raise SettingsError(faults)
        self._is_found = True

    async def _find(self, name: str, root_path: str, path: str) -> Iterable[str]:
        scope = _probe_scope(root_path, path)
        status = await self._probe(scope)
        if scope[_PROBE] == _GUARDED:
            return [
                f"models.{name}: another TollMiddleware inside of this one guards POST {path}: remove one of the two"
            ]
        if status == 404 and self._router_is_visible(scope):
            return [f"models.{name}: the application has no route for POST {path}; {_HOW}"]
        if scope.get("endpoint") is None:
            return [f"models.{name}: POST {path}: {_UNSEEN}"]
        self.learn(scope)
        return []

    @staticmethod
    def _router_is_visible(scope: Scope) -> bool:
        return "router" in scope or "endpoint" in scope

    async def _probe(self, scope: Scope) -> int:
        """Send a request whose caller has hung up; returns the status, or 0 where there was no response."""
        statuses: list[int] = []

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(int(message["status"]))

        with suppress(Exception):  # an application that cannot answer without a body has been routed all the same
            async with asyncio.timeout(_PROBE_SECONDS):
                await self._app(scope, receive, send)
        return statuses[0] if statuses else 0


def _paths(model: ServedModel) -> Iterator[str]:
    """The templates of a model's paths. The root is left out: in an application it may be anything."""
    name = model.service.served_as or ""
    for template in model.protocol.routes.infer:
        if template != "/":
            yield template
        if template.endswith("/{model}") and "/" in name:
            yield template.removesuffix("{model}") + name


def _probe_scope(root_path: str, path: str) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": root_path + path,
        "raw_path": (root_path + path).encode(),
        "root_path": root_path,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"content-length", b"2")],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
        "state": {},
        "extensions": {},
        _PROBE: "",
    }


def _plain(path: str) -> str:
    """A path in one spelling: decoded as often as it is encoded, small letters, single slashes, no dot segments."""
    for _ in range(4):
        path = unquote(path)
    path = path.lower().replace("\\", "/").replace("\0", "")
    segments: list[str] = []
    for segment in path.split("/"):
        bare = segment.partition(";")[0].strip()
        if bare == "..":
            segments = segments[:-1]
        elif bare not in ("", "."):
            segments.append(bare)
    return "/" + "/".join(segments)


def _spelling_pattern(template: str) -> re.Pattern[str]:
    """Matches plain paths that end with the template's, below any prefix."""
    parts = re.split(r"\{[^}]*\}", template.lower())
    return re.compile("[^/]+".join(re.escape(part) for part in parts).rstrip("/") + r"$")


def _end(template: str) -> str:
    """The last segments of a template, from the last one on that is not a parameter alone."""
    segments = template.split("/")
    for place in range(len(segments) - 1, 0, -1):
        if re.sub(r"\{[^}]*\}", "", segments[place]):
            return "/" + "/".join(segments[place:])
    return template
